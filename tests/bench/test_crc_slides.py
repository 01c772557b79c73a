import csv
import importlib.util
import sys
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import openslide
import pytest

BENCH = Path(__file__).parents[2] / "bench"
pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def cohorts(tmp_path_factory, data_dir):
    """The same cohort of four tiny slides, built twice."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCH)  # as when the script is run
        spec = importlib.util.spec_from_file_location("crc_slides", BENCH / "crc_slides.py")
        assert spec is not None
        assert spec.loader is not None
        script = importlib.util.module_from_spec(spec)
        patch.setitem(sys.modules, "crc_slides", script)
        spec.loader.exec_module(script)
        folders = [tmp_path_factory.mktemp("crc") for _ in range(2)]
        for folder in folders:
            script.build_cohort(
                data_dir / "tiles" / "crc.zip",
                data_dir / "annotations" / "camelyon16_polygons.zip",
                folder,
                n_slides=4,
                seed=0,
                side_px=1600,
            )
    return folders


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def mask(folder, kind, slide):
    return cv2.imread(str(folder / kind / f"{slide}.png"), cv2.IMREAD_UNCHANGED)


def test_no_source_tile_is_in_two_slides_and_none_is_left(cohorts):
    rows = table(cohorts[0] / "sources.csv")
    uses = Counter(row["source"] for row in rows)
    assert set(uses.values()) == {1}
    assert len(uses) == 2600


def test_only_tumour_slides_hold_carcinoma_and_all_hold_adenoma(cohorts):
    labels = {row["slide"]: row["label"] for row in table(cohorts[0] / "slides.csv")}
    assert Counter(labels.values()) == {"normal": 2, "tumour": 2}
    kinds = {slide: set() for slide in labels}
    for row in table(cohorts[0] / "sources.csv"):
        kinds[row["slide"]].add(row["source"].split("/")[-2])
    for slide, found in kinds.items():
        assert {"H", "S", "T", "V"} <= found
        assert ("AC" in found) == (labels[slide] == "tumour")


def test_truth_is_a_part_of_the_tissue_as_large_as_stated(cohorts):
    for row in table(cohorts[0] / "slides.csv"):
        truth, tissue = (mask(cohorts[0], kind, row["slide"]) for kind in ("truth", "tissue"))
        share = (truth > 0).sum() / (tissue > 0).sum()
        assert not (truth[tissue == 0] > 0).any()
        assert 0.34 < (tissue > 0).mean() < 0.46
        assert share == pytest.approx(float(row["tumour_share"]), abs=1e-4)
        if row["label"] == "tumour":
            assert 0.0095 < share < 0.31
        else:
            assert share == 0


def test_truth_lies_on_the_slide_pixel_for_pixel(cohorts):
    for row in table(cohorts[0] / "slides.csv"):
        tissue = mask(cohorts[0], "tissue", row["slide"])
        with openslide.OpenSlide(cohorts[0] / "slides" / f"{row['slide']}.svs") as slide:
            assert slide.dimensions == (tissue.shape[1] * 16, tissue.shape[0] * 16)
            assert float(slide.properties["openslide.mpp-x"]) == 0.5
            pixels = np.asarray(slide.read_region((0, 0), 0, slide.dimensions).convert("RGB"))
        small = cv2.resize(pixels, tissue.shape[::-1], interpolation=cv2.INTER_AREA)
        away = cv2.dilate(tissue, np.ones((5, 5))) == 0
        assert small[away].min() > 230
        assert np.median(small[tissue > 0][:, 1]) < 200


def test_the_same_seed_builds_the_same_files(cohorts):
    files = sorted(path.relative_to(cohorts[0]) for path in cohorts[0].rglob("*.*"))
    assert len(files) == 3 * 4 + 2
    for file in files:
        assert (cohorts[0] / file).read_bytes() == (cohorts[1] / file).read_bytes()
