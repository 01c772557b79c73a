import csv
from collections import Counter, defaultdict

import cv2
import numpy as np
import openslide
import pytest

from tiling import ConfigError, PhantomConfig, render_phantom, write_phantom_cohort


def draw(**changes):
    return render_phantom(PhantomConfig(size_px=(1200, 1000), **changes))


def table(folder):
    with (folder / "slides.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_same_config_draws_the_same_slide():
    one, two, other = draw(tumour_share=0.2), draw(tumour_share=0.2), draw(tumour_share=0.2, seed=1)
    np.testing.assert_array_equal(one.pixels, two.pixels)
    np.testing.assert_array_equal(one.tumour, two.tumour)
    assert (one.pixels != other.pixels).any()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("share", [0.03, 0.3])
def test_shares_are_as_asked_and_tumour_is_tissue(seed, share):
    phantom = draw(tumour_share=share, tissue_share=0.35, seed=seed)
    assert phantom.tissue.mean() == pytest.approx(0.35, abs=0.02)
    assert phantom.tumour.sum() / phantom.tissue.sum() == pytest.approx(share, rel=0.1)
    assert not (phantom.tumour & ~phantom.tissue).any()


def test_a_normal_slide_has_no_tumour():
    assert not draw(tumour_share=0).tumour.any()


@pytest.mark.parametrize("size_px", [(1001, 777), (128, 400)])
@pytest.mark.parametrize("mpp", [0.25, 2.0])
def test_any_size_and_resolution_can_be_drawn(size_px, mpp):
    phantom = render_phantom(PhantomConfig(size_px=size_px, mpp=mpp, tumour_share=0.2))
    assert phantom.pixels.shape == (size_px[1], size_px[0], 3)
    assert phantom.pixels.dtype == np.uint8
    assert phantom.tissue.shape == phantom.tumour.shape == (size_px[1], size_px[0])


def test_glass_is_white_and_tissue_is_stained():
    phantom = draw(has_pen=False)
    away = ~cv2.dilate(phantom.tissue.astype(np.uint8), np.ones((9, 9))).astype(bool)
    assert phantom.pixels[away].min() > 220
    assert phantom.pixels[phantom.tissue].mean() < 200


def test_pen_is_not_on_tissue():
    plain, marked = draw(has_pen=False), draw(has_pen=True)
    changed = np.abs(plain.pixels.astype(int) - marked.pixels).max(axis=2) > 12
    inside = cv2.erode(plain.tissue.astype(np.uint8), np.ones((5, 5))).astype(bool)
    assert changed.any()
    assert not (changed & inside).any()


def test_tumour_has_more_haematoxylin_than_the_rest_of_its_slide():
    phantom = draw(tumour_share=0.3)
    rest = phantom.tissue & ~phantom.tumour
    assert phantom.pixels[phantom.tumour, 0].mean() < phantom.pixels[rest, 0].mean() - 20


def test_slide_colour_overlaps_between_the_classes():
    def redness(share):
        slides = [draw(tumour_share=share, seed=seed) for seed in range(8)]
        return [slide.pixels[slide.tissue, 0].mean() for slide in slides]

    normal, tumour = redness(0), redness(0.1)
    assert min(normal) < max(tumour)
    assert sum(n < max(tumour) for n in normal) >= 4


@pytest.mark.parametrize(
    "wrong",
    [
        {"tumour_share": 1.5},
        {"tissue_share": 0.9},
        {"mpp": 0},
        {"size_px": (10, 900)},
        {"stain_variation": -1},
    ],
)
def test_what_cannot_be_drawn_is_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        PhantomConfig(**wrong)


def test_the_cohort_is_half_tumour_and_a_patient_has_one_label(phantom_cohort):
    rows = table(phantom_cohort)
    assert Counter(row["label"] for row in rows) == {"normal": 4, "tumour": 4}
    labels = defaultdict(set)
    for row in rows:
        labels[row["patient"]].add(row["label"])
    assert all(len(found) == 1 for found in labels.values())


def test_truth_covers_the_whole_slide_and_agrees_with_the_label(phantom_cohort):
    for row in table(phantom_cohort):
        truth = cv2.imread(str(phantom_cohort / "truth" / f"{row['slide']}.png"), cv2.IMREAD_UNCHANGED)
        with openslide.OpenSlide(phantom_cohort / "slides" / f"{row['slide']}.svs") as slide:
            assert slide.dimensions == (truth.shape[1] * 8, truth.shape[0] * 8)
            assert float(slide.properties["openslide.mpp-x"]) == 0.5
        assert set(np.unique(truth)) == ({0, 255} if row["label"] == "tumour" else {0})


def test_a_cohort_is_the_same_for_the_same_seed_and_reports_progress(tmp_path):
    told = []
    for name in ("a", "b"):
        write_phantom_cohort(
            tmp_path / name, 3, seed=5, size_px=(300, 200), report=lambda *step: told.append(step)
        )
    assert told == [(1, 3), (2, 3), (3, 3)] * 2
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*.*"))
    assert len(files) == 7
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_one_slide_is_no_cohort(tmp_path):
    with pytest.raises(ConfigError, match="n_slides"):
        write_phantom_cohort(tmp_path, 1)
