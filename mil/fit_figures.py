"""What a fit reports of itself: one row an epoch in metrics.csv, and event files for TensorBoard."""

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd

from tiling import ConfigError, replacing

from .learner import Report

_COUNTERS = ("epoch", "epochs")  # they start again with every part of a fit, and are no figures


def check_tensorboard() -> None:
    """Raise ConfigError unless event files can be written."""
    if find_spec("tensorboard") is None:
        raise ConfigError(
            "--tensorboard needs tensorboard, which is not installed",
            hint='pip install "slidebag[tensorboard]"',
        )


@contextmanager
def fit_figures(metrics: Path, events: Path | None) -> Iterator[Report]:
    """Yield what a fit reports to: it writes a CSV, and meanwhile event files into the folder `events`.

    The step of an event is the row of the CSV, counted from 0.
    """
    history: list[dict[str, float]] = []
    if events is not None and events.is_dir():
        shutil.rmtree(events)  # those of an earlier fit would be drawn as one curve with these
    with _writer(events) as write:

        def report(figures: Mapping[str, float]) -> None:
            write({k: v for k, v in figures.items() if k not in _COUNTERS}, len(history))
            history.append(dict(figures))

        yield report
    with replacing(metrics) as temporary:
        pd.DataFrame(history).to_csv(temporary, index=False)


def write_held_out(events: Path | None, figures: Mapping[str, float]) -> None:
    """Write what a fit's held-out bags say, `held_out/<name>`, beside its events, unless `events` is None."""
    with _writer(events) as write:
        write({f"held_out/{name}": value for name, value in figures.items()}, 0)


@contextmanager
def _writer(events: Path | None) -> Iterator[Callable[[Mapping[str, float], int], None]]:
    if events is None:
        yield lambda figures, step: None
        return
    from torch.utils.tensorboard import SummaryWriter  # slow to import, and an extra

    writer: Any = SummaryWriter(str(events))

    def write(figures: Mapping[str, float], step: int) -> None:
        for name, value in figures.items():
            writer.add_scalar(name, value, step)

    try:
        yield write
    finally:
        writer.close()
