from dataclasses import replace

import h5py
import numpy as np
import pytest

from tiling import (
    FormatError,
    GridConfig,
    GridSummary,
    TissueConfig,
    load_summary,
    load_thumbnail,
    open_slide,
    save_grid,
    segment_tissue,
    tile_slide,
)


@pytest.fixture(scope="module")
def tiled(phantom):
    with open_slide(phantom.path, id="ward/phantom") as slide:
        mask = segment_tissue(slide, TissueConfig(tissue_mpp=6))
        grid = tile_slide(slide, mask, GridConfig(tile_px=96, tile_mpp=0.7), TissueConfig(tissue_mpp=6))
        return grid, mask, slide.reader


def test_the_facts_come_back_as_they_were_told(tiled, tmp_path):
    grid, mask, reader = tiled
    save_grid(grid, tmp_path / "a.h5", thumbnail=mask.thumbnail, quality=mask.quality, reader=reader)
    assert load_summary(tmp_path / "a.h5") == GridSummary(
        slide_id="ward/phantom",
        n_tiles=len(grid),
        tile_px=96,
        tile_mpp=0.7,
        mpp=0.5,
        mpp_source=grid.mpp_source,
        size_level0_px=(1600, 1203),
        tissue_mpp=6,
        reader="tiled-tiff",
        quality=mask.quality,
        fingerprint=grid.fingerprint,
    )


def test_the_thumbnail_comes_back_in_its_colours(tiled, tmp_path):
    grid, mask, _ = tiled
    save_grid(grid, tmp_path / "a.h5", thumbnail=mask.thumbnail)
    found = load_thumbnail(tmp_path / "a.h5")
    assert found.shape == mask.thumbnail.shape
    assert np.abs(found.astype(int) - mask.thumbnail).mean() < 5


def test_what_a_file_does_not_hold_is_none(tiled, tmp_path):
    """Grids of other tools, and those of earlier versions."""
    grid = tiled[0]
    save_grid(grid, tmp_path / "a.h5", quality=tiled[1].quality)
    with h5py.File(tmp_path / "a.h5", "a") as file:
        del file.attrs["focus"], file.attrs["reader"]
    found = load_summary(tmp_path / "a.h5")
    assert (found.quality, found.reader, found.n_tiles) == (None, "", len(grid))
    assert load_thumbnail(tmp_path / "a.h5") is None


def test_damaged_files_are_refused(tiled, tmp_path):
    save_grid(replace(tiled[0], slide_id="a"), tmp_path / "a.h5")
    whole = (tmp_path / "a.h5").read_bytes()
    (tmp_path / "a.h5").write_bytes(whole[: len(whole) // 2])
    for load in (load_summary, load_thumbnail):
        with pytest.raises(FormatError, match=r"a\.h5"):
            load(tmp_path / "a.h5")
        with pytest.raises(FormatError, match="no such file"):
            load(tmp_path / "b.h5")
