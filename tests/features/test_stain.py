import json
from dataclasses import replace

import cv2
import h5py
import numpy as np
import pytest

from features import (
    BagConfig,
    EncoderConfig,
    bag_fingerprint,
    extract_features,
    load_encoder,
    load_features,
    load_patches,
)
from features.recolour import STAINS
from features.stain import fit_stain
from tiling import (
    ConfigError,
    GridConfig,
    PhantomConfig,
    SlideError,
    TissueMask,
    open_slide,
    read_patches,
    render_phantom,
    tile_slide,
    write_slide,
)

WHITE = (255.0, 255.0, 255.0)
BLUISH = np.array([[0.65, 0.12], [0.62, 0.74], [0.44, 0.66]])
REDDISH = np.array([[0.48, 0.10], [0.78, 0.90], [0.40, 0.42]])
METHODS = ("macenko", "reinhard")
SIDE = 96


def amounts(seed=0, shape=(480, 576)):
    """Haematoxylin in nuclei and eosin in fibres (H, W, 2); a strip on the left and one below are glass."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]]
    fibres = 0.45 + 0.25 * np.sin((x + 0.4 * y) / 9 + rng.uniform(0, 6)) + rng.normal(0, 0.05, shape)
    nuclei = np.zeros(shape)
    for cy, cx in rng.uniform(0, 1, (900, 2)) * shape:
        near = slice(max(0, int(cy) - 7), int(cy) + 7), slice(max(0, int(cx) - 7), int(cx) + 7)
        inside = (y[near] - cy) ** 2 + (x[near] - cx) ** 2 < rng.uniform(9, 36)
        nuclei[near] = np.maximum(nuclei[near], inside * rng.uniform(0.8, 1.7))
    found = np.stack([0.05 + nuclei, np.where(nuclei > 0, 0.15, fibres)], axis=-1)
    found[:, :SIDE] = found[-SIDE:] = 0
    return found


def drawn(dyes, stains, strength=(1.0, 1.0), glass=WHITE):
    """Beer and Lambert: what the dyes let through, uint8 (H, W, 3)."""
    light = np.exp(-dyes @ (stains * strength).T)
    return np.rint((np.array(glass) + 1) * light - 1).clip(0, 255).astype(np.uint8)


def tiled(slide, side=SIDE):
    mask = TissueMask(np.ones((8, 8), bool), np.zeros((8, 8, 3), np.uint8), slide.size_px)
    return tile_slide(slide, mask, GridConfig(tile_px=side, min_tissue=0))


@pytest.fixture
def opened(tmp_path):
    """Open pixels as a slide that keeps them as they are."""
    slides = []

    def write(pixels, name="ward-a"):
        path = tmp_path / f"{name}-{len(slides)}.png"
        cv2.imwrite(str(path), pixels[..., ::-1])
        slides.append(open_slide(path, id=name, mpp=0.5))
        return slides[-1]

    yield write
    for slide in slides:
        slide.close()


def normalised(slide, method):
    grid = tiled(slide)
    patches = np.concatenate([p.pixels for p in read_patches(slide, grid)])
    stain = fit_stain(slide, grid, method)
    assert stain is not None
    return stain(patches)


def apart(one, other):
    """Mean distance of the mean colours of corresponding patches, in grey levels."""
    return float(np.linalg.norm(one.mean(axis=(1, 2)) - other.mean(axis=(1, 2)), axis=1).mean())


@pytest.mark.parametrize(("method", "most"), [("macenko", 6), ("reinhard", 20)])
def test_one_tissue_in_two_stains_ends_alike(opened, method, most):
    dyes = amounts()
    one = opened(drawn(dyes, BLUISH, (1.5, 1.2), (244, 240, 246)))
    other = opened(drawn(dyes, REDDISH, (0.7, 0.8), (250, 250, 250)))
    before = [np.concatenate([p.pixels for p in read_patches(s, tiled(s))]) for s in (one, other)]
    after = [normalised(s, method) for s in (one, other)]
    assert apart(*before) > 45
    assert apart(*after) < most
    assert np.abs(after[0].astype(int) - after[1]).mean() < most


def test_macenko_brings_known_stains_to_the_reference(opened):
    """The dyes of the target with the same amounts are what comes out, up to one factor a dye."""
    dyes = amounts()
    found = [
        normalised(opened(drawn(dyes, s, k)), "macenko") for s, k in [(BLUISH, (1.5, 1)), (STAINS, (1, 1))]
    ]
    assert apart(*found) < 6


def test_the_target_itself_is_nearly_a_fixed_point(opened):
    """As concentrated as the reference: the 99th percentiles are 1.97 and 1.03."""
    dyes = amounts()
    stained = dyes.sum(axis=-1) > 0.3
    factor = np.array([1.9705, 1.0308]) / np.percentile(dyes[stained], 99, axis=0)
    given = opened(drawn(dyes, STAINS, factor))
    plain = np.concatenate([p.pixels for p in read_patches(given, tiled(given))])
    assert apart(plain, normalised(given, "macenko")) < 5


@pytest.mark.parametrize("method", METHODS)
def test_normalised_again_changes_little(opened, method):
    given = opened(drawn(amounts(), BLUISH, (1.5, 1.2), (244, 240, 246)))
    grid = tiled(given)
    stain = fit_stain(given, grid, method)
    assert stain is not None
    first = stain(drawn(amounts(), BLUISH, (1.5, 1.2), (244, 240, 246))[None])[0]
    again = opened(first)
    second = fit_stain(again, tiled(again), method)
    assert second is not None
    assert np.abs(second(first[None])[0].astype(int) - first).mean() < 4


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("glass", [WHITE, (244, 240, 246)])
def test_blank_becomes_white_and_noise_is_not_coloured(opened, method, glass):
    given = opened(drawn(amounts(), REDDISH, (0.6, 0.6), glass))
    stain = fit_stain(given, tiled(given), method)
    assert stain is not None
    blank = np.broadcast_to(np.array(glass, np.uint8), (1, SIDE, SIDE, 3))
    assert stain(blank).min() >= 254
    noisy = np.clip(blank + np.random.default_rng(0).integers(-2, 3, blank.shape), 0, 255).astype(np.uint8)
    found = stain(noisy)
    assert found.min() > 240
    assert np.ptp(found.mean(axis=(1, 2))) < 3


@pytest.mark.parametrize("method", METHODS)
def test_the_same_slide_gives_the_same_map_and_a_patch_depends_on_itself_alone(opened, method):
    given = opened(drawn(amounts(), BLUISH))
    grid = tiled(given)
    stain, again = fit_stain(given, grid, method), fit_stain(given, grid, method)
    assert stain == again
    assert stain is not None
    patches = np.concatenate([p.pixels for p in read_patches(given, grid)])
    before = patches.copy()
    together = stain(patches)
    order = np.random.default_rng(0).permutation(len(patches))
    np.testing.assert_array_equal(stain(patches[order]), together[order])
    np.testing.assert_array_equal(stain(patches[:1])[0], together[0])
    np.testing.assert_array_equal(patches, before)
    assert stain(patches[:0]).shape == (0, SIDE, SIDE, 3)


@pytest.mark.parametrize("method", METHODS)
def test_drawn_slides_of_other_laboratories_end_alike(tmp_path, method):
    """Two phantoms of one layout whose stain varies three times as much as usual."""
    means = {"before": [], "after": []}
    for variation in (0.0, 3.0):
        picture = render_phantom(
            PhantomConfig(
                size_px=(700, 600), tissue_share=0.6, stain_variation=variation, has_pen=False, seed=4
            )
        )
        path = tmp_path / f"{variation}.svs"
        write_slide(path, picture.pixels, mpp=picture.mpp)
        with open_slide(path) as slide:
            grid = tiled(slide)
            patches = np.concatenate([p.pixels for p in read_patches(slide, grid)])
            stain = fit_stain(slide, grid, method)
            assert stain is not None
        for when, pixels in (("before", patches), ("after", stain(patches))):
            tissue = patches.mean(axis=(1, 2, 3)) < 215
            means[when].append(pixels[tissue].mean(axis=(0, 1, 2)))
    before, after = (np.linalg.norm(a - b) for a, b in means.values())
    assert before > 12
    assert after < before / 2


def test_none_is_no_map_and_neither_has_a_slide_without_tiles(opened):
    given = opened(drawn(amounts(), BLUISH))
    grid = tiled(given)
    assert fit_stain(given, grid, "none") is None
    empty = replace(grid, coords=grid.coords[:0], tissue_fraction=grid.tissue_fraction[:0])
    assert fit_stain(given, empty, "macenko") is None


def test_unreadable_tiles_are_left_out_of_the_sample(opened, monkeypatch):
    given = opened(drawn(amounts(), BLUISH))
    whole = fit_stain(given, tiled(given), "macenko")
    read, glass = given.read_batch, given.thumbnail(16.0)

    def broken(corners, level, out, **how):
        failed = read(corners, level, out, **how)
        lost = corners[:, 0] >= 4 * SIDE
        out[lost] = 0  # as if rubbish had been decoded
        return failed | lost

    monkeypatch.setattr(given, "read_batch", broken)
    monkeypatch.setattr(given, "thumbnail", lambda mpp: glass)
    found = fit_stain(given, tiled(given), "macenko")
    assert whole is not None
    assert found is not None
    np.testing.assert_allclose(found.numbers, whole.numbers, atol=0.2)


def test_tissue_in_few_of_many_tiles_is_found(opened):
    """Nine of 200 tiles hold tissue: the 48 that are drawn first cannot tell enough."""
    dyes = np.zeros((480, 960, 2))
    dyes[192:336, 480:624] = amounts()[100:244, 200:344]
    given = opened(drawn(dyes, BLUISH))
    grid = tiled(given, side=48)
    assert len(grid) == 200
    assert fit_stain(given, grid, "macenko") is not None


def test_one_tile_is_enough(opened):
    given = opened(drawn(amounts()[: 2 * SIDE, SIDE : 3 * SIDE], BLUISH))
    grid = tiled(given, side=2 * SIDE)
    assert len(grid) == 1
    assert fit_stain(given, grid, "macenko") is not None


def shining(seed=0):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 8, (480, 576, 3))
    pixels[..., 2] += 60 * (rng.random((480, 576)) < 0.3)
    return pixels.astype(np.uint8)


def almost_blank():
    dyes = np.zeros((480, 576, 2))
    dyes[100:120, 100:120] = 0.8
    return drawn(dyes, BLUISH)


@pytest.mark.parametrize(
    ("pixels", "method", "told"),
    [
        (shining(), "macenko", "ward-a: is dark.*--stain none"),
        (shining(), "reinhard", "ward-a: is dark.*--stain none"),
        (almost_blank(), "reinhard", "ward-a: .* stained pixels in 30 readable tiles.*--stain none"),
        (
            drawn(amounts() * (1, 0), BLUISH, (2, 1)),
            "macenko",
            "ward-a: its stains lie .*--stain reinhard or none",
        ),
    ],
)
def test_what_cannot_be_normalised_is_told_with_a_way_out(opened, pixels, method, told):
    given = opened(pixels)
    with pytest.raises(SlideError, match=told):
        fit_stain(given, tiled(given), method)


def test_a_slide_whose_glass_cannot_be_seen_is_told_with_a_way_out(opened, monkeypatch):
    given = opened(drawn(amounts(), BLUISH))

    def broken(mpp):
        raise SlideError("ward-a: cannot be read at (0, 0)")

    monkeypatch.setattr(given, "thumbnail", broken)
    with pytest.raises(SlideError, match=r"ward-a: the colour of its glass.*at \(0, 0\).*--stain none"):
        fit_stain(given, tiled(given), "macenko")


@pytest.mark.parametrize("method", METHODS)
def test_a_bag_is_that_of_patches_normalised_by_hand(opened, tmp_path, method):
    given = opened(drawn(amounts(), BLUISH))
    grid = tiled(given)
    encoder = load_encoder(EncoderConfig(encoder="stain-stats", stain=method))
    config = BagConfig(dtype="float32", batch=7, save_patches=True)
    extract_features(given, grid, encoder, tmp_path / "a.h5", config=config)
    stain = fit_stain(given, grid, method)
    assert stain is not None
    patches = np.concatenate([p.pixels for p in read_patches(given, grid)])
    bag = load_features(tmp_path / "a.h5")
    np.testing.assert_array_equal(bag.features, encoder.encode(stain(patches)))
    kept = load_patches(tmp_path / "a.h5", range(len(grid))).astype(int)
    # those that are kept are plain
    assert np.abs(kept - patches).mean() < np.abs(kept - stain(patches)).mean()
    with h5py.File(tmp_path / "a.h5") as file:
        assert json.loads(file.attrs["stain_numbers"]) == list(stain.numbers)


def test_the_fingerprint_follows_the_stain(opened, tmp_path):
    encoders = [
        load_encoder(EncoderConfig(encoder="stain-stats", stain=stain)) for stain in ("none", *METHODS)
    ]
    assert len({bag_fingerprint("grid", encoder, BagConfig()) for encoder in encoders}) == 3
    assert len({encoder.fingerprint for encoder in encoders}) == 3  # by which mixed bags are refused
    given = opened(drawn(amounts(), BLUISH))
    extract_features(given, tiled(given), encoders[0], tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5") as file:
        assert "stain_numbers" not in file.attrs


def test_unknown_stains_are_refused():
    with pytest.raises(ConfigError, match=r"vahadane.*none, macenko, reinhard"):
        EncoderConfig(encoder="stain-stats", stain="vahadane")
