"""The course of a fit: its epochs, what they report, and the checkpoint that a stopped fit goes on from."""

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from features import Checkpoint, Saved
from tiling import FormatError, fingerprint

from .bag import Bag
from .classes import Labels

Validation = tuple[list[Bag], Labels]
Report = Callable[[Mapping[str, float]], None]
EVERY_S = 30.0  # of work that is lost at most, besides the epoch that is begun


class Course:
    """The epochs of a fit, counted on over its stages.

    Where a fit goes on from a checkpoint, work in `once` that was done before is not done again, and the
    stage that was stopped begins after its last epoch that was written down, with all that it and the
    course carry as it was then. `history` has the reports of all epochs, also of those before.
    `validation` has bags that are not fitted on and their labels, if the fit may end by them.
    """

    def __init__(self, report: Report | None = None, validation: "Validation | None" = None) -> None:
        self.history: list[dict[str, float]] = []
        self.validation = validation
        self._report = report
        self._checkpoint: Checkpoint | None = None
        self._results: dict[str, Any] = {}
        self._carried: dict[str, Any] = {}
        self._saved: Saved | None = None
        self._written = time.monotonic()

    def resume(self, path: Path, what: Sequence[Any], bags: "Sequence[Bag]") -> list[str]:
        """Keep a checkpoint at `path`, and go on from what is there of this very fit: `what`, on `bags`.

        Return a warning where that is damaged, so that the fit begins anew.
        """
        told = [
            (bag.id, *map(_digest, (bag.features, bag.candidates, bag.views)), bag.patient) for bag in bags
        ]
        self._checkpoint = Checkpoint(path, fingerprint(*what, told))
        try:
            self._saved = self._checkpoint.read()
        except FormatError as error:
            return [f"{error.message}: the fit began anew"]
        if self._saved is not None:
            self.history, self._results = list(self._saved.history), dict(self._saved.results)
        return []

    def carry(self, **things: Any) -> None:
        """Carry things on through all stages from here; a new one takes the place of one of its name."""
        self._carried |= things

    def once(self, name: str, work: Callable[[], Any]) -> Any:
        """Do a piece of work and return what it gives, which JSON can hold; if it was done, only that."""
        if name not in self._results:
            self._results[name] = work()
        return self._results[name]

    def stage(self, first: int = 0, **told: float) -> "Stage":
        """Return the stage that begins with epoch `first`; its reports have `told` besides."""
        return Stage(self, first, told)

    def take_up(self, first: int, n: int, carried: Mapping[str, Any]) -> int:
        """Return how many of a stage's `n` epochs are done, after restoring what they left."""
        saved = self._saved
        if saved is None or saved.epoch <= first:
            return 0
        if saved.epoch <= first + n:
            saved.restore(self._carried | dict(carried))
            self._saved = None
        return min(n, saved.epoch - first)

    def report(self, figures: Mapping[str, float]) -> None:
        """Take the figures of an epoch that has just ended."""
        self.history.append(dict(figures))
        if self._report is not None:
            self._report(figures)

    def keep(self, epoch: int, carried: Mapping[str, Any]) -> None:
        """Write down that `epoch` epochs are done, if the last time is long enough ago."""
        if self._checkpoint is not None and time.monotonic() - self._written >= EVERY_S:
            self._checkpoint.write(epoch, self.history, self._results, self._carried | dict(carried))
            self._written = time.monotonic()

    def finish(self) -> None:
        """Remove the checkpoint."""
        if self._checkpoint is not None:
            self._checkpoint.remove()


@dataclass(frozen=True)
class Stage:
    """Epochs of a course that follow each other and carry the same things on."""

    course: Course
    first: int = 0
    told: Mapping[str, float] = field(default_factory=dict)

    def epochs(self, n: int, **carried: Any) -> Iterator[int]:
        """Yield those of `n` epochs, counted from 0, that are still to be done; each has to report."""
        for epoch in range(self.course.take_up(self.first, n, carried), n):
            yield epoch
            self.course.keep(self.first + epoch + 1, carried)

    def report(self, figures: Mapping[str, float]) -> None:
        """Report an epoch, whose number `figures` has counted within the stage."""
        self.course.report({**figures, "epoch": self.first + figures["epoch"], **self.told})


def _digest(values: np.ndarray | None) -> str:
    return "" if values is None else hashlib.sha256(np.ascontiguousarray(values).data).hexdigest()
