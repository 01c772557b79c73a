"""Fold models: what validation chose is used, and a stopped training goes on fit by fit, epoch by epoch."""

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features import EncoderConfig
from mil import Bag, Classes, FitConfig, Fold, Preparation, TrainConfig, course
from mil.bags import LoadedBag, SlideRows
from mil.calibration import HeldOut
from mil.training import fold_models
from mil.training.fold_models import FoldModels
from mil.training.side_by_side import side_by_side
from tiling import GridConfig, TissueConfig

CLASSES = Classes(("normal", "tumour"), has_negative=True)
N_BAGS = 24


def models(base: Path, seed: int = 0, **settings: int) -> FoldModels:
    draw, bags = np.random.default_rng(0), []
    for i in range(N_BAGS):
        features = draw.normal(size=(10, 12)).astype(np.float32)
        features[: 3 * (i % 2), 0] += 1
        rows = SlideRows(f"s{i}", np.ones(10, bool), f"f{i}")
        bags.append(LoadedBag(Bag(f"s{i}", features), CLASSES.names[i % 2], (rows,), "encoder"))
    parts = [tuple(range(k, k + 8)) for k in (0, 8, 16)]
    folds = [Fold(str(k), parts[k], parts[k - 1], parts[k - 2]) for k in range(3)]
    preparation = Preparation(GridConfig(), TissueConfig(), EncoderConfig(), "float16")
    told = {name: str(value) for name, value in settings.items()}
    return FoldModels(base, TrainConfig(learner="mix", seed=seed), told, preparation, CLASSES, bags, folds)


def train(fitting: FoldModels) -> None:
    for fold in fitting.folds:
        fitting.of_fold(fold)
    fitting.final()


def fits(said: str) -> list[str]:
    """Return the fits that were done to their end, as stderr tells."""
    return [line.split(", 8 slides")[0].split(", 16 slides")[0] for line in said.splitlines()]


def test_each_fit_after_the_first_runs_for_the_epochs_that_validation_chose(tmp_path):
    fitting = models(tmp_path, epochs=60, patience=5)
    train(fitting)
    chosen = []
    for fold in fitting.folds:
        folder = fitting.folder(fold)
        curve = pd.read_csv(folder / "validation" / "metrics.csv").validation_loss
        chosen.append(1 + int(curve.argmin()))
        assert HeldOut.load(folder).n_epochs == chosen[-1]
        assert len(pd.read_csv(folder / "metrics.csv")) == chosen[-1]
    assert len(set(chosen)) > 1  # or this shows nothing
    assert len(pd.read_csv(tmp_path / "metrics.csv")) == round(np.median(chosen))


def test_no_test_bag_has_a_say_in_the_epochs(tmp_path):
    first, other = (models(tmp_path / name, epochs=60, patience=5) for name in "ab")
    for i in first.folds[0].test:
        other.bags[i].bag.features[:] = 0
    assert first.of_fold(first.folds[0]).learner.config == other.of_fold(other.folds[0]).learner.config


def test_a_given_split_stops_by_its_validation_part(tmp_path):
    fitting = models(tmp_path, epochs=60, patience=5)
    fold = Fold("given", *(getattr(fitting.folds[0], part) for part in ("train", "validation", "test")))
    fitting.of_fold(fold)
    curve = pd.read_csv(tmp_path / "metrics.csv").validation_loss
    assert HeldOut.load(tmp_path).n_epochs == 1 + int(curve.argmin()) == len(curve) - 5


