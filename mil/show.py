"""What the command line prints: tables on a terminal, plain text in a log."""

import math
from collections import Counter
from collections.abc import Sequence

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from features import EncoderCard, Pretrained, is_folder_name
from tiling import ResolutionError, Slide

from .batch import Outcome
from .classes import SET_MARK
from .doctor import Finding
from .evaluate import Evaluation
from .predictions import class_names, load_predictions
from .probe import Probed, probe_tables
from .report import Report
from .run_folder import Run
from .search import Found
from .training import Training

_NAMES = {
    "slides": "slides",
    "slide_auc": "slide AUC",
    "slide_accuracy": "slide accuracy",
    "slide_balanced_accuracy": "slide balanced accuracy",
    "slide_ece": "slide calibration error (ECE)",
    "slide_ece_uncalibrated": "slide ECE before calibration",
    "slide_brier": "slide Brier score",
    "slide_brier_uncalibrated": "slide Brier score before calibration",
    "set_coverage": "share of slides whose set holds the label",
    "set_size": "classes in a set, mean",
    "tiles": "tiles with truth",
    "patch_auc": "tile AUC, all tissue",
    "patch_auc_in_positive": "tile AUC, inside positive slides",
    "patch_ap_in_positive": "tile AP, inside positive slides",
    "dice": "Dice at the frozen threshold",
    "patch_ece": "tile calibration error (ECE)",
    "patch_ece_uncalibrated": "tile ECE before calibration",
    "patch_brier": "tile Brier score",
    "patch_brier_uncalibrated": "tile Brier score before calibration",
}
_FAMILIES = {
    "timm:<name>         ": "every model of timm; timm:hf-hub:<repository>, timm:local-dir:<folder>",
    "torchscript:<path>  ": "a TorchScript file; loading it runs the code in it: take none from strangers",
    "onnx:<path>         ": "an ONNX file, with the extra slidebag[onnx]",
}
_SHOWN = ("slide_id", "patient_id", "label", "prediction", "set", "novelty", "flags")  # of predictions.csv
_MOST_ROWS = 20
_LOG_WIDTH = 200  # where no terminal says how wide it is


def _console() -> Console:
    is_terminal = Console().is_terminal
    return Console(highlight=False, width=None if is_terminal else _LOG_WIDTH)


