"""Work through many slides: one that fails is told, the others go on."""

import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass

from tiling import SlidebagError, TileGrid, sweep

from .cohort import CohortSlide, Failure
from .progress import progress
from .run_folder import Run

Result = tuple[CohortSlide, str | Exception]  # a slide with its status, or with what went wrong
DONE, KEPT, NO_TISSUE, NO_TILE, FAILED = "done", "kept", "no tissue", "no tile", "failed"
WITHOUT_TILES = (NO_TISSUE, NO_TILE)
NO_TILE_WHY = "tissue, but no tile holds enough of it"
NO_TILE_HINT = "tile with a smaller --tile-px or --tile-mpp, or a lower --min-tissue"


def status_of(grid: TileGrid, status: str) -> str:
    """Return `status`, or why there is no tile: no tissue, or none that a tile holds enough of."""
    if len(grid):
        return status
    return NO_TILE if grid.tissue_polygons.get("coordinates") else NO_TISSUE


@dataclass(frozen=True)
class Outcome:
    """What became of a batch: (slide_id, status) of each slide, and the failures."""

    step: str
    statuses: tuple[tuple[str, str], ...]
    failures: tuple[Failure, ...]
    seconds: float

    @property
    def counts(self) -> dict[str, int]:
        """Return how many slides ended in which status."""
        return dict(Counter(status for _, status in self.statuses))

    def __str__(self) -> str:
        told = ", ".join(f"{n} {status}" for status, n in sorted(self.counts.items()))
        return f"{self.step}: {told or 'nothing to do'} in {self.seconds:.1f} s"


def some(slide_ids: Sequence[str]) -> str:
    """Return the first few slides by name, and how many there are."""
    return (
        ", ".join(slide_ids[:3])
        + (", and so on" if len(slide_ids) > 3 else "")
        + f" ({len(slide_ids)} in all)"
    )


def each_slide(
    run: Run, step: str, slides: Sequence[CohortSlide], work: Callable[[CohortSlide], str]
) -> Outcome:
    """Call `work` for every slide; it returns a status or raises, which fails that slide alone.

    Failures go into failures.csv, also when the batch is interrupted.
    """

    def results() -> Generator[Result, None, None]:
        with progress(step, len(slides)) as advance:
            for slide in slides:
                result: str | Exception
                try:
                    result = work(slide)
                except Exception as error:  # noqa: BLE001  whatever it is, it is this slide's
                    result = error
                yield slide, result
                advance(slide.slide_id)

    return gather(run, step, results())


def gather(run: Run, step: str, results: Generator[Result, None, None]) -> Outcome:
    """Take the results of slides as they come; failures go into failures.csv, also when interrupted."""
    sweep(run.root)
    started = time.monotonic()
    statuses: list[tuple[str, str]] = []
    failures: list[Failure] = []
    try:
        with closing(results):  # else threads that work on them would go on, however this ends
            for slide, result in results:
                if isinstance(result, Exception):
                    failures.append(_failure(slide, step, result))
                statuses.append((slide.slide_id, FAILED if isinstance(result, Exception) else result))
    finally:
        run.record_failures(step, failures)
    return Outcome(step, tuple(statuses), tuple(failures), time.monotonic() - started)


def _failure(slide: CohortSlide, step: str, error: Exception) -> Failure:
    if isinstance(error, SlidebagError):
        return Failure(slide.slide_id, step, error.message.removeprefix(f"{slide.slide_id}: "), error.hint)
    if isinstance(error, MemoryError):
        return Failure(slide.slide_id, step, "out of memory", "close other programs or use a smaller --batch")
    told = f"{type(error).__name__}: {error}"
    hint = (
        "check free space and permissions"
        if isinstance(error, OSError)
        else "report this as a bug of slidebag"
    )
    return Failure(slide.slide_id, step, told, hint)
