"""The verb `qc`: a picture of each slide, a table, and a contact sheet with the bad slides in front."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from tiling import (
    CARD_PICTURE_PX,
    CARDS_A_SHEET,
    Card,
    FormatError,
    GridSummary,
    contact_sheet,
    fingerprint,
    load_grid,
    load_summary,
    load_thumbnail,
    picture_fingerprint,
    qc_fingerprint,
    small_picture,
    write_picture,
    write_qc_picture,
)

from .batch import (
    DONE,
    FAILED,
    KEPT,
    NO_TILE,
    NO_TILE_HINT,
    NO_TILE_WHY,
    NO_TISSUE,
    Outcome,
    each_slide,
)
from .cohort import CohortSlide
from .qc_flags import BLUR, INK, PALE, TILED, Flags, SlideFacts, by_suspicion, find_flags
from .run_folder import PENDING, Run

_COLUMNS = [
    "slide_id", "status", "tissue_mm2", "n_tiles", "pen_fraction", "focus", "stain_strength", "background",
    "mpp", "mpp_source", "width_level0_px", "height_level0_px", "reader", "flags", "message",
]  # fmt: skip
# of the palette of Okabe and Ito, which readers with any kind of colour vision can tell apart
_COLOURS = {
    FAILED: (90, 90, 94), PENDING: (150, 150, 154), NO_TISSUE: (213, 94, 0), NO_TILE: (230, 159, 0),
    INK: (0, 114, 178), BLUR: (240, 228, 66), PALE: (204, 121, 167),
}  # fmt: skip
_LOOK = 1  # to be raised when sheets are to look otherwise


def qc(run: Run) -> Outcome:
    """Write what a person needs to find the bad slides of a tiled run, from its grids alone.

    That is `qc/<slide_id>.png` for each slide with a grid, `qc.csv` with a row for every slide, and
    `qc/contact_sheet.png` (a page for 100 slides each), suspicious slides first. Pictures that are there
    and still right are kept.

    Raises:
        FormatError: `run` is no run folder.
    """
    rows = run.slides().to_dict("records")
    summaries = {row["slide_id"]: _summary(run, row["slide_id"]) for row in rows if _is_tiled(run, row)}
    facts = [_facts(row, summaries.get(row["slide_id"])) for row in rows]

    def work(slide: CohortSlide) -> str:
        summary, path = summaries[slide.slide_id], run.qc_path(slide.slide_id)
        if isinstance(summary, FormatError):
            raise summary
        if picture_fingerprint(path) == qc_fingerprint(summary):
            return KEPT
        write_qc_picture(path, run.grid_path(slide.slide_id))
        return DONE

    outcome = each_slide(run, "qc", [s for s in run.cohort().slides if s.slide_id in summaries], work)
    for slide in facts:
        if slide.summary is None:  # a picture from an earlier run would tell of tiles that are gone
            run.qc_path(slide.slide_id).unlink(missing_ok=True)
    flags = find_flags(facts)
    run.write_table("qc.csv", _table(facts, flags))
    _write_sheets(run, facts, flags)
    return outcome


def _is_tiled(run: Run, row: dict) -> bool:
    """Whether a slide has to have a grid; one that an earlier run left counts only if it did not fail."""
    if row["status"] == PENDING:  # the run was stopped before its turn
        return run.grid_path(row["slide_id"]).exists()
    return row["status"] != FAILED


def _summary(run: Run, slide_id: str) -> GridSummary | FormatError:
    """What a grid holds, or why it cannot be read, which fails its slide in its turn."""
    try:
        return load_summary(run.grid_path(slide_id))
    except FormatError as error:
        return error


def _facts(row: dict, summary: GridSummary | FormatError | None) -> SlideFacts:
    slide_id = row["slide_id"]
    if isinstance(summary, FormatError):
        return SlideFacts(slide_id, FAILED, summary.message)
    if summary is None and row["status"] == FAILED:
        return SlideFacts(slide_id, FAILED, row["message"])
    if summary is None:
        return SlideFacts(slide_id, PENDING, "not tiled yet")
    if summary.n_tiles:
        return SlideFacts(slide_id, TILED, "", summary)
    found = summary.quality.tissue_mm2 if summary.quality else 0.0
    if not found:
        return SlideFacts(slide_id, NO_TISSUE, "", summary)
    why = f"{found:.3g} mm² of {NO_TILE_WHY}: {NO_TILE_HINT}"
    return SlideFacts(slide_id, NO_TILE, why, summary)


def _table(facts: Sequence[SlideFacts], flags: Sequence[Flags]) -> pd.DataFrame:
    rows = []
    for slide, flag in zip(facts, flags, strict=True):
        row = {"slide_id": slide.slide_id, "status": slide.status, "message": slide.message}
        row["flags"] = ", ".join(word for word in flag.words if word != slide.status)
        if slide.summary:
            s, q = slide.summary, slide.summary.quality
            told = {"n_tiles": s.n_tiles, "mpp": s.mpp, "mpp_source": s.mpp_source, "reader": s.reader}
            told |= dict(zip(("width_level0_px", "height_level0_px"), s.size_level0_px, strict=True))
            if q:
                told |= {name: getattr(q, name) for name in _COLUMNS if hasattr(q, name)}
            row |= {k: f"{v:.6g}" if isinstance(v, float) else str(v) for k, v in told.items()}
        rows.append(row)
    return pd.DataFrame(rows, columns=_COLUMNS)


def _write_sheets(run: Run, facts: Sequence[SlideFacts], flags: Sequence[Flags]) -> None:
    """Write the pages of the contact sheet that are not there yet, and remove what is too many."""
    order = by_suspicion(facts, flags)
    pages = [order[first : first + CARDS_A_SHEET] for first in range(0, len(order), CARDS_A_SHEET)]
    title = _title([flags[row] for row in order])
    for number, rows in enumerate(pages, start=1):
        path = run.contact_sheet_path(number)
        page = f"page {number} of {len(pages)}"  # alone on later pages, which change less often so
        head = title if len(pages) == 1 else f"{title}; {page}" if number == 1 else page
        told = [
            [facts[r].slide_id, facts[r].message, list(flags[r].words), _picture_fingerprint(facts[r])]
            for r in rows
        ]
        expected = fingerprint("contact sheet", _LOOK, head, told)
        if picture_fingerprint(path) != expected:
            sheet = contact_sheet(_cards(run, [(facts[r], flags[r]) for r in rows]), len(rows), head)
            write_picture(path, sheet, fingerprint=expected, about="contact sheet")
    surplus = len(pages) + 1
    while (path := run.contact_sheet_path(surplus)).exists():
        path.unlink()
        surplus += 1


def _picture_fingerprint(slide: SlideFacts) -> str:
    return qc_fingerprint(slide.summary) if slide.summary else ""


def _title(flags: Sequence[Flags]) -> str:
    counts = Counter(flag.words[0] for flag in flags if flag.words)
    told = ", ".join(f"{n} {word}" for word, n in counts.items())
    return f"{len(flags)} slides, {counts.total()} to look at" + (f": {told}" if told else "")


def _cards(run: Run, slides: Sequence[tuple[SlideFacts, Flags]]) -> Iterator[Card]:
    """The cards of a page, one at a time, so that only one slide is in memory."""
    for slide, flag in slides:
        look = {"flag": ", ".join(flag.words), "colour": _COLOURS[flag.words[0]]} if flag.words else {}
        if slide.summary is None:
            yield Card(slide.slide_id, message=slide.message, **look)
            continue
        path: Path = run.grid_path(slide.slide_id)
        try:
            picture = small_picture(load_grid(path), load_thumbnail(path), CARD_PICTURE_PX, slide.summary)
        except FormatError as error:  # this slide's alone: the others are still to be looked at
            yield Card(slide.slide_id, message=error.message, flag=FAILED, colour=_COLOURS[FAILED])
            continue
        yield Card(slide.slide_id, picture, _figures(slide), **look)


def _figures(slide: SlideFacts) -> tuple[str, ...]:
    summary = slide.summary
    if summary is None:
        return ()
    tiles, q = f"{summary.n_tiles:,} tiles", summary.quality
    if q is None:
        return (tiles,)
    stain = "stain" if q.background == "bright" else "light"
    figures = f"focus {q.focus:.2g}, {stain} {q.stain_strength:.2g}, ink {q.pen_fraction:.1%}"
    return f"{q.tissue_mm2:.3g} mm², {tiles}", figures
