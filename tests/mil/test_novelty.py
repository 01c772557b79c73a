"""Slides from elsewhere are flagged, those of the training's own kind are not."""

import numpy as np
import pytest

from mil import Bag
from mil.model.novelty import Centres, Novelty, max_logit, profile


def bags(rng, n_bags, shift=0.0, dim=24, share=1.0, n_tiles=150):
    """Tiles of three kinds on axes of different spread, slides a little apart; `shift` in spreads."""
    kinds, spread = np.eye(3, dim) * 6, np.geomspace(0.1, 3, dim)
    found = []
    for i in range(n_bags):
        features = kinds[rng.integers(0, 3, n_tiles)] + rng.normal(size=(n_tiles, dim))
        features += 0.2 * rng.normal(size=dim)
        features[: round(share * n_tiles)] += shift
        found.append(Bag(f"{i}", (features * spread).astype(np.float32)))
    return found


@pytest.fixture
def novelty():
    rng = np.random.default_rng(0)
    centres = Centres.of(bags(rng, 20), seed=0)
    held_out = np.stack([profile(centres.log_distance(b.features)) for b in bags(rng, 8)])
    return Novelty.of(centres, held_out)


def test_slides_of_the_same_kind_are_rarely_flagged(novelty):
    slides = [novelty(bag.features)[1] for bag in bags(np.random.default_rng(1), 200)]
    assert np.mean(np.array(slides) > 1) <= 0.02


def test_tiles_of_the_same_kind_are_unlike_at_the_share_that_was_chosen(novelty):
    tiles = np.concatenate([novelty(bag.features)[0] for bag in bags(np.random.default_rng(1), 50)])
    assert 0.003 < np.mean(tiles > 1) < 0.03


def test_foreign_slides_are_flagged(novelty):
    slides = [novelty(bag.features)[1] for bag in bags(np.random.default_rng(1), 50, shift=1.5)]
    assert np.mean(np.array(slides) > 1) > 0.95


def test_foreign_tiles_in_a_slide_are_found(novelty):
    for bag in bags(np.random.default_rng(1), 20, shift=3, share=0.3):
        tiles, _ = novelty(bag.features)
        assert np.mean(tiles[:45] > 1) > 0.9
        assert np.mean(tiles[45:] > 1) < 0.1


def test_distances_do_not_depend_on_where_zero_is():
    near = bags(np.random.default_rng(0), 4)
    far = [Bag(bag.id, bag.features + np.float32(1000)) for bag in near]
    there, moved = (Centres.of(each, seed=0).log_distance(each[0].features) for each in (near, far))
    assert np.abs(there - moved).max() < 0.02


def test_novelty_comes_back_from_the_disk(novelty, tmp_path):
    novelty.save(tmp_path)
    bag = bags(np.random.default_rng(1), 1)[0]
    for before, after in zip(novelty(bag.features), Novelty.load(tmp_path)(bag.features), strict=True):
        assert np.array_equal(before, after)


def test_the_seed_decides():
    data = bags(np.random.default_rng(0), 10)
    first, again = Centres.of(data, seed=1), Centres.of(data, seed=1)
    assert np.array_equal(first.places, again.places)
    assert np.array_equal(first.spread, again.spread)


def test_constant_features_and_slides_without_tiles_do_no_harm(novelty):
    flat = [Bag("a", np.ones((30, 4), np.float16)), Bag("b", np.ones((1, 4), np.float16))]
    centres = Centres.of(flat, seed=0)
    assert np.isfinite(centres.log_distance(flat[0].features)).all()
    tiles, slide = novelty(np.zeros((0, 24), np.float32))
    assert tiles.shape == (0,)
    assert np.isnan(slide)


def test_the_maximum_logit_is_half_the_log_odds_of_two_classes():
    found = max_logit(np.array([[0.5, 0.5], [0.1, 0.9], [0.9, 0.1]], np.float32))
    assert found == pytest.approx([0, np.log(9) / 2, np.log(9) / 2], rel=1e-5)


def test_the_maximum_logit_is_the_largest_whatever_is_added_to_all_logits():
    logits = np.random.default_rng(0).normal(size=(50, 4))
    logits -= logits.mean(axis=1, keepdims=True)
    probability = np.exp(logits + 3) / np.exp(logits + 3).sum(axis=1, keepdims=True)
    assert max_logit(probability) == pytest.approx(logits.max(axis=1), rel=1e-5)
    assert np.isfinite(max_logit(np.array([[1.0, 0.0]], np.float32))).all()
