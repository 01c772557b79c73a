"""The command line itself, what ends it, and the parameters that several verbs have."""

import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from mil import show
from tiling import COORDS_FORMATS, PLAUSIBLE_MPP, SlidebagError

app = typer.Typer(
    help="From a folder of pathology slides and a table of labels to predictions and tile heatmaps.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Slides = Annotated[Path, typer.Argument(help="folder of slides, or one slide")]
RunFolder = Annotated[Path, typer.Argument(help="the run folder, where results go")]
Table = Annotated[Path | None, typer.Option("--table", help="CSV: slide, label[, patient, mpp, split]")]
Mpp = Annotated[
    float | None,
    typer.Option(
        "--mpp",
        help="µm/px of slides that state none themselves",
        min=PLAUSIBLE_MPP[0],
        max=PLAUSIBLE_MPP[1],
    ),
]
Truth = Annotated[
    Path | None, typer.Option("--truth", help="folder of PNG masks <slide_id>.png, 128 or more is positive")
]
Regions = Annotated[
    Path | None,
    typer.Option("--regions", help="folder of <slide_id>.geojson or .png: where tiles may lie, where not"),
]
Annotations = Annotated[
    Path | None,
    typer.Option("--annotations", help="folder of <slide_id>.geojson: regions of a class, to learn from"),
]
Format = Annotated[str, typer.Option("--format", help=f"the other tool: {', '.join(COORDS_FORMATS)}")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="an option of the learner, key=value; may be repeated")
]


class Interrupted(BaseException):
    """Ctrl-C; of KeyboardInterrupt the command line's library says nothing but that it was aborted."""


def _interrupt(*_: object) -> None:
    raise Interrupted


def main() -> None:
    """Run the command line; 0 done, 1 some slides failed, 2 misuse, 130 interrupted."""
    signal.signal(signal.SIGINT, _interrupt)
    try:
        app()
    except SlidebagError as error:
        show.error(str(error))
        sys.exit(2)
    except Interrupted:
        show.error("stopped; the same command again goes on where it was")
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


def pairs(settings: list[str] | None) -> dict[str, str]:
    """Return options of a learner, given as key=value, by name."""
    pairs = [s.partition("=") for s in settings or []]
    for key, equals, _ in pairs:
        if not equals:
            raise SlidebagError(f"--set {key!r} has no value", hint="write --set key=value")
    return {key.strip().replace("-", "_"): value.strip() for key, _, value in pairs}