def error(text: str) -> None:
    """Print one line on stderr."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(
        Text.assemble(("slidebag: ", "bold red"), text)
    )


def _table(title: str, *columns: str, whole: tuple[str, ...] = ()) -> Table:
    """A table that folds what does not fit, but never the columns `whole`: a number broken is another one."""
    table = Table(
        title=Text(title), title_justify="left", box=None, padding=(0, 2, 0, 0), header_style="bold"
    )
    for column in columns:
        is_whole = column in whole
        table.add_column(column, no_wrap=is_whole, overflow="ellipsis" if is_whole else "fold")
    return table


def finish(run: Run, *outcomes: Outcome, also: tuple[str, ...] = ()) -> None:
    """Print what became of each step and end with exit code 1 if any slide failed, in steps `also` too."""
    console = _console()
    for outcome in outcomes:
        console.print(Text(str(outcome)))
    path = run.root / "failures.csv"
    if not path.exists():
        return
    failed = run.read_table("failures.csv")
    steps = {o.step for o in outcomes} | set(also)
    steps |= {"cohort", "qc"} if steps & {"tile", "import", "regrid"} else set()
    failed = failed.loc[failed["step"].isin(list(steps))]
    if not len(failed):
        return
    table = _table(f"{len(failed)} failed", "slide", "step", "why", "what to do")
    for row in failed.head(_MOST_ROWS).to_dict("records"):
        table.add_row(*(Text(row[c]) for c in ("slide_id", "step", "error", "hint")))
    console.print(table)
    console.print(Text(f"all of them: {path}"))
    raise typer.Exit(1)


def quality(run: Run) -> None:
    """Print how many slides should be looked at, and where."""
    rows = run.read_table("qc.csv")
    found = ((r["flags"] or r["status"]).partition(", ")[0] for r in rows.to_dict("records"))
    counts = Counter(word for word in found if word != "tiled")
    told = ", ".join(f"{n} {word}" for word, n in counts.most_common())
    sheet = run.contact_sheet_path(1)
    _console().print(Text(f"look at {counts.total()} of {len(rows)} slides{told and f' ({told})'}: {sheet}"))


def training(done: Training) -> None:
    """Print where the model lies and what went wrong."""
    how = "kept" if done.is_kept else f"fitted in {done.seconds:.1f} s"
    _console().print(Text(f"train: {done.folder} ({how})"))
    for warning in done.warnings:
        error(f"warning: {warning}")


def figures(evaluation: Evaluation) -> None:
    """Print figures of merit."""
    table = _table("result", "figure", "value")
    for name, value in evaluation.figures.items():
        shown = (
            "undefined"
            if math.isnan(value)
            else f"{value:.0f}"
            if name in ("slides", "patients", "tiles")
            else f"{value:.3f}"
        )
        what, _, of_class = name.partition("(")
        of_slides = _NAMES[what.replace("patient", "slide")]  # the same figures, only of patients
        told = of_slides.replace("slide", "patient") if what.startswith("patient") else of_slides
        table.add_row(told + (f", {of_class[:-1]}" if of_class else ""), shown)
    _console().print(table)


def overlays(run: Run) -> None:
    """Print where the pictures lie."""
    found = sorted((run.root / "heatmaps").rglob("overlay*.png"))
    console = _console()
    console.print(Text(f"{len(found)} overlays, what else was written beside each:"))
    for path in found[:_MOST_ROWS]:
        console.print(Text(f"  {path}"))
    if len(found) > _MOST_ROWS:
        console.print(Text(f"  and {len(found) - _MOST_ROWS} more"))


def report(written: Report) -> None:
    """Print where the report lies."""
    _console().print(Text(f"report: {written.page}"))


def predictions(run: Run) -> None:
    """Print the predictions of a run, and where all that is known of them lies."""
    rows = load_predictions(run)
    classes = class_names(rows)
    columns = [c for c in _SHOWN if c == "prediction" or (c in rows.columns and any(rows[c]))]
    columns.insert(columns.index("prediction"), "probability")
    table = _table("predictions", *columns, whole=("probability", "novelty"))
    for row in rows.head(_MOST_ROWS).to_dict("records"):
        # one below the other: there is room for any number of classes
        row["probability"] = "\n".join(f"{float(row[f'p({name})']):.3f} {name}" for name in classes)
        row["set"] = row["set"].replace(SET_MARK, ", ")
        row["novelty"] = row["novelty"] and f"{float(row['novelty']):.3f}"
        table.add_row(*(Text(row[c]) for c in columns))
    console = _console()
    console.print(table)
    console.print(
        Text(f"all of them, with thresholds and more: {run.root / 'predictions.csv'}"), soft_wrap=True
    )


def hits(found: Found) -> None:
    """Print the tiles that were found, where they are shown, and how they were searched for."""
    console, index = _console(), found.index
    columns = [c for c in found.hits.columns if c != "row"]
    table = _table(f"{len(found.hits)} nearest tiles", *columns)
    for row in found.hits.head(_MOST_ROWS).to_dict("records"):
        table.add_row(*(Text(f"{row[c]:.3f}" if c == "similarity" else str(row[c])) for c in columns))
    console.print(table)
    way = "all compared"
    if index.n_lists:
        way = (
            f"{index.n_probes} of {index.n_lists} lists searched, recall of the 20 nearest {index.recall:.3f}"
        )
    told = (
        f"{len(index):,} tiles of {len(index.slide_ids)} slides by {index.encoder}, cosine similarity, {way}"
    )
    console.print(Text(told))
    console.print(Text(f"{found.table}\n{found.picture}"))


def probed(found: Probed) -> None:
    """Print what encoders are worth, where it lies, and what to know of it; exit code 1 if one failed."""
    console = _console()
    for title, (columns, lines) in probe_tables(found.figures).items():
        table = _table(title, *columns)
        for line in lines:
            table.add_row(*map(Text, line))
        console.print(table, "")
    console.print(Text("\n".join(map(str, found.files))))
    for warning in found.warnings:
        error(f"warning: {warning}")
    for name, why in found.failed.items():
        error(f"{name}: {why}")
    if found.failed:
        raise typer.Exit(1)


def encoders(cards: Sequence[EncoderCard]) -> None:
    """Print the encoders' cards, and the families behind a prefix."""
    columns = ("name", "dim", "px", "µm/px", "vector", "licence", "gated", "weights from")
    table = _table("encoders", *columns, whole=("name", "dim", "px", "µm/px", "gated"))
    for card in cards:
        mpp = "any" if card.mpp is None else f"{card.mpp:g}"
        gated = "ask" if card.is_gated else "no"
        size = (str(card.dim), "any" if card.resizes else str(card.input_px), mpp)
        table.add_row(card.name, *size, card.pooling, card.licence, gated, card.source)
    console = _console()
    console.print(table)
    for prefix, told in _FAMILIES.items():
        console.print(Text(f"{prefix}  {told}"))


