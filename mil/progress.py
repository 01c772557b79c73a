"""Progress of long work: a bar with rate and time left on a terminal, plain lines in a log."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column

_LINE_EVERY_S = 30.0


@contextmanager
def progress(title: str, total: int, *, unit: str = "slides", done: int = 0) -> Iterator[Callable[..., None]]:
    """Yield a function to call with a name whenever a piece of `total`, or a number of them, is done.

    `done` of them are behind already, and do not count in the rate.
    """
    if sys.stderr.isatty():
        with _bar() as bar:
            task = bar.add_task(title, total=total, completed=done, rate="", name="")
            started = time.monotonic()

            def advance(name: str, n: int = 1) -> None:
                bar.advance(task, n)
                rate = (bar.tasks[0].completed - done) / max(time.monotonic() - started, 1e-9)
                bar.update(task, rate=f"{_plain(rate)} {unit}/s", name=name)

            yield advance
    else:
        yield _Lines(title, total, unit, done)


def _plain(rate: float) -> str:
    """Two digits, and no power of ten."""
    return f"{rate:.0f}" if rate >= 10 else f"{rate:.2g}"


def _bar() -> Progress:
    what_is_left = Column(ratio=1, no_wrap=True, overflow="ellipsis")  # a long name must not squeeze the rest
    return Progress(
        TextColumn("{task.description:8}"), BarColumn(20), MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"), TimeRemainingColumn(),
        TextColumn("{task.fields[name]}", table_column=what_is_left),
        console=Console(stderr=True), transient=True, expand=True,
    )  # fmt: skip


class _Lines:
    def __init__(self, title: str, total: int, unit: str, done: int) -> None:
        self._title, self._total, self._unit = title, total, unit
        self._before, self._done = done, done
        self._started = self._told = time.monotonic()

    def __call__(self, name: str, n: int = 1) -> None:
        self._done += n
        now = time.monotonic()
        if now - self._told < _LINE_EVERY_S:
            return
        self._told = now
        rate = (self._done - self._before) / (now - self._started)
        left_s = (self._total - self._done) / rate
        done = f"{self._done}/{self._total} {self._unit}, {_plain(rate)}/s, {left_s:.0f} s left"
        line = f"{self._title}: {done}, {name}".removesuffix(", ")
        print(line, file=sys.stderr, flush=True)
