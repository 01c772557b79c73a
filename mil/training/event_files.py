"""`train --tensorboard`: what fits report and their held-out bags say, as files for TensorBoard."""

import shutil
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from tiling import ConfigError

_COUNTERS = ("epoch", "epochs", "member", "rehearsal")  # which part of a fit it is: no figures


def check_tensorboard() -> None:
    """Raise ConfigError unless event files can be written."""
    if find_spec("tensorboard") is None:
        raise ConfigError(
            "--tensorboard needs tensorboard, which is not installed",
            hint='pip install "slidebag[tensorboard]"',
        )


def write_events(folder: Path, history: Sequence[Mapping[str, float]]) -> None:
    """Write what a fit reported as the events of one curve a figure, in the place of an earlier fit's.

    The step is the row of metrics.csv, counted from 0.
    """
    if folder.is_dir():
        shutil.rmtree(folder)
    _append(folder, [{k: v for k, v in row.items() if k not in _COUNTERS} for row in history])


def add_held_out(folder: Path, figures: Mapping[str, float]) -> None:
    """Add what a fit's held-out bags say to its events, as `held_out/<name>`."""
    _append(folder, [{f"held_out/{name}": value for name, value in figures.items()}])


def _append(folder: Path, rows: Sequence[Mapping[str, float]]) -> None:
    from torch.utils.tensorboard import SummaryWriter  # slow to import, and an extra

    with SummaryWriter(str(folder)) as writer:
        for step, row in enumerate(rows):
            for name, value in row.items():
                writer.add_scalar(name, value, step)
