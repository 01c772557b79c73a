"""The plumbing of the bench of learners: what it measures on is what it says."""

import importlib
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from mil.learner import Bag
from mil.training import new_learner

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture
def bench(monkeypatch):
    """Import a module of the bench by name, as when a script of it is run."""
    monkeypatch.syspath_prepend(BENCH)
    return importlib.import_module


def task_of_slides(bench):
    """Six slides of 200 tiles; the odd ones are half tumour, and 20 tiles of them are a little."""
    area = [np.repeat([0.0, 0.3, 1.0], [80, 20, 100]) * (i % 2) for i in range(6)]
    bags = [Bag(str(i), np.arange(200, dtype=np.float32)[:, None]) for i in range(6)]
    truth = [(each >= 0.5).astype(np.int8) for each in area]
    labels = np.arange(6) % 2 == 1
    return bench("cohorts").Task("slides", bags, labels, np.arange(6) // 2, truth), area


def test_folds_keep_groups_together_and_differ_by_seed(bench):
    cohorts = bench("cohorts")
    labels = np.arange(40) % 2 == 1
    task = cohorts.Task("t", [], labels, np.arange(40) // 4, [])
    fold = cohorts.folds(task, 0)
    assert set(fold) == set(range(5))
    assert all(len(set(fold[task.groups == group])) == 1 for group in range(10))
    assert (fold == cohorts.folds(task, 0)).all()
    assert (fold != cohorts.folds(task, 1)).any()


def test_thinned_slides_have_the_share_of_tumour_asked_for(bench):
    task, area = task_of_slides(bench)
    thinned = bench("cohorts_slides").thinned
    little, more = thinned(task, area, 0.02, 0), thinned(task, area, 0.2, 0)
    for i in range(6):
        assert more.truth[i].sum() == (20 if task.labels[i] else 0)
        assert little.truth[i].sum() == (2 if task.labels[i] else 0)
        assert (~more.truth[i].astype(bool)).sum() == (80 if task.labels[i] else 200)  # the mixed are gone
        assert set(little.bags[i].features.ravel()) <= set(more.bags[i].features.ravel())
    tumour = [
        {*each.bags[1].features[each.truth[1] == 1].ravel()}
        for each in (little, thinned(task, area, 0.02, 1))
    ]
    assert tumour[0] != tumour[1]


def test_drawn_bags_hold_the_rate_and_the_oracle_is_good_but_not_perfect(bench):
    drawn = bench("cohorts_drawn")
    for rate, task in zip((0.02, 0.7), drawn.synthetic((0.02, 0.7), 0), strict=True):
        held = np.array([each.mean() for each in task.truth])
        assert held[task.labels] == pytest.approx(rate)
        assert (held[~task.labels] == 0).all()
        assert task.labels[task.test].mean() == task.labels[~task.test].mean() == 0.5
        assert 0.9 < task.oracle_auc < 0.999


def test_many_bags_are_of_the_number_asked_for_and_hold_one_or_two_positives(bench):
    few, more = bench("cohorts_drawn").many((30, 60), 0)
    assert [(~each.test).sum() for each in (few, more)] == [30, 60]
    assert few.test.sum() == 800
    held = np.array([each.sum() for each in more.truth])
    assert set(held[more.labels]) == {1, 2}
    assert (held[~more.labels] == 0).all()


@pytest.mark.data
def test_mnist_bags_share_no_picture_between_training_and_test(bench, data_dir):
    numbers = np.arange(10_000)[:, None]
    task, other = bench("cohorts_images").mnist(data_dir, {"number": numbers, "same": numbers}, (50,), 0)
    assert task.test.sum() == 1000
    assert [task.labels[task.test].sum(), task.labels[~task.test].sum()] == [500, 25]
    assert all(truth.any() == label for truth, label in zip(task.truth, task.labels, strict=True))
    sizes = [len(bag) for bag in task.bags]
    assert np.mean(sizes) == pytest.approx(10, abs=0.5)
    train, test = (
        np.concatenate([bag.features for bag in task.bags[part]]) for part in (np.s_[:50], np.s_[50:])
    )
    assert not np.intersect1d(train, test).size
    assert all(np.array_equal(a.features, b.features) for a, b in zip(task.bags, other.bags, strict=True))


@pytest.mark.data
def test_views_of_digits_are_of_the_training_bags_alone_and_of_their_digits(bench, data_dir):
    images = bench("cohorts_images")
    digits = images.mnist_images(data_dir)
    views_of = partial(images.digit_views, digits, 3)
    plain = {"mnist": images.pixels(digits)}
    (task,) = images.mnist(data_dir, plain, (50,), 0, views_of)
    (without,) = images.mnist(data_dir, plain, (50,), 0)
    assert all((bag.views is None) == is_test for bag, is_test in zip(task.bags, task.test, strict=True))
    assert all(np.array_equal(a.features, b.features) for a, b in zip(task.bags, without.bags, strict=True))
    features = np.concatenate([bag.features for bag in task.bags[:50]])
    views = np.concatenate([bag.views for bag in task.bags[:50]])
    assert views.shape == (len(features), 3, 784)
    centred = features - features.mean(0)
    for view in np.moveaxis(views - features.mean(0), 1, 0):
        assert not np.array_equal(view, centred)
        nearest = (view @ centred.T / np.linalg.norm(centred, axis=1)).argmax(1)
        assert (nearest == np.arange(len(features))).mean() > 0.1  # by chance one in five hundred


def test_every_line_of_the_ablation_is_a_learner(bench):
    variants = bench("variants").ablation()
    configs = [new_learner(each.learner, each.settings).config for each in variants]
    assert len(set(configs)) == len(variants) > 1


def test_a_variant_goes_before_what_is_set_for_all(bench):
    variants = bench("variants")
    found = variants.with_settings(
        [variants.parse_variant(text) for text in ("mix", "mix:hidden=8,epochs=2", "mean")], ["mix.hidden=16"]
    )
    assert [each.settings for each in found] == [{"hidden": "16"}, {"hidden": "8", "epochs": "2"}, {}]
