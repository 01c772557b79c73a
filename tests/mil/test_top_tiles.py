"""Top tiles: the right ones at each end, no tile at both, pictures that are the slide's."""

import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mil.scores import Scores
from mil.top_tiles import SHOWN, top_tiles, write_top_tiles
from tiling import (
    GridConfig,
    TissueConfig,
    contact_sheet,
    open_slide,
    picture_fingerprint,
    segment_tissue,
    tile_slide,
)


def scored(grid, probability, classes=("normal", "tumour")):
    probability = np.asarray(probability, np.float32)
    return Scores(grid.slide_id, classes, probability, np.zeros(len(probability), np.int16), "mix", "f")


@pytest.fixture(scope="module")
def grid(phantom):
    with open_slide(phantom.path) as slide:
        return tile_slide(slide, segment_tissue(slide, TissueConfig()), GridConfig(tile_px=112))


def two(suspicion):
    return np.stack([1 - suspicion, suspicion], axis=1)


def test_the_highest_and_the_lowest_are_found_and_unread_tiles_are_not(grid):
    suspicion = np.random.default_rng(0).permutation(len(grid)) / len(grid)
    suspicion[suspicion == suspicion.max()] = np.nan
    table = top_tiles(scored(grid, two(suspicion)), grid)
    rank = np.argsort(suspicion)[: len(grid) - 1]  # NaN sorts last
    assert table["row"][table["end"] == "most"].tolist() == rank[::-1][:SHOWN].tolist()
    assert table["row"][table["end"] == "least"].tolist() == rank[:SHOWN].tolist()
    assert np.array_equal(table[["x", "y"]], grid.coords[table["row"]])


@pytest.mark.parametrize("n_read", [0, 1, 2, 7, 2 * SHOWN])
def test_no_tile_is_at_both_ends_however_few_there_are(grid, n_read):
    suspicion = np.full(len(grid), np.nan)
    suspicion[:n_read] = np.linspace(0, 1, n_read)
    table = top_tiles(scored(grid, two(suspicion)), grid)
    assert sorted(table["row"]) == list(range(n_read))


def test_a_sheet_a_class_and_one_table(grid, phantom, tmp_path):
    probability = np.random.default_rng(0).dirichlet(np.ones(3), len(grid))
    scores = scored(grid, probability, ("normal", "tumour", "other"))
    sheets = [("tumour", tmp_path / "1.png"), ("other", tmp_path / "2.png")]
    with open_slide(phantom.path) as slide:
        write_top_tiles(tmp_path / "top.csv", sheets, slide, grid, scores, 0.5, fingerprint="one")
    table = pd.read_csv(tmp_path / "top.csv")
    assert table.groupby("class").size().to_dict() == {"tumour": 2 * SHOWN, "other": 2 * SHOWN}
    for _, path in sheets:
        assert picture_fingerprint(path) == "one"
        with Image.open(path) as sheet:
            assert sheet.width > 1000


@pytest.mark.parametrize(
    ("classes", "which"),
    [(("normal", "tumour"), ""), (("normal", "tumour", "other"), "all positive classes together ")],
)
def test_a_sheet_says_what_its_dark_frames_are(grid, phantom, tmp_path, monkeypatch, classes, which):
    titles, module = [], sys.modules[write_top_tiles.__module__]

    def noted(cards, n_cards, title, **told):
        titles.append(title)
        return contact_sheet(cards, n_cards, title, **told)

    monkeypatch.setattr(module, "contact_sheet", noted)
    scores = scored(grid, np.full((len(grid), len(classes)), 1 / len(classes)), classes)
    with open_slide(phantom.path, id="a") as slide:
        sheets = [("tumour", tmp_path / "1.png")]
        write_top_tiles(tmp_path / "top.csv", sheets, slide, grid, scores, 0.5, fingerprint="one")
    assert titles == [f"a: most and least p(tumour); dark frame: {which}at or above the threshold 0.5"]
