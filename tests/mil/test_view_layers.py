"""Slide, heatmap and reading in the browser: each lies where the slide is, to the pixel."""

from dataclasses import dataclass, replace

import cv2
import numpy as np
import pytest
from viewed_run import SIZE_PX

from mil import load_scores
from mil.view.slide_data import SlideData
from tiling import exact_corners, load_grid, open_slide, side_level0_px
from tiling.overlay import tint


@pytest.mark.parametrize("zoom", [0.43, 1, 3.7])
def test_the_heatmap_lies_on_the_slide_in_the_colours_of_the_overlay(browser, viewed_run, zoom):
    seen = _look(browser, viewed_run, "known", (1180, 830), zoom)
    expected = tint(seen.bare, seen.values, 0.65)
    assert np.abs(seen.painted.astype(int) - expected)[~seen.is_edge].max() <= 3
    assert 0.02 < (seen.values[~seen.is_edge] > 0.5).mean() < 0.98
    with open_slide(viewed_run.cohort().slides[0].path) as slide:
        _compare_to_the_slide(seen, slide.read(0, 0, 0, SIZE_PX))
    tumour = cv2.imread(str(viewed_run.root.parent / "tumour.png"), cv2.IMREAD_GRAYSCALE) > 0
    inside = _at(tumour, seen) & ~seen.is_edge & ~np.isnan(seen.values)
    assert seen.values[inside].mean() > 0.6
    assert (browser.console(), browser.outside()) == ([], [])


def test_tiles_that_another_tool_has_placed_lie_where_it_says(browser, viewed_run):
    seen = _look(browser, viewed_run, "wrong", (400, 300), 1.3)
    expected = tint(seen.bare, seen.values, 0.65)
    assert np.abs(seen.painted.astype(int) - expected)[~seen.is_edge].max() <= 3


def test_where_tiles_overlap_the_reading_is_of_those_under_the_pointer(browser, viewed_run, monkeypatch):
    from selenium.webdriver.common.action_chains import ActionChains

    told = SlideData.load(viewed_run, "wrong")
    assert told.scores is not None
    grid = replace(
        told.grid, coords=np.array([[300, 300], [330, 300]]), tissue_fraction=told.grid.tissue_fraction[:2]
    )
    probability = np.array([[0.8, 0.2], [0.4, 0.6]], np.float32)
    two = SlideData(grid, replace(told.scores, probability=probability))
    monkeypatch.setattr(SlideData, "load", lambda *_: two)
    browser.open_slide("wrong", "#x=350&y=330&zoom=1")
    stage = browser.find("#stage")
    for away, reading in ((0, "p(tumour) 0.400 mean of 2 tiles"), (40, "p(tumour) 0.600 tile 2")):
        ActionChains(browser.driver).move_to_element_with_offset(stage, away, 0).perform()
        assert reading in " ".join(browser.find("#reading").text.split())
    browser.press("c")
    browser.wait("document.getElementById('class').value === '0'")


@dataclass(frozen=True)
class Seen:
    """The screen with and without heatmap, the level-0 places of its pixels, and p(tumour) there."""

    painted: np.ndarray
    bare: np.ndarray
    columns: np.ndarray
    rows: np.ndarray
    values: np.ndarray
    is_edge: np.ndarray


def _look(browser, run, slide_id, middle, zoom) -> Seen:
    browser.open_slide(slide_id, f"#x={middle[0]}&y={middle[1]}&zoom={zoom}")
    browser.press("o", "t")  # without lines
    painted = browser.stage()
    browser.press("h")
    bare = browser.stage()
    places = [
        (np.arange(n) + 0.5 - np.floor(n / 2 - at * zoom + 0.5)) / zoom
        for n, at in zip(bare.shape[1::-1], middle, strict=True)
    ]
    grid = load_grid(run.grid_path(slide_id))
    p_tumour = load_scores(run.scores_path(slide_id), grid=grid).probability[:, 1]
    return Seen(painted, bare, *places, *_under(grid, p_tumour, *places, 1.5 / zoom))


def _under(grid, p_tumour, columns, rows, near) -> tuple[np.ndarray, np.ndarray]:
    """p(tumour) under each pixel of the screen, and what is near an edge or on a tile that is crossed out."""
    values = np.full((len(rows), len(columns)), np.nan, np.float32)
    is_edge = np.zeros(values.shape, bool)
    side = side_level0_px(grid)
    for corner, p in zip(exact_corners(grid), p_tumour, strict=True):
        apart = [places - start for places, start in zip((rows, columns), corner[::-1], strict=True)]
        inner, outer = (np.ix_(*((a >= by) & (a < side - by) for a in apart)) for by in (near, -near))
        is_edge[outer] = True
        is_edge[inner] = np.isnan(p)
        values[np.ix_(*((a >= 0) & (a < side) for a in apart))] = p
    return values, is_edge


def _at(picture, seen, dx=0.0, dy=0.0) -> np.ndarray:
    places = zip((seen.rows + dy, seen.columns + dx), picture.shape[:2], strict=True)
    return picture[np.ix_(*(np.clip(p.astype(int), 0, n - 1) for p, n in places))]


def _compare_to_the_slide(seen, pixels) -> None:
    """The screen shows the slide's pixels in their place: moved by two pixels of the screen it fits worse."""
    smooth = cv2.GaussianBlur(pixels, (0, 0), 1.5)
    step = seen.columns[1] - seen.columns[0]
    places = zip((seen.rows, seen.columns), pixels.shape[:2], strict=True)
    inside = np.ix_(*((p > 30) & (p < n - 30) for p, n in places))

    def misfit(dx, dy):
        return np.abs(
            _at(smooth, seen, dx * step, dy * step)[inside].astype(float) - seen.bare[inside]
        ).mean()

    assert misfit(0, 0) < min(misfit(dx, dy) for dx, dy in ((-2, 0), (2, 0), (0, -2), (0, 2)))
