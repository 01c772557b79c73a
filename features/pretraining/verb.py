"""`pretrain`: from tiles to an encoder's folder; called again, it goes on where it was stopped."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tiling import ConfigError

from .config import PretrainConfig


@dataclass(frozen=True)
class PretrainStep:
    """A step that is done: its number from 1 of `n_steps`, how many tiles each takes, and its losses.

    `knn` is what the probe found after it, None where there was none. `part` is "pretrain" or, before it,
    "first views": what teachers make of some is looked at, and nothing is lost yet.
    """

    step: int
    n_steps: int
    n_tiles: int
    losses: dict[str, float]
    knn: float | None
    part: str = "pretrain"


@dataclass(frozen=True)
class Pretrained:
    """An encoder's folder, how many tiles it learned from, what was broken, and the last figures.

    `rank` is the number of this process; of several, 0 has the figures and what was broken.
    """

    folder: Path
    n_tiles: int
    n_held_out: int
    broken: dict[str, str]
    figures: dict[str, float]
    rank: int = 0


def pretrain(
    sources: Sequence[Path],
    folder: Path,
    config: PretrainConfig | None = None,
    *,
    report: Callable[[PretrainStep], None] = lambda step: None,
    about: Mapping[str, Any] | None = None,
) -> Pretrained:
    """Train an encoder on the tiles of `sources` and write it to `folder`, with `metrics.csv` beside it.

    A source is a folder of pictures (whose subfolders are labels, for the probe alone), a run folder or
    folder of grids, whose slides are read, or bags with patches. `report` is called after each step,
    and each batch of first views; `about` goes into the card's recipe. Whole work that is there is kept;
    where only name, licence, data or mpp are given anew, the card alone changes.

    Raises:
        ConfigError: lightly is not installed, options do not fit each other or the tiles, there are too
            few tiles, or the folder has another encoder.
        FormatError: there is no such source, or it holds pictures beside grids or bags.
        WriteError: there is no space, or no permission.
        SlidebagError: weights cannot be had, the loss is no number, or too many tiles cannot be read.
    """
    if find_spec("lightly") is None:
        raise ConfigError(
            "pretrain needs lightly, which is not installed", hint='pip install "slidebag[pretrain]"'
        )
    from .course import Course
    from .open_slides import closing_slides

    with closing_slides():
        course = Course.open(sources, folder, config or PretrainConfig())
        if not course.is_done():
            course.run(report, dict(about or {}))
        done = course.finish()
        course.processes.leave()
        return done
