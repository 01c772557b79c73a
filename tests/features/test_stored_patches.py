import h5py
import numpy as np
import pytest

from features import BagConfig, EncoderConfig, extract_features, load_encoder, load_patches
from tiling import FormatError, GridConfig, TissueMask, open_slide, read_patches, tile_slide


def extracted(phantom, path, *, save_patches=True, **config):
    with open_slide(phantom.path) as slide:
        mask = TissueMask(np.ones((8, 8), bool), np.zeros((8, 8, 3), np.uint8), slide.size_px)
        grid = tile_slide(slide, mask, GridConfig(**{"min_tissue": 0, **config}))
        encoder = EncoderConfig(encoder="stain-stats")
        config = BagConfig(save_patches=save_patches)
        extract_features(slide, grid, load_encoder(encoder), path, config=config)
        return grid, np.concatenate([p.pixels for p in read_patches(slide, grid)])


def test_tiles_of_the_slide_itself_are_taken_over_without_recoding(phantom, tmp_path):
    grid, right = extracted(phantom, tmp_path / "a.h5", tile_px=256)
    np.testing.assert_array_equal(load_patches(tmp_path / "a.h5", range(len(grid))), right)
    whole = phantom.path.read_bytes()
    with h5py.File(tmp_path / "a.h5") as file:
        stream = file["patches"][0].tobytes()
    assert stream[-500:] in whole


@pytest.mark.parametrize("config", [{"tile_px": 224}, {"tile_px": 200, "tile_mpp": 1.0}])
def test_other_patches_are_kept_nearly_as_they_are(phantom, tmp_path, config):
    grid, right = extracted(phantom, tmp_path / "a.h5", **config)
    kept = load_patches(tmp_path / "a.h5", [2, 0, len(grid) - 1])
    assert np.abs(kept.astype(int) - right[[2, 0, -1]]).mean() < 4


def test_bags_without_patches_say_so(phantom, tmp_path):
    extracted(phantom, tmp_path / "a.h5", save_patches=False)
    with pytest.raises(FormatError, match="--save-patches"):
        load_patches(tmp_path / "a.h5", [0])
