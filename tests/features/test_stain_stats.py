import numpy as np
import pytest
from skimage.color import hed2rgb

from features import EncoderConfig, load_encoder
from features.stain_stats import stain_statistics
from tiling import ConfigError, GridConfig, open_slide, read_patches, segment_tissue, tile_slide

# where things are in the vector: three stains' eight statistics, two granularities, texture, colour
MEAN = {"haematoxylin": 0, "eosin": 8, "residual": 16}
GRANULARITY = {"haematoxylin": slice(24, 29), "eosin": slice(29, 34)}
COLOUR_MEAN, COLOUR_SPREAD = slice(66, 69), slice(69, 72)


def dyed(haematoxylin, eosin):
    """A patch (224, 224, 3) that holds these amounts of dye."""
    amounts = np.zeros((224, 224, 3))
    amounts[..., 0], amounts[..., 1] = haematoxylin, eosin
    return np.rint(hed2rgb(amounts) * 255).astype(np.uint8)


def dots(radius, seed=0):
    """Nuclei of one size on a lattice, a third of the area at every size."""
    y, x = np.mgrid[0:224, 0:224]
    pitch = 3.1 * radius
    distance = np.hypot((x % pitch) - pitch / 2, (y % pitch) - pitch / 2)
    return dyed(np.where(distance < radius, 0.15, 0.02), 0.05)


def test_a_dyes_amount_is_told_by_its_own_mean():
    low, more_blue, more_pink = (
        stain_statistics(dyed(*a)) for a in [(0.05, 0.05), (0.15, 0.05), (0.05, 0.15)]
    )
    # 0.25 of a dye is 1 in the vector
    for found, haematoxylin, eosin in [(low, 0.2, 0.2), (more_blue, 0.6, 0.2), (more_pink, 0.2, 0.6)]:
        assert found[MEAN["haematoxylin"]] == pytest.approx(haematoxylin, abs=0.04)
        assert found[MEAN["eosin"]] == pytest.approx(eosin, abs=0.04)
        assert found[MEAN["residual"]] == pytest.approx(0, abs=0.04)


def test_colour_is_told_as_it_is():
    patch = np.zeros((224, 224, 3), np.uint8)
    patch[:, :112] = (255, 51, 0)
    found = stain_statistics(patch)
    np.testing.assert_allclose(found[COLOUR_MEAN], (0.5, 0.1, 0), atol=1e-6)
    np.testing.assert_allclose(found[COLOUR_SPREAD], (0.5, 0.1, 0), atol=1e-6)


def test_white_glass_has_no_stain_and_no_structure():
    found = stain_statistics(np.full((224, 224, 3), 255, np.uint8))
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[:34], 0, atol=1e-5)
    np.testing.assert_allclose(found[COLOUR_MEAN], 1)


def test_larger_nuclei_move_the_energy_to_larger_structures():
    scales = np.arange(5)
    centres = []
    for radius in (2, 4, 8, 16):
        energy = stain_statistics(dots(radius))[GRANULARITY["haematoxylin"]]
        centres.append((scales * energy).sum() / energy.sum())
    assert np.diff(centres).min() > 0.2
    assert (
        stain_statistics(dots(4))[GRANULARITY["eosin"]].max() < 0.1 * stain_statistics(dots(4))[24:29].max()
    )


@pytest.mark.parametrize(
    "turn", [lambda p: np.rot90(p), lambda p: p[::-1], lambda p: p[:, ::-1], lambda p: p.swapaxes(0, 1)]
)
def test_a_turned_patch_is_the_same_tissue(phantom, turn):
    y, x = np.argwhere(phantom.tissue).mean(axis=0).astype(int)
    with open_slide(phantom.path) as slide:
        patch = slide.read(x - 112, y - 112, 0, (224, 224))
    one, two = stain_statistics(patch), stain_statistics(np.ascontiguousarray(turn(patch)))
    np.testing.assert_allclose(one, two, rtol=0.02, atol=2e-3)


def test_tumour_differs_from_the_rest(phantom):
    with open_slide(phantom.path) as slide:
        grid = tile_slide(slide, segment_tissue(slide), GridConfig(tile_px=112, min_tissue=0.8))
        found = np.stack([stain_statistics(p) for part in read_patches(slide, grid) for p in part.pixels])
    share = np.array([phantom.tumour[y : y + 112, x : x + 112].mean() for x, y in grid.coords.tolist()])
    tumour, rest = found[share > 0.9], found[share == 0]
    assert min(len(tumour), len(rest)) >= 4
    gap = np.abs(tumour.mean(axis=0) - rest.mean(axis=0)) / (tumour.std(axis=0) + rest.std(axis=0) + 1e-6)
    assert gap.max() > 1.5


@pytest.mark.parametrize("side", [32, 96, 256, 500])
def test_patches_of_any_size_fit(side):
    encoder = load_encoder(EncoderConfig(encoder="stain-stats"))
    encoder.card.check_patch(side, 0.25)
    patch = np.random.default_rng(0).integers(0, 256, (1, side, side, 3)).astype(np.uint8)
    assert np.isfinite(encoder.encode(patch)).all()


def test_there_are_no_weights_to_give(tmp_path):
    (tmp_path / "a.pth").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"stain-stats.*--weights"):
        load_encoder(EncoderConfig(encoder="stain-stats", weights=str(tmp_path / "a.pth")))


def test_its_fingerprint_stays():
    assert (
        load_encoder(EncoderConfig(encoder="stain-stats")).fingerprint
        == load_encoder(EncoderConfig(encoder="stain-stats")).fingerprint
    )
