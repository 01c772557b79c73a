"""The bench of tokens: whose area is whose, and figures that are known."""

import importlib
from pathlib import Path

import numpy as np
import pytest

from tiling import GridConfig, TileGrid, covered_share, paint

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture
def bench(monkeypatch):
    """Import a module of the bench by name, as when a script of it is run."""
    monkeypatch.syspath_prepend(BENCH)
    return importlib.import_module


def two_tiles() -> TileGrid:
    """Two tiles of 100 level-0 px beside each other, on a slide of 0.4 µm/px."""
    return TileGrid(
        slide_id="a", slide_path="a.tif", slide_fingerprint="", coords=np.array([[100, 200], [200, 200]]),
        tissue_fraction=np.ones(2, np.float32), mpp=0.4, mpp_source="", size_level0_px=(400, 400),
        config=GridConfig(tile_px=80, tile_mpp=0.5), level=0, read_px=100, tile_px_level0=100,
        tissue_polygons={},
    )  # fmt: skip


def test_tokens_lie_side_by_side_in_their_tile(bench):
    places = bench("token_slides").cut(two_tiles(), 4)
    mask = np.zeros((400, 400), bool)
    mask[200:250, 100:200] = True  # the upper half of the first tile

    share = covered_share(places, mask).reshape(2, 4, 4)

    np.testing.assert_allclose(share[0], np.repeat([1.0, 0.0], 2)[:, None].repeat(4, axis=1), atol=1e-9)
    assert not share[1].any()
    painted = paint(places, np.arange(32.0), px_level0=25)
    assert painted.values[8, 4] == 0  # the first token: at (100, 200)
    assert painted.values[9, 11] == 16 + 7  # of the second tile, row 1, column 3
    assert (~np.isnan(painted.values)).sum() == 32


def test_figures_of_scores_that_are_known(bench):
    tokens = bench("tokens")
    slide = object.__new__(bench("token_slides").Slide)
    slide.truth = np.array([[[1, 0], [0, 0]], [[0, 0], [0, 0]]], bool)
    slide.is_border = np.array([True, False])

    right = tokens.figures([slide], [slide.truth.astype(float)])
    by_tile = tokens.figures([slide], [np.array([1.0, 0.0])[:, None, None] * np.ones((2, 2, 2))])

    assert right == [1, 1, 1, 1]
    assert by_tile == pytest.approx([(4 + 3 / 2) / 7, 1 / 4, 0.5, 0.5])
