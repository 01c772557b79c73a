"""Pieces of work side by side, each in a process of its own and on one thread."""

from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from tiling import SlidebagError

from .threads import one_thread

Piece = TypeVar("Piece")
Done = TypeVar("Done")


def side_by_side(work: Callable[[Piece], Done], pieces: Sequence[Piece], jobs: int) -> list[Done]:
    """Return what `work` makes of each piece, `jobs` of them at a time; 0 is one a core.

    One at a time is worked on in this process. Else what `work` holds goes to the workers, which are new
    processes that import mil alone; they map large arrays from one file, so that those are there once.
    Pieces end alike either way. An error, or an interrupt, ends all workers.

    Raises:
        SlidebagError: a worker was killed.
    """
    import joblib  # comes with scikit-learn, which is slow to import

    jobs = min(jobs or joblib.cpu_count(), len(pieces))
    if jobs < 2:
        return [_on_one_thread(work, piece) for piece in pieces]
    # copied on write: torch warns of arrays that nobody may write to
    workers: Any = joblib.Parallel(jobs, backend="loky", mmap_mode="c")
    try:
        return list(workers(joblib.delayed(_on_one_thread)(work, piece) for piece in pieces))
    except BrokenProcessPool as error:
        raise SlidebagError(
            f"one of {jobs} processes was killed, most likely as memory ran out",
            hint="the same command with fewer --jobs goes on where it was",
        ) from error


def _on_one_thread(work: Callable[[Piece], Done], piece: Piece) -> Done:
    with one_thread():
        return work(piece)
