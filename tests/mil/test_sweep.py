"""Options by a sweep: what matters is found, no test slide has a say, and a stopped search goes on."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import pytest
from bags_with_tumour import fold_models, folds_of, loaded_bags

from mil import LEARNERS, Bag, FitConfig, Fold, Learner, Prediction
from mil.learner import DivergedError
from mil.training import new_learner
from mil.training.sweep import Range, Sweep, Trial, best, propose, search_space, with_sweep
from tiling import ConfigError, SlidebagError

pytest.importorskip("optuna")


@dataclass(frozen=True, kw_only=True)
class PlantedConfig:
    """One option that matters, one that does not, and one that nothing may move."""

    angle: float = field(default=0.0, metadata={"help": "", "sweep": (0.0, 1.5)})
    idle: int = field(default=3, metadata={"help": "", "sweep": (1, 100, "log")})
    fixed: float = field(default=1.0, metadata={"help": ""})


class Planted(Learner):
    """Says how far a bag reaches along a direction; tumour is at `angle` 1.2 and noise elsewhere."""

    name = "planted"
    config: PlantedConfig
    config_class = PlantedConfig
    asked: Sequence[str] = ()

    def _fit(self, bags, labels, seed, course) -> None:
        type(self).asked = [*self.asked, *(f"fit {bag.id}" for bag in bags)]

    def _predict(self, bag: Bag) -> Prediction:
        type(self).asked = [*self.asked, f"predict {bag.id}"]
        along = bag.features[:, :2] @ np.array([np.cos(self.config.angle), np.sin(self.config.angle)])
        p = 1 / (1 + np.exp(-4 * (along - 1)))
        tiles = np.stack([1 - p, p], axis=1).astype(np.float32)
        return Prediction(bag.id, tiles.mean(axis=0), tiles, np.full(len(bag), -1, np.int16))

    def _state(self) -> dict[str, np.ndarray]:
        return {"nothing": np.zeros(1)}

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        pass


@pytest.fixture
def planted(monkeypatch):
    monkeypatch.setattr(LEARNERS, "_items", dict(LEARNERS._items))
    LEARNERS.register("planted")(Planted)
    monkeypatch.setattr(Planted, "asked", [])


def bags_at(angle: float, n_bags: int = 36):
    """Bags whose tumour lies at an angle of the first two axes, and whose noise lies across it."""
    draw = np.random.default_rng(2)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    bags = []
    for each, label in zip(loaded_bags(n_bags, n_tiles=8), [0, 1] * n_bags, strict=False):
        along, across = draw.normal(label, 0.6, (8, 1)), draw.normal(0, 2, (8, 1))
        features = (np.hstack([along, across]) @ turn).astype(np.float32)
        bags.append(replace(each, bag=Bag(each.bag.id, features)))
    return bags


def models_of(folder, n_trials=20, **more):
    bags = more.pop("bags", None) or bags_at(1.2)
    return fold_models(
        folder, "planted", more.pop("settings", {}), bags=bags, how=FitConfig(sweep=n_trials), **more
    )


def chosen(models):
    return with_sweep(models).swept


@pytest.mark.usefixtures("planted")
def test_a_planted_option_that_matters_is_found_and_used(tmp_path):
    models = with_sweep(models_of(tmp_path))
    found = {name: float(told["angle"]) for name, told in models.swept.items()}
    assert set(found) == {"", "0", "1", "2"}
    assert all(abs(angle - 1.2) < 0.25 for angle in found.values())
    of_folds, final = models.fitted()
    assert final.learner.config.angle == found[""]
    assert [each.learner.config.angle for each in of_folds] == [found[name] for name in "012"]
    assert all("fixed" not in told for told in models.swept.values())


@pytest.mark.usefixtures("planted")
def test_trials_see_training_bags_and_are_judged_by_validation_alone(tmp_path):
    models = models_of(tmp_path, 3)
    fold = models.folds[1]
    Sweep(models, search_space("planted", {}), 3).of_fold(fold)
    names = [{models.bags[i].bag.id for i in part} for part in (fold.train, fold.validation, fold.test)]
    assert {a.removeprefix("fit ") for a in Planted.asked if a.startswith("fit")} == names[0]
    assert {a.removeprefix("predict ") for a in Planted.asked if a.startswith("predict")} == names[1]
    assert not any(a.split(" ", 1)[1] in names[2] for a in Planted.asked)


@pytest.mark.usefixtures("planted")
def test_labels_and_features_of_test_slides_change_nothing_in_what_is_chosen(tmp_path):
    given = [replace(folds_of(36)[0], name="given")]
    for number, folds in enumerate([folds_of(36), given]):
        plain = models_of(tmp_path / f"plain {number}", 6, folds=folds)
        told = chosen(plain)
        for fold in folds:
            bags = list(plain.bags)
            for place, i in enumerate(fold.test):
                other = plain.bags[fold.test[place - 1]]
                bags[i] = replace(
                    other, bag=Bag(bags[i].bag.id, other.bag.features + 1), slides=bags[i].slides
                )
            assert [b.label for b in bags] != [b.label for b in plain.bags]
            changed = chosen(models_of(tmp_path / f"changed {number} {fold.name}", 6, folds=folds, bags=bags))
            assert changed[fold.name] == told[fold.name]
    assert told[""] == told["given"]


@pytest.mark.usefixtures("planted")
def test_a_search_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path, monkeypatch):
    whole = chosen(models_of(tmp_path / "whole", 8))
    calls = []

    def stopped(self, asked):
        calls.append(asked)
        if len(calls) > 11:
            raise KeyboardInterrupt
        return loss(self, asked)

    loss = Sweep._loss
    monkeypatch.setattr(Sweep, "_loss", stopped)
    with pytest.raises(KeyboardInterrupt):
        chosen(models_of(tmp_path / "stopped", 8))
    monkeypatch.setattr(Sweep, "_loss", loss)
    assert chosen(models_of(tmp_path / "stopped", 8)) == whole
    assert (tmp_path / "stopped/sweep.csv").read_bytes() == (tmp_path / "whole/sweep.csv").read_bytes()
    monkeypatch.setattr(Sweep, "_loss", None)  # nothing is fitted again
    assert chosen(models_of(tmp_path / "whole", 8)) == whole


@pytest.mark.usefixtures("planted")
def test_trials_of_other_labels_options_or_seeds_are_not_kept(tmp_path):
    models = models_of(tmp_path, 2)
    sweep = Sweep(models, search_space("planted", {}), 2)
    fold = models.folds[0]
    sweep.of_fold(fold)
    n = len(Planted.asked)
    sweep.of_fold(fold)
    assert len(Planted.asked) == n
    replace(sweep, models=replace(models, config=replace(models.config, seed=1))).of_fold(fold)
    assert len(Planted.asked) > n


@pytest.mark.usefixtures("planted")
def test_the_files_tell_all_trials_and_the_chosen_settings(tmp_path):
    found = chosen(models_of(tmp_path, 4))
    rows = pd.read_csv(tmp_path / "sweep.csv", dtype={"fold": str}, keep_default_na=False)
    assert {name: len(own) for name, own in rows[rows.fold != ""].groupby("fold")} == {"0": 4, "1": 4, "2": 4}
    assert rows.groupby("fold").is_chosen.sum().tolist() == [1, 1, 1, 1]
    for name, place in {"": tmp_path, "2": tmp_path / "folds/2"}.items():
        told = json.loads((place / "sweep.json").read_text())
        assert {k: str(v) for k, v in told["chosen"].items()} == found[name]
        own = rows[(rows.fold == name) & rows.is_chosen].iloc[0]
        assert own.log_loss == min(rows[rows.fold == name].log_loss)
        assert own.angle == told["chosen"]["angle"]
    first = rows[(rows.fold == "0") & (rows.trial == 0)].iloc[0]
    assert (first.angle, first.idle) == (0.0, 3)  # the defaults


@pytest.mark.usefixtures("planted")
def test_a_set_option_is_out_of_the_search(tmp_path):
    found = chosen(models_of(tmp_path, 3, settings={"idle": "7"}))
    assert all(set(told) == {"angle"} for told in found.values())
    with pytest.raises(ConfigError, match="no option to sweep that is not set"):
        chosen(models_of(tmp_path, 3, settings={"idle": "7", "angle": "1"}))


def test_a_sweep_stops_its_trials_early_where_they_may(tmp_path):
    how, settings = FitConfig(sweep=2), {"epochs": "40", "patience": "2"}
    assert set(chosen(fold_models(tmp_path, "mix", settings, how=how))) == {"", "0", "1", "2"}


@pytest.mark.slow
def test_a_sweep_is_the_same_however_many_folds_at_a_time(tmp_path):
    told = []
    for jobs in (1, 2):
        how = FitConfig(sweep=2, jobs=jobs)
        told.append(chosen(fold_models(tmp_path / str(jobs), settings={"epochs": "2"}, how=how)))
    assert told[0] == told[1]
    assert (tmp_path / "1/sweep.csv").read_bytes() == (tmp_path / "2/sweep.csv").read_bytes()


def test_proposals_are_the_arguments_alone_and_stay_in_range():
    space = {"a": Range(0.5, 0.1, 10.0, is_log=True), "n": Range(4, 2, 9)}
    assert propose(space, [], seed=0) == {"a": 0.5, "n": 4}
    trials = [Trial({"a": 0.5, "n": 4}, 1.0)]
    for _ in range(14):
        options = propose(space, trials, seed=0)
        assert options == propose(space, trials, seed=0)
        assert 0.1 <= options["a"] <= 10
        assert options["n"] in range(2, 10)
        trials.append(Trial(options, float(options["n"])))
    assert propose(space, trials, seed=1) != propose(space, trials, seed=0)


def test_a_trial_that_came_to_no_number_is_passed_over():
    trials = [Trial({"a": 0.1}, None), Trial({"a": 0.2}, 2.0), Trial({"a": 0.3}, 2.0)]
    assert best(trials).options == {"a": 0.2}
    assert 0 <= propose({"a": Range(0.5, 0.0, 1.0)}, trials, seed=0)["a"] <= 1
    with pytest.raises(SlidebagError, match="none of 1 trials could be judged"):
        best(trials[:1])


@pytest.mark.usefixtures("planted")
def test_a_validation_part_without_tiles_names_its_fold(tmp_path):
    bags = bags_at(1.2)
    given = Fold("given", tuple(range(20)), (20, 21), tuple(range(22, 36)))
    for i in given.validation:
        bags[i] = replace(bags[i], bag=Bag(bags[i].bag.id, bags[i].bag.features[:0]))
    with pytest.raises(SlidebagError, match="sweep of fold given: none of 2 trials"):
        chosen(models_of(tmp_path, 2, bags=bags, folds=[given]))


@pytest.mark.parametrize("name", list(LEARNERS))
def test_every_learner_has_options_to_sweep_with_defaults_inside(name):
    space = search_space(name, {})
    assert 1 < len(space) < 8
    for option, told in space.items():
        assert told.low <= told.default <= told.high
        for value in (told.low, told.high):
            assert getattr(new_learner(name, {option: str(value)}).config, option) == value


def test_what_rounding_left_chooses_nothing():
    losses = [0.70567712, 0.70567709, None, 0.70567708]
    assert best([Trial({"angle": k}, loss) for k, loss in enumerate(losses)]).options == {"angle": 0}


def test_without_optuna_the_way_out_is_told(monkeypatch):
    monkeypatch.setattr("mil.training.sweep.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="optuna, which is not installed") as told:
        search_space("mean", {})
    assert 'pip install "slidebag[sweep]"' in told.value.hint


@pytest.mark.usefixtures("planted")
@pytest.mark.parametrize("fails_in", ["predict", "fit"])
def test_options_that_lead_to_no_number_are_a_trial_without_one(tmp_path, monkeypatch, fails_in):
    method = f"_{fails_in}"
    plain = getattr(Planted, method)

    def failing(self, given, *more):
        if self.config.angle > 0:  # not the defaults
            return plain(self, given, *more)
        if fails_in == "fit":
            raise DivergedError("no number")
        told = plain(self, given)
        return replace(told, probability=told.probability * np.float32(np.nan))

    monkeypatch.setattr(Planted, method, failing)
    models = models_of(tmp_path, 3)
    trials = Sweep(models, search_space("planted", {}), 3).of_fold(models.folds[0])
    assert [trial.log_loss is None for trial in trials] == [True, False, False]


@dataclass(frozen=True, kw_only=True)
class LaterConfig(PlantedConfig):
    """The options of a later release, where one that nobody sets has another default."""

    fixed: float = field(default=2.0, metadata={"help": ""})


@pytest.mark.usefixtures("planted")
@pytest.mark.parametrize(
    "changed",
    [("mil.training.sweep.MODEL_FORMAT_VERSION", 0), (Planted, "config_class", LaterConfig)],
    ids=["another model format", "another default"],
)
def test_trials_of_a_learner_that_has_changed_are_not_kept(changed, tmp_path, monkeypatch):
    models = models_of(tmp_path, 2)
    sweep = Sweep(models, search_space("planted", {}), 2)
    sweep.of_fold(models.folds[0])
    n = len(Planted.asked)
    monkeypatch.setattr(*changed)
    sweep.of_fold(models.folds[0])
    assert len(Planted.asked) > n