@pytest.mark.parametrize("stopped_fit", [1, 2])
def test_a_stopped_fold_goes_on_in_the_fit_and_epoch_where_it_was(tmp_path, monkeypatch, capsys, stopped_fit):
    left = ["fold 0", "fold 0, all but test"][stopped_fit - 1 :]
    monkeypatch.setattr(course, "EVERY_S", 0)
    whole, again = models(tmp_path / "whole", epochs=6), models(tmp_path / "again", epochs=6)
    for each in (whole, again):  # both fits warn, each in its own words
        for part, n in (("train", 1), ("validation", 1)):
            for i in getattr(each.folds[0], part)[:n]:
                each.bags[i] = replace(each.bags[i], bag=Bag(f"s{i}", np.zeros((0, 12), np.float32)))
    whole.of_fold(whole.folds[0])
    begun, done = [], []

    @contextmanager
    def stopping(title):
        begun.append(title)

        def report(figures):
            done.append(figures["epoch"])
            if len(begun) == stopped_fit and figures["epoch"] == 4:
                raise KeyboardInterrupt

        yield report

    monkeypatch.setattr(fold_models, "fit_progress", stopping)
    with pytest.raises(KeyboardInterrupt):
        again.of_fold(again.folds[0])
    assert len(list(tmp_path.rglob("checkpoint.safetensors"))) == 1
    done.clear()
    begun += ["never stop again"] * 9
    capsys.readouterr()
    again.of_fold(again.folds[0])
    assert fits(capsys.readouterr().err) == [f"train: {title}" for title in left]
    assert done == [4, 5, *range(6)][: 2 + 6 * (len(left) - 1)]
    names = ("config.json", "weights.safetensors", "metrics.csv", "held_out.safetensors")
    for name in (*names, "validation/metrics.csv"):
        files = [each.folder(each.folds[0]) / name for each in (whole, again)]
        assert files[0].read_bytes() == files[1].read_bytes(), name
    assert not list(tmp_path.rglob("checkpoint*"))


@pytest.mark.parametrize("method", ["_held_out", "_save"])
def test_a_fit_that_was_stopped_before_its_result_was_kept_is_not_repeated(tmp_path, monkeypatch, method):
    monkeypatch.setattr(course, "EVERY_S", 0)
    fitting, done = models(tmp_path, epochs=6), []

    @contextmanager
    def counting(title):
        yield lambda figures: done.append((title, figures["epoch"]))

    monkeypatch.setattr(fold_models, "fit_progress", counting)
    with monkeypatch.context() as stopping:
        stopping.setattr(FoldModels, method, stop_here)
        with pytest.raises(KeyboardInterrupt):
            fitting.of_fold(fitting.folds[0])
    before = list(done)
    fitting.of_fold(fitting.folds[0])
    titles = ("fold 0", "fold 0, all but test")
    assert done == [(title, float(epoch)) for title in titles for epoch in range(6)]
    assert len(before) == {"_held_out": 6, "_save": 12}[method]


def stop_here(*_):
    raise KeyboardInterrupt


def test_a_fit_in_this_process_shows_its_progress_however_many_go_side_by_side(tmp_path, monkeypatch):
    shown = []

    @contextmanager
    def told(title):
        shown.append(title)
        yield lambda figures: None

    monkeypatch.setattr(fold_models, "fit_progress", told)
    train(replace(models(tmp_path, epochs=1), how=FitConfig(jobs=2)))
    assert shown[-1] == "final model"


@pytest.mark.slow
def test_a_worker_has_a_parent_and_shows_no_progress():
    inside = "__import__('multiprocessing').parent_process() is None"
    assert side_by_side(eval, [inside, inside], 2) == [False, False]


def test_what_was_held_out_from_another_training_is_not_taken_over(tmp_path, monkeypatch, capsys):
    models(tmp_path, epochs=2).of_fold(models(tmp_path).folds[0])
    capsys.readouterr()
    fitting = models(tmp_path, seed=1, epochs=2)
    fitting.of_fold(fitting.folds[0])
    assert fits(capsys.readouterr().err) == ["train: fold 0", "train: fold 0, all but test"]


def test_a_swept_fold_has_no_say_in_the_epochs_of_other_options(tmp_path):
    rates = {"0": "0.02", "1": "0.02", "2": "0.0002", "": "0.02"}
    swept = {name: {"learning_rate": rate} for name, rate in rates.items()}
    fitting = replace(models(tmp_path, epochs=60, patience=5), swept=swept)
    train(fitting)
    chosen = [HeldOut.load(fitting.folder(fold)).n_epochs for fold in fitting.folds]
    own = round(np.median(chosen[:2]))
    assert round(np.median(chosen)) != own  # or this shows nothing
    assert len(pd.read_csv(tmp_path / "metrics.csv")) == own


def test_models_of_folds_that_are_no_more_do_not_stay(tmp_path):
    fitting = models(tmp_path, epochs=1)
    fitting.fitted()
    replace(fitting, folds=fitting.folds[:2]).fitted()
    assert sorted(path.name for path in (tmp_path / "folds").iterdir()) == ["0", "1"]
    parts = (getattr(fitting.folds[0], part) for part in ("train", "validation", "test"))
    replace(fitting, folds=[Fold("given", *parts)]).fitted()
    assert [path.parent for path in tmp_path.rglob("recipe.json")] == [tmp_path]
