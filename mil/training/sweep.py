"""`train --sweep`: options by Optuna, those of a fold on its own validation bags alone (decision 15)."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd

from mil.calibration import margins_of, slide_figures
from mil.cohort import Fold
from mil.learner import LEARNERS, DivergedError
from mil.model_files import MODEL_FORMAT_VERSION, read_versioned
from tiling import ConfigError, FormatError, SlidebagError, fingerprint, replacing

from .config import new_learner
from .fold_models import FoldModels, identity, named
from .side_by_side import side_by_side

Options = Mapping[str, int | float]
_FILE, _TABLE, _VERSION = "sweep.json", "sweep.csv", 1


@dataclass(frozen=True)
class Range:
    """Where an option is searched for: from `low` to `high`, by its logarithm if `is_log`."""

    default: int | float
    low: int | float
    high: int | float
    is_log: bool = False


@dataclass(frozen=True)
class Trial:
    """Options that were tried, and the log loss of validation bags; None where a fit came to no number."""

    options: Options
    log_loss: float | None


def search_space(learner: str, settings: Mapping[str, str]) -> dict[str, Range]:
    """Return the options that a sweep of a learner moves, by name: all with `sweep` but those in `settings`.

    `metadata["sweep"]` of an option in the learner's config class is its least and largest value, and
    "log" where it is searched for by its logarithm.

    Raises:
        ConfigError: there is none, or Optuna is not installed.
    """
    if find_spec("optuna") is None:
        raise ConfigError(
            "--sweep needs optuna, which is not installed", hint='pip install "slidebag[sweep]"'
        )
    space = {}
    for option in fields(LEARNERS[learner].config_class):
        if "sweep" in option.metadata and option.name not in settings:
            low, high, *scale = option.metadata["sweep"]
            space[option.name] = Range(cast(float, option.default), low, high, is_log=scale == ["log"])
    if not space:
        raise ConfigError(
            f"learner {learner!r} has no option to sweep that is not set",
            hint="leave out --sweep, or a --set",
        )
    return space


def propose(space: Mapping[str, Range], trials: Sequence[Trial], seed: int) -> Options:
    """Return the options to try after `trials`: first the defaults, then what TPE makes of them.

    Tree-structured Parzen estimators (Bergstra et al. 2011) by Optuna (arXiv 1907.10902). Nothing but
    the arguments decides, so a search that was stopped goes on as if it had not been.
    """
    if not trials:
        return {name: each.default for name, each in space.items()}
    import optuna  # slow to import, and an extra

    ranges = {name: _distribution(each) for name, each in space.items()}
    done = [
        optuna.trial.create_trial(params=dict(t.options), distributions=ranges, value=t.log_loss)
        for t in trials
        if t.log_loss is not None
    ]
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # or it tells of every study on stderr
    try:
        sampler = optuna.samplers.TPESampler(seed=(seed + len(trials)) % 2**32)
        study = optuna.create_study(sampler=sampler)
        study.add_trials(done)
        return dict(study.ask(ranges).params)
    finally:
        optuna.logging.set_verbosity(level)


def _distribution(told: Range) -> Any:
    from optuna.distributions import FloatDistribution, IntDistribution

    if isinstance(told.default, int):
        return IntDistribution(int(told.low), int(told.high), log=told.is_log)
    return FloatDistribution(told.low, told.high, log=told.is_log)


def with_sweep(models: FoldModels) -> FoldModels:
    """Return models of the settings that a sweep finds, the same ones where none is asked for."""
    if not models.how.sweep:
        return models
    space = search_space(models.config.learner, models.settings)
    return replace(models, swept=Sweep(models, space, models.how.sweep).settings())


@dataclass(frozen=True)
class Sweep:
    """The search for options in `space` of the models of a training, `n_trials` in each fold.

    `sweep.json` beside each model keeps its trials, so that a search that was stopped goes on.
    """

    models: FoldModels
    space: Mapping[str, Range]
    n_trials: int

    def settings(self) -> dict[str, dict[str, str]]:
        """Return the settings found for each fold, by its name, and for the final model, by "".

        A fold's are those that explain its validation part best: no slide of its test part has a say. The
        final model's are those of the folds that explain all validation parts best. `sweep.csv` beside
        it shows all trials.

        Raises:
            SlidebagError: no trial came to a number.
        """
        folds = self.models.folds
        found = side_by_side(self.of_fold, folds, self.models.how.jobs)
        by_fold = {fold.name: trials for fold, trials in zip(folds, found, strict=True)}
        everything = by_fold if len(folds) == 1 else by_fold | {"": self._of_all(found)}
        _write_table(self.models.base / _TABLE, everything)
        chosen = {name: _texts(best(trials).options) for name, trials in everything.items()}
        return {"": chosen[folds[0].name]} | chosen

    def of_fold(self, fold: Fold) -> list[Trial]:
        """Return the trials of a fold, in their order; those that are there and still right are kept."""
        path, expected = self.models.folder(fold) / _FILE, self._fingerprint(fold)
        trials = _read(path, expected)[: self.n_trials]
        with named(f"sweep of fold {fold.name}"):
            while len(trials) < self.n_trials:
                options = propose(self.space, trials, self.models.config.seed)
                trials.append(Trial(options, self._loss((fold, options))))
                _tell(fold, trials, self.n_trials)
                _save(path, expected, trials)
            _save(path, expected, trials)  # they may be fewer than there were
            best(trials)
        return trials

    def _loss(self, asked: tuple[Fold, Options]) -> float | None:
        """Return the log loss of a fold's validation bags by a learner of its training part, None if NaN."""
        (fold, options), models = asked, self.models
        learner = new_learner(models.config.learner, models.settings | _texts(options))
        try:
            learner.fit(
                models.bags_of(fold.train),
                models.labels(fold.train),
                models.classes,
                seed=models.config.seed,
                validation=(models.bags_of(fold.validation), models.labels(fold.validation)),
            )
        except DivergedError:
            return None
        judged = [i for i in fold.validation if len(models.bags[i].bag)]
        if not judged:
            return None
        probability = np.stack([learner.predict(models.bags[i].bag).probability for i in judged])
        margins = margins_of(probability, is_exclusive=models.classes.is_exclusive)
        if not np.isfinite(margins).all():
            return None
        return slide_figures(margins, models.labels(judged), models.classes)["log_loss"]

    def _of_all(self, found: Sequence[Sequence[Trial]]) -> list[Trial]:
        """Judge the best options of each fold by the validation parts of all: their mean log loss."""
        models, asked = self.models, [best(trials).options for trials in found]
        asked = [options for k, options in enumerate(asked) if options not in asked[:k]]
        path = models.base / _FILE
        expected = fingerprint([self._fingerprint(fold) for fold in models.folds], asked)
        trials = _read(path, expected)
        if not trials:
            pairs = [(fold, options) for options in asked for fold in models.folds]
            losses = iter(side_by_side(self._loss, pairs, models.how.jobs))
            trials = [Trial(options, _mean([next(losses) for _ in models.folds])) for options in asked]
            _save(path, expected, trials)
        return trials

    def _fingerprint(self, fold: Fold) -> str:
        """Return what changes with all that the trials of a fold depend on; its test part is not in it."""
        models = self.models
        bags = [[identity(models.bags[i]) for i in part] for part in (fold.train, fold.validation)]
        config, space = models.config, {name: asdict(each) for name, each in self.space.items()}
        options = asdict(new_learner(config.learner, models.settings).config)  # those not set have defaults
        told = (config.learner, config.seed, options, space, asdict(models.classes))
        return fingerprint(MODEL_FORMAT_VERSION, *told, bags)


