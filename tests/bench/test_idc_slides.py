"""Slides laid of loose patches: each tile is a patch, and no patient is in two of them by mistake."""

import csv
import importlib.util
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mil import Cohort, Run, tile
from tiling import GridConfig, TissueConfig, exact_corners, load_grid, open_slide

SCRIPT = Path(__file__).parents[2] / "bench" / "idc_slides.py"
TILE = GridConfig(tile_px=224, tile_mpp=4 * 50 / 224, allow_upsampling=True)  # 50 px of the slide


@pytest.fixture
def script():
    spec = importlib.util.spec_from_file_location("idc_slides", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_archive(path: Path) -> None:
    """Patches of two patients with carcinoma (pink), of one without, and of one to leave out."""
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w") as file:
        for patient, n_tumour in (("1", 4), ("2", 3), ("3", 0), ("14082", 2)):
            for k in range(10):
                is_tumour = k < n_tumour
                colour = (200, 90, 150) if is_tumour else (150, 90, 200)
                pixels = np.clip(rng.normal(colour, 12, (50, 50, 3)), 0, 255).astype(np.uint8)
                buffer = io.BytesIO()
                Image.fromarray(pixels).save(buffer, "PNG")
                name = f"idc/{patient}/{patient}_idx5_x{50 * k + 1}_y1_class{int(is_tumour)}.png"
                file.writestr(name, buffer.getvalue())


def test_each_tile_is_a_patch(script, tmp_path):
    write_archive(tmp_path / "idc.zip")
    told = script.build_cohort(tmp_path / "idc.zip", tmp_path, without=frozenset({"14082"}), seed=0)
    assert told == {"slides": 5, "patches": 30, "carcinoma": 2}
    with (tmp_path / "slides.csv").open() as file:
        labels = {row["slide"]: row["label"] for row in csv.DictReader(file)}
    assert labels == {f"{p}-benign": "benign" for p in "123"} | {f"{p}-carcinoma": "carcinoma" for p in "12"}
    run, cohort = (
        Run.create(tmp_path / "run"),
        Cohort.from_folder(tmp_path / "slides", tmp_path / "slides.csv"),
    )
    tile(cohort, run, TILE, TissueConfig())
    n_red = 0
    for slide in cohort.slides:
        grid = load_grid(run.grid_path(slide.slide_id))
        assert (exact_corners(grid) % 50 == 0).all()
        with open_slide(slide.path) as opened:
            means = [opened.read(x, y, 0, (50, 50)).mean(axis=(0, 1)) for x, y in grid.coords.tolist()]
        is_red = [mean[0] > mean[2] for mean in means]
        n_red += sum(is_red)
        assert any(is_red) == (slide.label == "carcinoma")
        n_patches = {"1-benign": 3, "1-carcinoma": 7, "2-benign": 4, "2-carcinoma": 6, "3-benign": 10}
        assert len(grid) == n_patches[slide.slide_id]
    assert n_red == 7
