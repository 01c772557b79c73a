import numpy as np
import pytest

from features.recolour import STAINS, WHITE, densities_of_levels, density, recolour


def all_levels():
    """A patch (16, 16, 3) that has every grey level in each channel, in another order."""
    levels = np.arange(256, dtype=np.uint8)
    return np.stack([levels, levels[::-1], np.roll(levels, 77)], axis=1).reshape(16, 16, 3)


def test_density_is_the_negative_logarithm_of_the_light_that_gets_through():
    table = densities_of_levels()
    assert table.dtype == np.float32
    assert table[127].tolist() == pytest.approx([np.log(2)] * 3)
    assert (np.diff(table, axis=0) < 0).all()
    assert (table[255] == 0).all()


def test_glass_has_no_density_whatever_its_tint_and_nothing_has_less():
    glass = (240.0, 235.0, 244.0)
    table = densities_of_levels(glass)
    assert [table[level, c] for c, level in enumerate((240, 235, 244))] == [0, 0, 0]
    assert (table >= 0).all()
    pixels = np.array([[240, 235, 244], [120, 235, 255]], np.uint8)
    np.testing.assert_allclose(density(pixels, glass), [[0, 0, 0], [np.log(241 / 121), 0, 0]], rtol=1e-6)


def test_the_identity_changes_no_level():
    given = all_levels()
    np.testing.assert_array_equal(recolour(given, np.eye(3)), given)


def test_the_identity_makes_tinted_glass_white():
    glass = np.array([240, 235, 244], np.uint8)
    assert (recolour(np.broadcast_to(glass, (8, 8, 3)), np.eye(3), (240.0, 235.0, 244.0)) == 255).all()


@pytest.mark.parametrize("seed", range(5))
def test_white_stays_white_by_any_map(seed):
    matrix = np.random.default_rng(seed).normal(0, 2, (3, 3))
    assert (recolour(np.full((5, 7, 3), 255, np.uint8), matrix) == 255).all()


def test_half_the_densities_are_the_square_root_of_the_light():
    given = all_levels()
    right = 256 * np.sqrt((given + 1.0) / 256) - 1
    np.testing.assert_allclose(recolour(given, 0.5 * np.eye(3)), right, atol=0.51)


def test_mixing_anew_is_what_the_other_stains_would_have_given():
    """Beer and Lambert: densities are stains times amounts, so other stains are another matrix."""
    rng = np.random.default_rng(0)
    amounts = rng.uniform(0, 1.2, (40, 40, 2))
    other = STAINS @ np.diag([0.7, 1.3])

    def mixed(stains):
        return np.rint(256 * np.exp(-amounts @ stains.T) - 1).clip(0, 255).astype(np.uint8)

    found = recolour(mixed(STAINS), other @ np.linalg.pinv(STAINS), WHITE)
    off = np.abs(found.astype(int) - mixed(other))
    assert off.max() <= 3  # a level at the start is up to three at the end
    assert off.mean() < 0.5


def test_the_given_patch_is_not_changed():
    given = all_levels()
    recolour(given, 2 * np.eye(3))
    np.testing.assert_array_equal(given, all_levels())