def best(trials: Sequence[Trial]) -> Trial:
    """Return the trial of the least log loss, of equal ones the first; SlidebagError if none has any.

    What differs by rounding alone is equal: options that change no slide are not to be chosen by it.
    """
    judged = [(round(trial.log_loss, 6), k) for k, trial in enumerate(trials) if trial.log_loss is not None]
    if not judged:
        raise SlidebagError(
            f"none of {len(trials)} trials could be judged by validation bags",
            hint="give the validation part bags with tiles and, where fits come to no number, a lower "
            "learning_rate; or leave out --sweep",
        )
    return trials[min(judged)[1]]


def _mean(losses: Sequence[float | None]) -> float | None:
    told = [loss for loss in losses if loss is not None]
    return float(np.mean(told)) if len(told) == len(losses) else None


def _texts(options: Options) -> dict[str, str]:
    return {name: str(value) for name, value in options.items()}


def _tell(fold: Fold, trials: Sequence[Trial], n_trials: int) -> None:
    loss = trials[-1].log_loss
    told = "no number" if loss is None else f"log loss {loss:.4g}"
    options = ", ".join(f"{name} {value:.4g}" for name, value in trials[-1].options.items())
    print(f"train: fold {fold.name}, trial {len(trials)}/{n_trials}: {told} ({options})", file=sys.stderr)


def _read(path: Path, expected: str) -> list[Trial]:
    """Return the trials in a file if they are of this very search."""
    if not path.is_file():
        return []
    try:
        told = read_versioned(path, _VERSION)
        if told["fingerprint"] != expected:
            return []
        return [Trial(each["options"], each["log_loss"]) for each in told["trials"]]
    except (KeyError, TypeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise FormatError(f"{path}: damaged ({error!r})", hint="remove it") from error


def _save(path: Path, expected: str, trials: Sequence[Trial]) -> None:
    has_any = any(trial.log_loss is not None for trial in trials)
    told = {
        "format": "slidebag.sweep",
        "format_version": _VERSION,
        "fingerprint": expected,
        "chosen": best(trials).options if has_any else None,
        "trials": [asdict(trial) for trial in trials],
    }
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(told, indent=2) + "\n")


def _write_table(path: Path, by_fold: Mapping[str, Sequence[Trial]]) -> None:
    rows = [
        {"fold": name, "trial": k, "log_loss": trial.log_loss, "is_chosen": trial is best(trials)}
        | {**trial.options}
        for name, trials in by_fold.items()
        for k, trial in enumerate(trials)
    ]
    with replacing(path) as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False)
