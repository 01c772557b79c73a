"""Stopping by validation bags: the best epoch is kept, and nothing else has a say."""

from typing import Any

import numpy as np
import pytest
import torch

from mil import LEARNERS, Bag, Classes, course
from mil.early_stopping import BestEpoch
from mil.net_learner import NetLearner
from tiling import ConfigError, SlidebagError

BINARY = Classes(("normal", "tumour"), has_negative=True)
LABELS = [0, 1] * 12


def drawn(seed: int) -> list[Bag]:
    """Bags whose positives are hard to tell, so that a net learns its own by heart."""
    features = np.random.default_rng(seed).normal(size=(len(LABELS), 10, 12)).astype(np.float32)
    features[1::2, :3, 0] += 1
    return [Bag(f"{seed}-{i}", each) for i, each in enumerate(features)]


def fit(name="mix", labels: list[int] | None = LABELS, **options):
    """Fit; `labels` are those of validation bags, None where there are none."""
    kind = LEARNERS[name].config_class
    learner = LEARNERS[name](kind(**options))
    aside = None if labels is None else (drawn(1), labels)
    learner.fit(drawn(0), LABELS, BINARY, seed=0, validation=aside)
    return learner


@pytest.mark.parametrize("name", ["mix", "gated_abmil", "dtfd"])
def test_the_epoch_of_the_least_loss_is_kept(name):
    early = fit(name, epochs=60, patience=5)
    losses = [figures["validation_loss"] for figures in early.history]
    assert early.n_epochs == 1 + int(np.argmin(losses))
    assert len(losses) == early.n_epochs + 5 < 60
    fixed = fit(name, epochs=early.n_epochs)
    for key, value in fixed._state().items():
        assert np.array_equal(value, early._state()[key])


def test_the_loss_is_that_of_the_bag_term_on_all_validation_bags():
    early = fit(epochs=3, patience=3)
    given = np.stack([early.predict(bag).probability for bag in drawn(1)])
    # as many bags of each class: the bag term is the log loss
    expected = -np.log(given[np.arange(len(LABELS)), LABELS]).mean()
    assert min(figures["validation_loss"] for figures in early.history) == pytest.approx(expected, rel=1e-5)


def test_patience_that_never_ends_runs_all_epochs_and_keeps_the_best():
    early = fit(epochs=40, patience=40)
    assert len(early.history) == 40
    assert early.n_epochs < 40


def test_without_patience_validation_has_no_say():
    with_bags, without = fit(epochs=5), fit(epochs=5, labels=None)
    assert with_bags.n_epochs == 0
    assert with_bags.history == without.history
    assert all(np.array_equal(value, with_bags._state()[key]) for key, value in without._state().items())


def test_the_instance_learner_does_not_see_validation():
    few: dict[str, Any] = {"members": 1, "witness_epochs": 1, "epochs": 1, "steps_per_epoch": 2}
    with_bags, without = fit("slidebag", **few), fit("slidebag", **few, labels=None)
    assert all(np.array_equal(value, with_bags._state()[key]) for key, value in without._state().items())


def test_validation_that_cannot_be_used_is_refused():
    with pytest.raises(ConfigError, match=r"stop early, but there are no validation bags.*patience=0"):
        fit(patience=3, labels=None)
    with pytest.raises(SlidebagError, match="23 labels for 24 bags"):
        fit(patience=3, labels=LABELS[1:])
    with pytest.raises(ConfigError, match="patience is -1"):
        fit(patience=-1)


@pytest.mark.parametrize("stop", [2, 6])
def test_a_stopped_fit_remembers_its_best_epoch(tmp_path, monkeypatch, stop):
    monkeypatch.setattr(course, "EVERY_S", 0)
    config = LEARNERS["mix"].config_class(epochs=60, patience=5)
    whole, again = LEARNERS["mix"](config), LEARNERS["mix"](config)
    given = (drawn(0), LABELS, BINARY)
    also = {"seed": 0, "validation": (drawn(1), LABELS)}
    whole.fit(*given, **also)

    def report(figures):
        if figures["epoch"] == whole.n_epochs + stop - 3:  # before the best epoch, and after it
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        LEARNERS["mix"](config).fit(*given, **also, report=report, checkpoint=tmp_path / "c")
    again.fit(*given, **also, checkpoint=tmp_path / "c")
    assert (again.history, again.n_epochs) == (whole.history, whole.n_epochs)
    assert all(np.array_equal(value, again._state()[key]) for key, value in whole._state().items())


def test_the_weights_of_the_best_epoch_come_back():
    net, best = torch.nn.Linear(2, 1), BestEpoch()
    first = net.weight.detach().clone()
    best.heed(0, 0.5, net)
    net.weight.data += 1
    best.heed(1, 0.5, net)  # not better
    best.restore(net)
    assert torch.equal(net.weight, first)
    assert best.epoch == 0


def test_a_loss_that_is_never_a_number_is_told(monkeypatch):
    monkeypatch.setattr(NetLearner, "_loss_on", lambda *_: float("nan"))
    with pytest.raises(SlidebagError, match=r"not a number in any of 3 epochs; .*lower than 0\.5"):
        fit(epochs=40, patience=3, learning_rate=0.5)
