"""The verb `report`: what a scientist reads of a run, as one page, its figures and its tables."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mil.run_folder import Run
from tiling import ConfigError, replacing_folder

from .contents import add_groups, add_others, add_truth, gather
from .figures import to_svg
from .page import as_json, page
from .truth import load_truth


@dataclass(frozen=True)
class Report:
    """The written page, and the frames that it shows, by the names of their files in `tables/`."""

    page: Path
    tables: dict[str, pd.DataFrame]


def report(
    run: Run,
    *,
    truth: Path | None = None,
    annotations: Path | None = None,
    table: Path | None = None,
    by: Sequence[str] = (),
    others: Sequence[Path] = (),
) -> Report:
    """Write `report/` of a run: `index.html`, `report.json`, `tables/*.csv` and `figures/*.svg`.

    Args:
        run: has predictions; labels, scores and heatmaps are shown where they are.
        truth: a folder of PNG masks, as `evaluate` takes it.
        annotations: a folder of `<slide_id>.geojson`, as `train` takes it, here as truth.
        table: a slide table, for the columns in `by` that the run itself does not keep.
        by: columns to give results by, such as "site".
        others: run folders of other models of the same slides, to be compared with.

    Raises:
        FormatError: the run has no predictions.
        ConfigError: there is no such column, a run that cannot be compared, no truth for any of the slides,
            or a table of which no column is asked for.
    """
    if table is not None and not by:
        raise ConfigError(
            f"{table}: no column of it is asked for", hint="name one with --by, such as --by site"
        )
    contents = gather(run)
    add_groups(contents, run, by, table)
    add_others(contents, run, others)
    has_truth = truth is not None or annotations is not None
    add_truth(contents, load_truth(run, truth, annotations) if has_truth else None)
    drawn = {name: to_svg(figure, name) for name, figure in contents.figures.items()}
    folder = run.root / "report"
    told = json.dumps(as_json(contents), indent=1, allow_nan=False)
    with replacing_folder(folder) as new:
        for name in ("tables", "figures"):
            (new / name).mkdir()
        for name, frame in contents.tables.items():
            frame.to_csv(new / "tables" / f"{name}.csv", index=False)
        for name, svg in drawn.items():
            (new / "figures" / f"{name}.svg").write_text(svg, encoding="utf-8")
        (new / "report.json").write_text(f"{told}\n")
        (new / "index.html").write_text(page(run, contents, drawn, folder), encoding="utf-8")
    return Report(folder / "index.html", contents.tables)
