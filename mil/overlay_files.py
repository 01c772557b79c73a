"""The overlays of a slide: what they tell of its prediction, and whether they still do."""

from collections.abc import Mapping
from pathlib import Path

from tiling import fingerprint, picture_fingerprint, stored_fingerprint

from .classes import SEPARATOR, names_in
from .predictions import check_called, class_names
from .run_folder import Run


def slide_prediction(row: Mapping[str, str], painted: str) -> tuple[str, float]:
    """Return what is called, and how likely; where classes do not exclude each other, of `painted`.

    Raises:
        FormatError: the row calls no class that it has a probability of.
    """
    called = row["prediction"]
    check_called(called, class_names(row), "predictions.csv calls it")
    if SEPARATOR not in row["threshold"]:
        return called, float(row[f"p({called})"])
    probability = float(row[f"p({painted})"])
    return (painted, probability) if painted in names_in(called) else (f"not {painted}", 1 - probability)


def shown_fingerprint(scores: str | None, row: Mapping[str, str]) -> str:
    """Return what heatmaps show, however they are painted: scores, by fingerprint, and what was called."""
    return fingerprint(scores, row["prediction"], row["tile_threshold"])


def overlays_of(run: Run, slide_id: str, row: Mapping[str, str]) -> tuple[list[Path], list[Path]]:
    """Return the overlays of a slide and its `row` of predictions.csv, and those of earlier predictions.

    A picture that is not slidebag's is of no other prediction; of an id that leads out of the run, there is
    none.
    """
    heatmaps, folder = (run.root / "heatmaps").resolve(), run.heatmap_folder(slide_id).resolve()
    if not folder.is_relative_to(heatmaps) or folder == heatmaps:
        return [], []
    files = (path.resolve() for path in folder.glob("overlay*.png") if path.is_file())
    found = sorted(path for path in files if path.is_relative_to(heatmaps))
    shown = shown_fingerprint(stored_fingerprint(run.scores_path(slide_id)), row) if found else ""
    told = {path: picture_fingerprint(path) for path in found}
    earlier = [path for path, own in told.items() if own and own.partition("-")[0] != shown]
    return [path for path in found if path not in earlier], earlier
