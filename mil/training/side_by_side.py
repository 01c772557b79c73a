"""Pieces of work side by side, each in a process of its own and on one thread."""

import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from typing import Any, TypeVar

from mil.threads import one_thread
from tiling import SlidebagError

Piece = TypeVar("Piece")
Done = TypeVar("Done")


def side_by_side(work: Callable[[Piece], Done], pieces: Sequence[Piece], jobs: int) -> list[Done]:
    """Return what `work` makes of each piece, `jobs` of them at a time; 0 is one a core.

    One at a time is worked on in this process. Else what `work` holds goes to the workers, which are new
    processes that import mil alone; features that lie in a file are mapped there again, so that those are
    in memory once. Pieces end alike either way. An error or an interrupt ends all workers, and so, but for
    Windows, does a kill of this process.

    Raises:
        SlidebagError: a worker was killed, or could not read what it was sent.
    """
    import joblib  # comes with scikit-learn, which is slow to import
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    jobs = min(jobs or joblib.cpu_count(), len(pieces))
    if jobs < 2:
        return [_on_one_thread(work, piece) for piece in pieces]
    # bags tell where their features lie; joblib's own files would keep them in memory, and open, once more
    workers: Any = joblib.Parallel(jobs, backend="loky", max_nbytes=None)
    try:
        return list(workers(joblib.delayed(_in_worker)(work, piece, os.getpid()) for piece in pieces))
    except TerminatedWorkerError as error:
        raise SlidebagError(
            f"one of {jobs} processes was killed, most likely as memory ran out",
            hint="the same command with fewer --jobs goes on where it was",
        ) from error
    except BrokenProcessPool as error:
        *_, why = str(error.__cause__ or error).rstrip('\n"').splitlines()  # the last line of a traceback
        raise SlidebagError(
            f"one of {jobs} processes could not read what it was sent: {why}",
            hint="the same command with --jobs 1 needs no other process",
        ) from error


def _in_worker(work: Callable[[Piece], Done], piece: Piece, parent: int) -> Done:
    if os.getpid() != parent:  # where no process can be started, joblib works in this one
        _end_with(parent)
    return _on_one_thread(work, piece)


@cache
def _end_with(parent: int) -> None:
    """Let this process end when its parent does: killed, that cannot say so.

    It would go on unseen, beside the command that goes on where the killed one was.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _on_one_thread(work: Callable[[Piece], Done], piece: Piece) -> Done:
    with one_thread():
        return work(piece)
