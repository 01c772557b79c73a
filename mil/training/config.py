"""What a training is told: which learner with which options, what one bag is, how the cohort is divided."""

from dataclasses import dataclass, field, fields
from typing import Any

from mil.learner import LEARNERS, Learner
from tiling import ConfigError

BAGS = ("slide", "patient")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """What is fitted, and how the cohort is divided."""

    learner: str = field(default="slidebag", metadata={"help": "which learner; see docs/learners.md"})
    folds: int = field(default=5, metadata={"help": "folds by patient, unless the table gives a split"})
    seed: int = field(default=0, metadata={"help": "seed of the folds and of the fitting"})
    negative: str = field(
        default="", metadata={"help": "the negative label; 'none' if all labels are positive (subtypes)"}
    )
    bag: str = field(
        default="slide", metadata={"help": "what one bag and one prediction is of: slide or patient"}
    )
    level: float = field(
        default=0.9, metadata={"help": "share of slides whose set of classes has to hold the true one"}
    )

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 1 << 32:
            raise ConfigError(f"seed is {self.seed}", hint=f"give 0 to {(1 << 32) - 1}")
        if self.bag not in BAGS:
            raise ConfigError(f"bag is {self.bag!r}", hint=f"choose {' or '.join(BAGS)}")
        if not 0 < self.level < 1:
            raise ConfigError(f"level is {self.level:g}", hint="give more than 0 and less than 1")


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """How a training goes about its fits; a model depends on `TrainConfig` and the learner's options."""

    jobs: int = field(
        default=1,
        metadata={"help": "folds fitted at a time, each in a process on one core; 0 is one a core"},
    )
    sweep: int = field(
        default=0,
        metadata={
            "help": "settings tried in each fold, of options not --set, judged by validation; 0 is none"
        },
    )
    tensorboard: bool = field(
        default=False, metadata={"help": "also write the figures of the fits for TensorBoard"}
    )

    def __post_init__(self) -> None:
        for name in ("jobs", "sweep"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} is {getattr(self, name)}", hint="give 0 or more")


_BOOLS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def new_learner(name: str, settings: dict[str, str]) -> Learner:
    """Return an unfitted learner; `settings` are its options as text, by name.

    Raises:
        ConfigError: no such learner or option, or a value that does not fit.
    """
    learner = LEARNERS[name]
    known = {f.name: type(f.default) for f in fields(learner.config_class)}
    parsed: dict[str, Any] = {}
    for key, text in settings.items():
        if key not in known:
            raise ConfigError(
                f"learner {name!r} has no option {key!r}", hint=f"choose from {', '.join(known)}"
            )
        try:
            parsed[key] = _BOOLS[text.lower()] if known[key] is bool else known[key](text)
        except (ValueError, KeyError) as error:
            raise ConfigError(f"option {key} is {text!r}", hint=f"give a {known[key].__name__}") from error
    return learner(learner.config_class(**parsed))
