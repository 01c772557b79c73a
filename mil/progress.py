"""Progress of long work: a bar with rate and time left on a terminal, plain lines in a log."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_LINE_EVERY_S = 30.0


@contextmanager
def progress(title: str, total: int) -> Iterator[Callable[[str], None]]:
    """Yield a function to call with the name of each finished piece of `total`."""
    if sys.stderr.isatty():
        with _bar() as bar:
            task = bar.add_task(title, total=total, rate="", name="")
            started = time.monotonic()

            def advance(name: str) -> None:
                bar.advance(task)
                rate = bar.tasks[0].completed / max(time.monotonic() - started, 1e-9)
                bar.update(task, rate=f"{_plain(rate)}/s", name=name)

            yield advance
    else:
        yield _Lines(title, total)


def _plain(rate: float) -> str:
    """Two digits, and no power of ten."""
    return f"{rate:.0f}" if rate >= 10 else f"{rate:.2g}"


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description:8}"), BarColumn(30), MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"), TimeRemainingColumn(), TextColumn("{task.fields[name]}"),
        console=Console(stderr=True), transient=True,
    )  # fmt: skip


class _Lines:
    def __init__(self, title: str, total: int) -> None:
        self._title, self._total, self._done = title, total, 0
        self._started = self._told = time.monotonic()

    def __call__(self, name: str) -> None:
        self._done += 1
        now = time.monotonic()
        if now - self._told < _LINE_EVERY_S:
            return
        self._told = now
        rate = self._done / (now - self._started)
        left_s = (self._total - self._done) / rate
        line = f"{self._title}: {self._done}/{self._total}, {_plain(rate)}/s, {left_s:.0f} s left, {name}"
        print(line, file=sys.stderr, flush=True)
