"""What a probe makes of vectors whose answer is known."""

import functools

import numpy as np
import pytest

from mil.probe.around import look_around
from mil.probe.config import ProbeConfig
from mil.probe.figures import Known, figures_of
from mil.probe.methods import few_shot, knn, linear, standardised
from mil.probe.parts import group_folds
from tiling import ConfigError

N_GROUPS, N_EACH, DIM = 30, 6, 12


def drawn(what: str, *, seed: int = 0) -> tuple[np.ndarray, Known]:
    """180 tiles of 30 patients at 3 sites, 2 classes in each patient; vectors follow `what` alone."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(N_GROUPS), N_EACH)
    labels = np.tile(np.arange(N_EACH) % 2, N_GROUPS)
    if what == "patient":  # of one class each, and nothing else is seen
        labels = rng.permutation(np.arange(N_GROUPS) % 2)[groups]
    batches = groups % 3
    seen = {"class": labels, "batch": batches, "patient": groups, "nothing": np.arange(len(groups))}[what]
    vectors = rng.normal(size=(seen.max() + 1, DIM))[seen] + 0.05 * rng.normal(size=(len(groups), DIM))
    return vectors.astype(np.float32), Known(("benign", "tumour"), labels, groups, batches)


def folds_of(known: Known, groups: np.ndarray | None = None) -> list:
    return group_folds(known.labels, known.groups if groups is None else groups, 5, seed=0, least_groups=2)


@functools.cache
def figures(what: str) -> dict[tuple[str, str], dict]:
    vectors, known = drawn(what)
    frame, _ = figures_of(vectors, known, folds_of(known), ProbeConfig())
    return {(row["method"], row["figure"]): row for row in frame.to_dict("records")}


@pytest.mark.parametrize("sizes", ["equal", "unequal"])
def test_no_group_is_in_both_parts_and_each_tile_is_predicted_once(sizes):
    rng = np.random.default_rng(0)
    for seed in range(6):
        groups = rng.integers(0, 12, 90) if sizes == "equal" else (rng.pareto(1, 90) * 8).astype(int) % 12
        labels = rng.integers(0, 3, 90)
        folds = group_folds(labels, groups, 4, seed=seed)
        assert sorted(np.concatenate([held for _, held in folds]).tolist()) == list(range(90))
        for learned, held in folds:
            assert not set(groups[learned]) & set(groups[held])
            assert len(learned) + len(held) == 90
            assert set(labels[learned]) == {0, 1, 2}


def test_folds_are_fewer_where_groups_are_and_none_where_they_do_not_suffice():
    labels, groups = np.repeat([0, 1], 20), np.concatenate([np.repeat([0, 1, 2], 7)[:20], np.arange(3, 23)])
    folds = group_folds(labels, groups, 5, seed=0, least_groups=2)
    assert len(folds) == 3
    assert all(len(set(groups[learned][labels[learned] == 0])) == 2 for learned, _ in folds)
    with pytest.raises(ConfigError, match="1 in the rarest class, cannot be parted; give 2 groups or more"):
        group_folds(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 2]), 5, seed=0)


def test_what_is_seen_of_classes_is_told_by_every_method():
    found = figures("class")
    for method in ("knn", "linear", "few_shot_1", "few_shot_25"):
        assert found[method, "balanced_accuracy"]["value"] > 0.99
        assert found[method, "balanced_accuracy"]["chance"] == 0.5
    assert found["linear", "auc"]["value"] == 1
    assert 0.7 < found["linear", "auc"]["low"] < 1  # one without a mistake is not surely so
    assert found["neighbours", "same_class"]["value"] == 1
    assert found["neighbours", "robustness"]["value"] == 1
    near = found["neighbours", "same_batch"]
    assert near["value"] == pytest.approx(near["chance"], abs=0.05)
    assert near["chance"] == pytest.approx(9 / 29)


@pytest.mark.parametrize("what", ["nothing", "batch", "patient"])
def test_what_tells_nothing_of_classes_is_at_chance_and_intervals_say_so(what):
    found = figures(what)
    for (method, figure), row in found.items():
        if method != "neighbours":
            assert row["low"] < 0.5 < row["high"], (method, figure)
            assert row["value"] == pytest.approx(0.5, abs=0.17)


def test_patients_in_both_parts_would_flatter_what_groups_keep_honest():
    vectors, known = drawn("patient")
    honest, leaky = folds_of(known), folds_of(known, np.arange(len(known.labels)))
    assert (knn(vectors, known.labels, leaky, 5).argmax(axis=1) == known.labels).mean() > 0.9
    assert (knn(vectors, known.labels, honest, 5).argmax(axis=1) == known.labels).mean() < 0.7


def test_neighbours_of_one_batch_are_told_from_those_of_one_class():
    found = figures("batch")
    assert found["neighbours", "same_batch"]["value"] > 0.8  # a site has 9 other patients of 6 tiles
    row = found["neighbours", "same_class"]
    assert row["value"] == pytest.approx(row["chance"], abs=0.05)
    assert found["neighbours", "robustness"]["value"] < 0.2 < found["neighbours", "robustness"]["chance"]
    unseen = figures("nothing")["neighbours", "robustness"]
    assert unseen["low"] < unseen["chance"] < unseen["high"]


def test_a_patient_is_not_its_own_neighbour():
    vectors, known = drawn("patient")
    around = look_around(vectors, known.labels, known.groups, known.batches, 5)
    assert around.shares["same_class"].mean() < 0.7
    alone = look_around(vectors, known.labels, np.arange(len(known.labels)), None, 5)
    assert alone.shares["same_class"].mean() == 1
    assert set(alone.shares) == {"same_class"}


def test_chance_is_the_share_in_other_groups():
    labels, groups, batches = np.array([0, 0, 1, 1, 0]), np.array([0, 0, 0, 1, 2]), np.array([0, 1, 0, 1, 1])
    around = look_around(np.eye(5), labels, groups, batches, 3)
    assert around.chance["same_class"].tolist() == [0.5, 0.5, 0.5, 0.25, 0.5]
    assert around.chance["same_batch"].tolist() == [0, 1, 0, 0.5, 0.5]
    assert around.chance["class_alone"].tolist() == [0.5, 0, 0.5, 0.25, 0.25]
    assert around.chance["batch_alone"].tolist() == [0, 0.5, 0, 0.5, 0.25]


def test_units_of_features_do_not_matter_and_constants_tell_nothing():
    vectors, known = drawn("class", seed=3)
    folds = folds_of(known)
    loud = np.column_stack([vectors * np.logspace(-3, 3, DIM, dtype=np.float32), np.full(len(vectors), 7e4)])
    for each in (
        lambda v: knn(v, known.labels, folds, 9),
        lambda v: few_shot(v, known.labels, folds, 5, n_draws=3, seed=0),
        lambda v: linear(v, known.labels, known.groups, folds, 0)[0],
    ):
        assert np.allclose(each(loud.astype(np.float32)), each(vectors), atol=1e-3)
    train, test = standardised(loud, loud + 1)
    assert (train[:, -1] == 0).all()
    assert np.isfinite(test).all()


def test_draws_follow_the_seed_and_more_tiles_teach_more():
    rng = np.random.default_rng(0)
    vectors, known = drawn("class")
    vectors = standardised(vectors, vectors)[0] + rng.normal(0, 2, vectors.shape)
    folds = folds_of(known)
    one, again, other = (
        few_shot(vectors, known.labels, folds, 1, n_draws=20, seed=seed) for seed in (0, 0, 1)
    )
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    many = few_shot(vectors, known.labels, folds, 25, n_draws=20, seed=0)
    assert (many == known.labels).mean() > (one == known.labels).mean() + 0.05


def test_few_shot_intervals_hold_what_single_draws_give():
    vectors, known = drawn("nothing")
    frame, _ = figures_of(vectors, known, folds_of(known), ProbeConfig())
    row = frame[frame["method"] == "few_shot_5"].iloc[0]
    called = few_shot(vectors, known.labels, folds_of(known), 5, n_draws=20, seed=0)
    each = (called == known.labels).mean(axis=1)
    assert row["value"] == pytest.approx(each.mean())
    assert ((each > row["low"]) & (each < row["high"])).mean() > 0.9
