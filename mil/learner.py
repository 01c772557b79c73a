"""What every learner is: fitted on bags and bag labels, asked for slide and tile probabilities, saved."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from tiling import ConfigError, FormatError, Registry, SlidebagError, replacing

from .bag import Bag, check_features
from .classes import Classes, Labels, check_candidates, check_labels, multi_hot
from .course import Course, Report, Validation
from .model_files import MODEL_FORMAT_VERSION, read_config
from .threads import one_thread

NO_TISSUE = "no tissue"  # the flag of a bag without instances


@dataclass(frozen=True)
class Prediction:
    """What a learner says of one bag.

    `probability` float32 (C,) sums to 1, except where the classes do not exclude each other: there each
    is the probability that the bag is of that class, and that of the negative class that it is of none.
    `tile_probability` float32 (N, T), T = len(tile_names), rows always sum to 1; `prototype` int16 (N,),
    the nearest one, -1 where the learner has none: p is number p % n of tile class p // n, n =
    `Learner.n_prototypes`. `prototype_distance` float32 (N,) is one minus the cosine to it, 0 to 2, or None.
    """

    bag_id: str
    probability: np.ndarray
    tile_probability: np.ndarray
    prototype: np.ndarray
    flags: tuple[str, ...] = ()
    prototype_distance: np.ndarray | None = field(default=None, kw_only=True)


class DivergedError(SlidebagError):
    """A fit whose numbers are none any more."""


LabelledBags = tuple[Sequence[Bag], Labels | np.ndarray]


class Learner(ABC):
    """Fitted on bags and their labels, and on what a user annotated: no learner is ever handed the truth.

    A new learner sets `config_class`, is filed in LEARNERS and gives the four methods at the end.
    """

    name: ClassVar[str]
    config_class: ClassVar[type]
    heeds_annotations: ClassVar[bool] = False  # whether it learns from the candidates of single instances
    heeds_order: ClassVar[bool] = False  # whether another order of its tiles is another bag

    def __init__(self, config: Any = None) -> None:
        self.config: Any = self.config_class() if config is None else config
        self.classes: Classes = Classes(("negative", "positive"), has_negative=True)
        self.dim = 0  # of the features it was fitted on; 0 before
        self.n_prototypes = 0  # of each tile class
        self.warnings: list[str] = []  # what went wrong in fitting and what to change
        self.n_epochs = 0  # how many validation chose; 0 where it had no say
        self.history: list[dict[str, float]] = []  # the figures of each epoch of the last fit

    def fit(  # noqa: PLR0913 - what may be left out is named
        self,
        bags: Sequence[Bag],
        labels: Labels | np.ndarray,
        classes: Classes,
        *,
        seed: int,
        report: Report | None = None,
        checkpoint: Path | None = None,
        validation: LabelledBags | None = None,
        keep: Callable[[], None] | None = None,
    ) -> None:
        """Fit on `bags`, whose classes are `labels`.

        Labels are int (B,), indices into `classes.names`, or where the classes do not exclude each other
        bool (B, C). `report` is called after every epoch with its figures. Equal arguments give an equal
        model, also if the fit was stopped meanwhile: it goes on from the file `checkpoint`, which is
        written every half minute and removed at the end, after `keep`, which writes what is to stay: a kill
        in between costs no fit. That of another fit is not used. `validation` has bags to stop early by and
        their labels; a learner that does not heed it does not see it.

        Raises:
            SlidebagError: labels that do not fit, one class only, annotations that the label rules out,
                features that cannot be learned from, no validation bags for a learner that heeds them.
            DivergedError: the fit came to no number.
        """
        self.warnings = []
        truth, filled = _known(bags, labels, classes)
        if len(filled) < len(bags):
            left_out = ", ".join(bag.id for bag in bags if not len(bag))
            self.warnings.append(f"bags without instances were left out of the training: {left_out}")
        check_labels(truth[filled], classes)
        chosen = [bags[i] for i in filled]
        for bag in chosen:
            check_features(bag, chosen[0].features.shape[1], f"like {chosen[0].id}")
        for bag, is_of in zip(chosen, truth[filled], strict=True):
            if bag.candidates is not None:
                check_candidates(bag.id, bag.candidates, is_of, classes)
        if not self.heeds_annotations and any(bag.candidates is not None for bag in chosen):
            self.warnings.append(f"the learner {self.name!r} does not heed annotations; slidebag does")
        n_viewed = sum(bag.views is not None for bag in chosen)
        if 0 < n_viewed < len(chosen):
            self.warnings.append(
                f"only {n_viewed} of {len(chosen)} bags have views: extract all with the same --views"
            )
        self.classes, self.dim = classes, chosen[0].features.shape[1]
        known = np.asarray(labels)[filled].tolist()
        try:
            course = Course(report, self._validation(validation))
            if checkpoint is not None:
                self.warnings += self._resume(course, checkpoint, chosen, known, seed)
            with one_thread():
                self._fit(chosen, known, seed, course)
            self._check_finite()
        except BaseException:
            self.dim = 0  # it is not fitted: it neither predicts nor is saved
            raise
        self.history = course.history
        if keep is not None:
            keep()
        course.finish()

    def _resume(
        self, course: Course, checkpoint: Path, bags: Sequence[Bag], labels: Labels, seed: int
    ) -> list[str]:
        """Go on from a checkpoint of this very fit; return what is to be warned of."""
        aside, aside_labels = course.validation or ([], None)
        told = [asdict(self.config), asdict(self.classes), seed, labels, aside_labels]
        return course.resume(checkpoint, [MODEL_FORMAT_VERSION, self.name, *told], [*bags, *aside])

    def _check_finite(self) -> None:
        broken = [key for key, value in self._state().items() if not np.isfinite(value).all()]
        if broken:
            raise DivergedError(
                f"the learner {self.name!r} came to no number in {', '.join(broken[:3])}",
                hint="give a lower learning_rate",
            )

    @property
    def heeds_validation(self) -> bool:
        """Whether it ends its fit by the loss on validation bags."""
        return False

    def _validation(self, given: LabelledBags | None) -> Validation | None:
        """Return the validation bags that are not empty, and their labels, if they are heeded."""
        if not self.heeds_validation:
            return None
        bags, labels = given or ([], [])
        filled = _known(bags, labels, self.classes)[1] if len(bags) else []
        if not len(filled):
            raise ConfigError(
                f"the learner {self.name!r} is to stop early, but there are no validation bags",
                hint="give some, or patience=0",
            )
        read = [replace(bags[i], views=None) for i in filled]
        for bag in read:
            check_features(bag, self.dim, "like the training's")
        return read, np.asarray(labels)[filled].tolist()

    def predict(self, bag: Bag) -> Prediction:
        """Return the probabilities of a bag and its tiles, both from one pass over the instances.

        Raises:
            SlidebagError: the learner is not fitted, or the features are of another dim or not finite.
        """
        if not self.dim:
            raise SlidebagError(f"the learner {self.name!r} has not been fitted", hint="fit or load it first")
        if not len(bag):
            return self._predict_nothing(bag)
        bag = replace(bag, candidates=None, views=None)
        check_features(bag, self.dim, "which the model was fitted on")
        return self._predict(bag)

    def instance_head(self) -> Any:
        """Return the torch module from features float32 (n, D) to tile margins (n, K), or ConfigError."""
        raise ConfigError(
            f"the learner {self.name!r} has no instance head to export",
            hint="use slidebag, mean, max, mix or noisy_or",
        )

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
            "warnings": self.warnings,
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
        told = read_config(folder)
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
        learner.classes = Classes(**told["classes"] | {"names": tuple(told["classes"]["names"])})
        learner.dim = told["dim"]
        learner.warnings = list(told.get("warnings", []))  # models of before do not tell
        learner._restore(load_tensors(weights))
        return learner

    def _predict_nothing(self, bag: Bag) -> Prediction:
        n_classes = len(self.classes.names)
        undecided = 1 / n_classes if self.classes.is_exclusive else 0.5
        return Prediction(
            bag.id,
            np.eye(n_classes, dtype=np.float32)[0]
            if self.classes.has_negative
            else np.full(n_classes, undecided, np.float32),
            np.zeros((0, len(self.classes.tile_names)), np.float32),
            np.zeros(0, np.int16),
            (NO_TISSUE,),
            prototype_distance=np.zeros(0, np.float32) if self.n_prototypes else None,
        )

    @abstractmethod
    def _fit(self, bags: Sequence[Bag], labels: Labels, seed: int, course: Course) -> None:
        """Fit on bags that are checked and not empty; `self.classes` and `self.dim` are set.

        Epochs are those of a stage of `course`, which carries on all that an epoch leaves to the next.
        """

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
    return LEARNERS[read_config(folder)["learner"]].load(folder)


def _known(
    bags: Sequence[Bag], labels: Labels | np.ndarray, classes: Classes
) -> tuple[np.ndarray, np.ndarray]:
    """Return of which classes bags are, bool (B, C), and which have instances."""
    if len(labels) != len(bags):
        raise SlidebagError(f"{len(labels)} labels for {len(bags)} bags", hint="give one label a bag")
    return multi_hot(labels, classes), np.array([i for i, bag in enumerate(bags) if len(bag)], int)
