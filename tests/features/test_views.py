import hashlib

import numpy as np
import pytest

from features.recolour import STAINS
from features.views import augment, view_seeds

SIDE = 64


def blobs(n, side=SIDE, seed=0):
    """Smooth patches of the two stains in changing amounts, all of it stained."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:side, 0:side] / side
    amounts = np.stack(
        [
            [0.5 + 0.4 * np.sin(2 * np.pi * (rng.integers(1, 4) * x + rng.integers(1, 4) * y + rng.random()))
             for _ in range(2)]
            for _ in range(n)
        ]
    )  # fmt: skip
    light = np.exp(-np.einsum("cs,nsyx->nyxc", STAINS, amounts))
    return np.rint(256 * light - 1).astype(np.uint8)


def seeds(n, view=0, slide="0123456789abcdef"):
    return view_seeds(slide, np.arange(n), view)


def test_a_seed_is_the_stated_hash():
    found = view_seeds("0123456789abcdef", np.array([5, 1000]), 2)
    digest = hashlib.sha256(b"0123456789abcdef 1000 2").digest()
    assert found.dtype == np.uint64
    assert int(found[1]) == int.from_bytes(digest[:8], "little")


def test_seeds_differ_by_slide_row_and_view():
    told = [seeds(100, view, slide) for view in range(3) for slide in ("aa", "ab")]
    assert len(set(np.concatenate(told).tolist())) == 600
    assert view_seeds("aa", np.arange(0), 0).shape == (0,)


def test_a_view_is_fully_told_by_its_patch_and_seed():
    patches, told = blobs(6), seeds(6)
    together = augment(patches, told)
    assert (together.dtype, together.shape) == (np.uint8, patches.shape)
    order = np.array([4, 0, 5, 2])
    np.testing.assert_array_equal(augment(patches[order], told[order]), together[order])
    for row in range(6):
        np.testing.assert_array_equal(augment(patches[row : row + 1], told[row : row + 1])[0], together[row])


def test_other_seeds_give_other_views_and_the_patch_is_left_alone():
    patches = blobs(4)
    before = patches.copy()
    first, second = augment(patches, seeds(4)), augment(patches, seeds(4, view=1))
    assert (np.abs(first.astype(int) - second).mean(axis=(1, 2, 3)) > 2).all()
    np.testing.assert_array_equal(patches, before)


def test_no_patch_gives_no_view():
    assert augment(np.zeros((0, SIDE, SIDE, 3), np.uint8), np.zeros(0, np.uint64)).shape == (0, SIDE, SIDE, 3)


def test_blank_stays_blank():
    assert (augment(np.full((30, SIDE, SIDE, 3), 255, np.uint8), seeds(30)) == 255).all()


def test_views_have_no_borders():
    """Of an evenly stained patch each view is evenly stained, to the last row and column."""
    flat = np.broadcast_to(np.array([180, 120, 170], np.uint8), (40, SIDE, SIDE, 3))
    assert np.ptp(augment(flat, seeds(40)), axis=(1, 2)).max() == 0


def test_colours_change_a_little_and_on_average_not():
    patches = np.repeat(blobs(1), 300, axis=0)
    means = augment(patches, seeds(300)).mean(axis=(1, 2))
    plain = patches[0].mean(axis=(0, 1))
    assert np.abs(means.mean(axis=0) - plain).max() < 4
    assert 3 < means.std(axis=0).mean() < 15
    assert np.abs(means - plain).max() < 50


def test_all_eight_orientations_come_alike():
    """A dark corner, and one darker side of it, tell which way a view was turned and flipped."""
    patch = np.full((SIDE, SIDE, 3), 235, np.uint8)
    patch[: SIDE // 2, : SIDE // 2] = 120
    patch[: SIDE // 2, SIDE // 2 :] = 180
    views = augment(np.repeat(patch[None], 400, axis=0), seeds(400)).mean(axis=3)
    quarters = [v for rows in np.split(views, 2, axis=1) for v in np.split(rows, 2, axis=2)]
    order = np.argsort([q.mean(axis=(1, 2)) for q in quarters], axis=0)[:2].T  # the dark one, then the grey
    _, counts = np.unique(order, axis=0, return_counts=True)
    assert len(counts) == 8
    assert counts.min() > 25  # of 50 that are expected


def test_crops_are_at_least_four_fifths_of_the_side():
    """Stripes of 8 px become wider, at most by a quarter."""
    stripes = np.where(np.arange(256) // 8 % 2, 120, 235).astype(np.uint8)
    patch = np.broadcast_to(stripes[None, :, None], (256, 256, 3))
    views = augment(np.repeat(patch[None], 40, axis=0), seeds(40)).mean(axis=3)
    lines = np.where((np.ptp(views[:, 0], axis=1) > 30)[:, None], views[:, 0], views[:, :, 0])
    spectrum = np.abs(np.fft.rfft(lines - lines.mean(axis=1, keepdims=True), axis=1))
    waves = spectrum.argmax(axis=1)  # 16 of them at first
    assert 12 <= waves.min() < waves.max() <= 16


@pytest.mark.parametrize("side", [1, 2, 17])
def test_tiny_patches_are_no_trouble(side):
    patches = np.full((5, side, side, 3), 200, np.uint8)
    assert augment(patches, seeds(5)).shape == patches.shape