def pretrained(done: Pretrained) -> None:
    """Print what an encoder learned from and its last figures."""
    held_out = f", {done.n_held_out} held out" if done.n_held_out else ""
    broken = f", {len(done.broken)} broken" if done.broken else ""
    figures = ", ".join(f"{name} {value:.4g}" for name, value in done.figures.items())
    told = f"; {figures}" if figures else ", nothing learned"  # of 0 epochs
    _console().print(f"{done.n_tiles} tiles{held_out}{broken}{told}", highlight=False)
    name = str(done.folder)
    path = name if is_folder_name(name) else f"./{name}"
    _console().print(f"use it with --encoder {path}", highlight=False, soft_wrap=True)


def slide(opened: Slide) -> bool:
    """Print what a slide file is; return whether it can be used as it is."""
    table = Table(title=Text(str(opened.path)), title_justify="left", box=None, show_header=False,
                  padding=(0, 2, 0, 0))  # fmt: skip
    width, height = opened.size_px
    rows = [("size", f"{width} × {height} px")]
    usable = True
    try:
        found = opened.resolution
        rows.append(("extent", f"{width * found.mpp / 1000:.3g} × {height * found.mpp / 1000:.3g} mm"))
        rows.append(("resolution", f"{found.mpp:.6g} µm/px, from {found.source}"))
    except ResolutionError as problem:
        why = _without_id(problem.message, opened).removeprefix("resolution ")
        rows += [("resolution", why), ("", problem.hint)]
        usable = False
    for number, ((w, h), d) in enumerate(zip(opened.level_sizes_px, opened.downsamples, strict=True)):
        rows.append(("" if number else "levels", f"{w} × {h} px, 1/{d:.4g}{_tiles(opened, number)}"))
    if opened.shown_from_px != (0, 0):
        rows.append(("in QuPath", "from ({}, {}) on".format(*opened.shown_from_px)))
    rows.append(("reader", opened.reader))
    rows += [("", f"not {_without_id(why, opened)}") for why in opened.passed_over]
    for name, told in rows:
        table.add_row(Text(name), Text(told))
    _console().print(table, "")
    return usable


def _without_id(text: str, opened: Slide) -> str:
    """A message without the slide's name, which stands above."""
    return text.replace(f"{opened.id}: ", "", 1)


def _tiles(opened: Slide, level: int) -> str:
    sides = [opened.properties.get(f"openslide.level[{level}].tile-{side}") for side in ("width", "height")]
    return f", in tiles of {sides[0]} × {sides[1]}" if all(sides) else ""


def findings(found: Sequence[Finding]) -> None:
    """Print the doctor's report."""
    table = _table("slidebag doctor", "", "", "", "")
    topic = ""
    for f in found:
        mark = Text("✓", "green") if f.is_well else Text("✗", "bold red")
        table.add_row("" if f.topic == topic else f.topic, mark, Text(f.name), Text(f.told))
        topic = f.topic
    _console().print(table)
