"""What every learner is: fitted on bags and bag labels, asked for slide and tile probabilities, saved."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from tiling import ConfigError, FormatError, Registry, SlidebagError, replacing

MODEL_FORMAT_VERSION = 1
NO_TISSUE = "no tissue"  # the flag of a bag without instances

Report = Callable[[Mapping[str, float]], None]


@dataclass(frozen=True)
class Classes:
    """The classes a slide can have; `names[0]` is the negative one if there is one."""

    names: tuple[str, ...]
    has_negative: bool

    def __post_init__(self) -> None:
        if len(self.names) < 2 or len(set(self.names)) < len(self.names):
            raise ConfigError(f"classes are {list(self.names)}", hint="give two or more different names")

    @property
    def tile_names(self) -> tuple[str, ...]:
        """Return the classes a tile can have: the first is negative, or background in subtyping."""
        return self.names if self.has_negative else ("background", *self.names)

    @property
    def n_positive(self) -> int:
        """Return how many classes a tile can show evidence of, which is one margin each."""
        return len(self.tile_names) - 1


@dataclass(frozen=True)
class Bag:
    """All instances of one slide or patient: `features` (N, D) float16 or float32, one row a tile."""

    id: str
    features: np.ndarray

    def __post_init__(self) -> None:
        if self.features.ndim != 2:
            raise SlidebagError(
                f"{self.id}: features have shape {self.features.shape}", hint="give one row a tile: (N, D)"
            )

    def __len__(self) -> int:
        return len(self.features)


@dataclass(frozen=True)
class Prediction:
    """What a learner says of one bag.

    `probability` float32 (C,) sums to 1; `tile_probability` float32 (N, T), T = len(tile_names),
    rows sum to 1; `prototype` int16 (N,), the nearest prototype, -1 where the learner has none.
    """

    bag_id: str
    probability: np.ndarray
    tile_probability: np.ndarray
    prototype: np.ndarray
    flags: tuple[str, ...] = ()


class Learner(ABC):
    """Fitted on bags and their labels alone: no learner is ever handed an instance label.

    A new learner sets `config_class`, is filed in LEARNERS and gives the four methods at the end.
    """

    name: ClassVar[str]
    config_class: ClassVar[type]
    heeds_order: ClassVar[bool] = False  # whether another order of its tiles is another bag

    def __init__(self, config: Any = None) -> None:
        self.config: Any = self.config_class() if config is None else config
        self.classes: Classes = Classes(("negative", "positive"), has_negative=True)
        self.dim = 0  # of the features it was fitted on; 0 before
        self.warnings: list[str] = []  # what went wrong in fitting and what to change

    def fit(
        self,
        bags: Sequence[Bag],
        labels: Sequence[int],
        classes: Classes,
        *,
        seed: int,
        report: Report | None = None,
    ) -> None:
        """Fit on `bags`, whose classes are `labels`, indices into `classes.names`.

        `report` is called after every epoch with its figures. Equal arguments give an equal model.

        Raises:
            SlidebagError: labels that do not fit, one class only, features that cannot be learned from.
        """
        self.warnings = []
        filled = [(bag, int(label)) for bag, label in zip(bags, labels, strict=True) if len(bag)]
        if len(filled) < len(bags):
            left_out = ", ".join(bag.id for bag in bags if not len(bag))
            self.warnings.append(f"bags without instances were left out of the training: {left_out}")
        _check_labels([label for _, label in filled], classes)
        for bag, _ in filled:
            _check_features(bag, filled[0][0].features.shape[1], f"like {filled[0][0].id}")
        self.classes, self.dim = classes, filled[0][0].features.shape[1]
        with _one_thread():
            self._fit([bag for bag, _ in filled], [label for _, label in filled], seed, report or _silent)

    def predict(self, bag: Bag) -> Prediction:
        """Return the probabilities of a bag and its tiles, both from one pass over the instances.

        Raises:
            SlidebagError: the learner is not fitted, or the features are of another dim or not finite.
        """
        if not self.dim:
            raise SlidebagError(f"the learner {self.name!r} has not been fitted", hint="fit or load it first")
        if not len(bag):
            return self._predict_nothing(bag)
        _check_features(bag, self.dim, "which the model was fitted on")
        return self._predict(bag)

    def save(self, folder: Path) -> None:
        """Write `config.json` and `weights.safetensors` into `folder`."""
        if not self.dim:
            raise SlidebagError(f"the learner {self.name!r} has not been fitted", hint="fit it before saving")
        weights = save_tensors({key: np.ascontiguousarray(value) for key, value in self._state().items()})
        told = {
            "format": "slidebag.model",
            "format_version": MODEL_FORMAT_VERSION,
            "learner": self.name,
            "config": asdict(self.config),
            "classes": asdict(self.classes),
            "dim": self.dim,
            "weights_sha256": hashlib.sha256(weights).hexdigest(),
        }
        # weights first: a config.json then never tells of weights that are not there yet
        with replacing(folder / "weights.safetensors") as path:
            path.write_bytes(weights)
        with replacing(folder / "config.json") as path:
            path.write_text(json.dumps(told, indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Return the learner saved in `folder`.

        Raises:
            FormatError: no model, a damaged one, one of another learner or of a newer version.
        """
        told = _read_config(folder)
        if told["learner"] != cls.name:
            raise FormatError(
                f"{folder}: saved by the learner {told['learner']!r}, wanted {cls.name!r}",
                hint="use load_learner, which finds the right one",
            )
        path = folder / "weights.safetensors"
        weights = path.read_bytes() if path.is_file() else b""
        if hashlib.sha256(weights).hexdigest() != told["weights_sha256"]:
            raise FormatError(f"{path}: not the weights that config.json tells of", hint="train again")
        try:
            learner = cls(cls.config_class(**told["config"]))
        except TypeError as error:
            raise FormatError(f"{folder / 'config.json'}: {error}", hint="train again") from error
        learner.classes = Classes(tuple(told["classes"]["names"]), told["classes"]["has_negative"])
        learner.dim = told["dim"]
        learner._restore(load_tensors(weights))
        return learner

    def _predict_nothing(self, bag: Bag) -> Prediction:
        n_classes = len(self.classes.names)
        uniform = np.full(n_classes, 1 / n_classes, np.float32)
        return Prediction(
            bag.id,
            np.eye(n_classes, dtype=np.float32)[0] if self.classes.has_negative else uniform,
            np.zeros((0, len(self.classes.tile_names)), np.float32),
            np.zeros(0, np.int16),
            (NO_TISSUE,),
        )

    @abstractmethod
    def _fit(self, bags: Sequence[Bag], labels: Sequence[int], seed: int, report: Report) -> None:
        """Fit on bags that are checked and not empty; `self.classes` and `self.dim` are set."""

    @abstractmethod
    def _predict(self, bag: Bag) -> Prediction:
        """Predict a bag that is checked and not empty."""

    @abstractmethod
    def _state(self) -> dict[str, np.ndarray]:
        """Return all that `_predict` needs beyond config, classes and dim."""

    @abstractmethod
    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Take over what `_state` gave; config, classes and dim are set."""


LEARNERS: Registry[type[Learner]] = Registry("learner")


def load_learner(folder: Path) -> Learner:
    """Return the learner saved in `folder`, whichever it is.

    Raises:
        FormatError: no model, a damaged one, or one of a newer version.
    """
    return LEARNERS[_read_config(folder)["learner"]].load(folder)


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        raise FormatError(f"{folder}: no config.json, so no model", hint="train one, or name its folder")
    try:
        told = json.loads(path.read_text())
    except ValueError as error:
        raise FormatError(f"{path}: not JSON ({error})", hint="train again") from error
    found = told.get("format_version") if isinstance(told, dict) else None
    if not isinstance(found, int):
        raise FormatError(
            f"{path}: format version {found}, this slidebag reads up to {MODEL_FORMAT_VERSION}",
            hint="name a folder that slidebag has saved a model in",
        )
    if found > MODEL_FORMAT_VERSION:
        raise FormatError(
            f"{path}: format version {found}, this slidebag reads up to {MODEL_FORMAT_VERSION}",
            hint="upgrade slidebag or train again with this version",
        )
    missing = {"learner", "config", "classes", "dim", "weights_sha256"} - told.keys()
    if missing:
        raise FormatError(f"{path}: lacks {', '.join(sorted(missing))}", hint="train again")
    return told


def _check_labels(labels: Sequence[int], classes: Classes) -> None:
    strange = sorted({label for label in labels if not 0 <= label < len(classes.names)})
    if strange:
        raise SlidebagError(
            f"labels {strange} are outside 0 to {len(classes.names) - 1}", hint="index into classes.names"
        )
    present = [classes.names[label] for label in sorted(set(labels))]
    if len(present) < 2:
        raise SlidebagError(
            f"the training bags are of {len(present)} class ({', '.join(present)}), wanted 2 or more",
            hint="add slides of another class",
        )
    if classes.has_negative and 0 not in labels:
        raise SlidebagError(
            f"no training bag is {classes.names[0]!r}, the negative class",
            hint="add negative slides, or say that there is no negative class",
        )


def _check_features(bag: Bag, dim: int, why: str) -> None:
    if bag.features.shape[1] != dim:
        raise SlidebagError(
            f"{bag.id}: features have dim {bag.features.shape[1]}, wanted {dim}, {why}",
            hint="extract them with the same encoder",
        )
    finite = np.isfinite(bag.features).all(axis=1)
    if not finite.all():
        raise SlidebagError(
            f"{bag.id}: features are not finite in {len(bag) - int(finite.sum())} of {len(bag)} instances",
            hint="extract them again",
        )


@contextmanager
def _one_thread() -> Iterator[None]:
    """Fit on one thread: the steps are small, threads that wait for each other cost more."""
    import torch  # slow to import, and needed by no verb but `train`

    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)


def _silent(figures: Mapping[str, float]) -> None:
    """Report to nobody."""
