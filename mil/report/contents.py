"""All that a report says: tables and figures by name, facts, and what cannot be told."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mil.evaluate import changed_labels
from mil.model.novelty import UNLIKE
from mil.overlay_files import overlays_of
from mil.predictions import load_predictions, rows_by_slide
from mil.run_folder import Run
from tiling import ConfigError

from . import curves, figures, tables
from .attrition import attrition_table, lost_slides, predictions_by_unit
from .columns import column_of
from .comparing import comparison_table
from .facts import Facts, run_facts
from .froc import froc_curve, froc_table
from .groups import batch_effect_table, group_names, group_table
from .predicted import Predicted, load_predicted
from .tile_tables import tile_table
from .truth import TileTruths

MOST_MISTAKES = 12  # that the page shows with their overlays


@dataclass
class Contents:
    """What a report is made of; `tables` are frames and `figures` matplotlib figures, both by file name.

    `overlays` are those of the slides of the worst mistakes, by slide, without any of earlier predictions.
    """

    predicted: Predicted
    facts: Facts
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)
    groups: list[tuple[str, str]] = field(default_factory=list)  # column, name of its tables
    limits: list[str] = field(default_factory=list)  # what cannot be told, and why
    overlays: dict[str, list[Path]] = field(default_factory=dict)


def gather(run: Run) -> Contents:
    """Work out what a report says of a run by itself.

    Raises:
        FormatError: the run has no predictions.
    """
    contents = Contents(load_predicted(run), run_facts(run))
    contents.tables |= {"attrition": attrition_table(run), "lost": lost_slides(run)}
    _probabilities(contents, run)
    if len(contents.predicted):
        _of_predictions(contents)
    contents.limits += [*_limits(contents), *_of_rows(run, contents)]
    if len(contents.predicted):
        _overlays(contents, run)
    return contents


def _of_predictions(contents: Contents) -> None:
    p, of = contents.predicted, contents.tables
    of["headline"], of["by_class"] = tables.headline_table(p), tables.class_table(p)
    of["calibration"], of["by_fold"] = tables.calibration_table(p), tables.fold_table(p)
    of["mistakes"] = tables.mistake_table(p)
    counts = tables.confusion_table(p)
    of["confusion"] = counts.reset_index()
    contents.figures["confusion"] = figures.confusion_figure(counts)
    of["calibration_curve"] = curves.calibration_curves(p)
    contents.figures["calibration"] = figures.calibration_figure(of["calibration_curve"])
    drawn = {"roc": (curves.roc_curves, figures.roc_figure),
             "precision_recall": (curves.precision_recall_curves, figures.precision_recall_figure),
             "decision": (curves.decision_curves, figures.decision_figure)}  # fmt: skip
    for name, (made, draw) in drawn.items():
        of[f"{name}_curve"] = made(p)
        if len(of[f"{name}_curve"]):
            contents.figures[name] = draw(of[f"{name}_curve"])


def _probabilities(contents: Contents, run: Run) -> None:
    """How often each probability was given, to labelled and unlabelled slides alike."""
    rows, p = load_predictions(run), contents.predicted
    if not len(rows) or not p.names:
        return
    given = {p.names[c]: rows[f"p({p.names[c]})"].to_numpy(float) for c in p.judged}
    x = "probability"
    if len(p.judged) == 1:  # of one class it is told by label
        ((name, own),) = given.items()
        labels, x = rows["label"].to_numpy(str), f"p({name})"
        given = {f"labelled {n}": own[labels == n] for n in p.names} | {"unlabelled": own[labels == ""]}
    drawn = {name: values for name, values in given.items() if len(values)}
    contents.figures["probabilities"] = figures.probability_figure(drawn, x, f"{p.unit}s")
    counts = rows["prediction"].value_counts()
    contents.tables["predicted"] = pd.DataFrame({"prediction": counts.index, "n": counts.to_numpy()})


def _overlays(contents: Contents, run: Run) -> None:
    """What the worst mistakes looked like; of predictions that are no more it would deceive."""
    rows, units, earlier = rows_by_slide(run, "prediction", "tile_threshold"), predictions_by_unit(run), []
    for unit in contents.tables["mistakes"]["id"].head(MOST_MISTAKES):
        for slide_id in units[unit]:
            contents.overlays[slide_id], old = overlays_of(run, slide_id, rows[slide_id])
            earlier += [slide_id] if old else []
    if earlier:
        contents.limits.append(
            f"Slides whose overlays are of earlier predictions and left out: {len(earlier)}, the first is "
            f"{earlier[0]}. Run `slidebag heatmap`, then `slidebag report` again."
        )


def add_groups(contents: Contents, run: Run, by: Sequence[str], table: Path | None = None) -> None:
    """Add results by columns, which are sought in a slide table and in the run; raises ConfigError."""
    p = contents.predicted
    for column in by:
        values = column_of(run, p, column, table)
        if not len(p):
            continue
        name, groups = f"by_{len(contents.groups) + 1}", group_names(values.tolist())
        frame = group_table(p, groups)
        contents.tables |= {name: frame, f"{name}_effects": batch_effect_table(p, groups)}
        contents.groups.append((column, name))
        if not np.isnan(frame["auc"].to_numpy(float)).all():
            contents.figures[name] = figures.groups_figure(frame)


def add_others(contents: Contents, run: Run, others: Sequence[Path]) -> None:
    """Add a comparison with the models of other runs; raises ConfigError where they cannot be compared."""
    if not others:
        return
    models: dict[str, Predicted] = {}
    used = [run, *(Run(path) for path in others)]
    for each, called in zip(used, _run_names([each.root for each in used]), strict=True):
        name = f"{run_facts(each).learner or 'model'} ({called})"
        models[name] = p = load_predicted(each)
        if each is not run and "" in p.folds.tolist():
            contents.limits.append(
                f"Compared with {name}, a finished model: its figures are too good "
                "if it was trained on any of these slides."
            )
    contents.tables["compared"] = comparison_table(models)


def _run_names(roots: Sequence[Path]) -> list[str]:
    """The folders' names, with as many of those above them as it takes to tell them apart.

    Raises:
        ConfigError: a folder is named twice.
    """
    paths = [root.resolve() for root in roots]
    twice = [path for k, path in enumerate(paths) if path in paths[:k]]
    if twice:
        raise ConfigError(f"{twice[0]}: is to be compared with itself", hint="name each run once")
    depths = range(1, max(len(path.parts) for path in paths) + 1)
    told = ([Path(*path.parts[-n:]).as_posix() for path in paths] for n in depths)
    return next(names for names in told if len(set(names)) == len(names))


def add_truth(contents: Contents, truths: TileTruths | None) -> None:
    """Add how the heatmaps fare against the truth of tiles, or that there is none."""
    if truths is None:
        contents.limits.append(
            "No truth of tiles was given: whether the heatmaps are right is not measured here."
        )
        return
    detections = [slide.detections for slide in truths.slides]
    contents.tables |= {
        "tiles": tile_table(truths),
        "froc": froc_table(detections),
        "froc_curve": froc_curve(detections),
    }
    if len(contents.tables["froc_curve"]):
        contents.figures["froc"] = figures.froc_figure(contents.tables["froc_curve"], contents.tables["froc"])
    why = list(truths.left_out.items())
    contents.tables["without_truth"] = pd.DataFrame(why, columns=["slide_id", "why"])
    if why:
        contents.limits.append(
            f"Slides without usable truth, left out of the figures of tiles: {len(why)}. "
            f"The first because: {why[0][1]}."
        )


def _limits(contents: Contents) -> list[str]:
    """Say what the data at hand cannot show."""
    p, told = contents.predicted, []
    if not len(p):
        return ["No predicted slide has a label, so nothing here says how good the predictions are."]
    if p.n_unlabelled:
        told.append(f"{p.n_unlabelled} predictions have no label, or one that the model does not know, "
                    "and count in no figure of merit.")  # fmt: skip
    for c in p.judged:
        n_with, n_without = (len(set(p.patients[p.truth[:, c] == side])) for side in (True, False))
        name, least = p.names[c], min(n_with, n_without)
        if not least:
            told.append(
                f"{'No' if not n_with else 'Each'} labelled {p.unit} is of class {name}: "
                "its AUC, curves and tests are not defined."
            )
        elif least < tables.SMALL_GROUP:
            told.append(
                f"Patients {'of' if least == n_with else 'not of'} class {name}: only {least}. "
                "Figures of it may be far off, and their intervals too."
            )
    n_finished = int((p.folds == "").sum())
    if n_finished:
        which = "These" if n_finished == len(p) else f"{n_finished} of {len(p)}"
        told.append(
            f"{which} predictions are of a finished model. If it was trained on any of these slides, "
            "all figures are too good."
        )
    folds = contents.tables["by_fold"]["auc"].to_numpy(float)[: len(set(p.folds))]
    if len(folds) > 1 and np.isnan(folds).any():
        told.append(
            f"The AUC of {np.isnan(folds).sum()} of {len(folds)} folds is not defined, "
            "and their mean is of the others."
        )
    return told


def _of_rows(run: Run, contents: Contents) -> list[str]:
    """Say what cannot be relied on of the predictions themselves, labelled or not."""
    rows, unit, told = load_predictions(run), contents.predicted.unit, []
    if contents.facts.missing_card:
        told.append(f"The model's card was not found: there is no {contents.facts.missing_card}.")
    known = set(run.slides()["slide_id"])
    strangers = [i for slides in predictions_by_unit(run).values() for i in slides if i not in known]
    if strangers:
        told.append(f"Slides that were predicted but are not in slides.csv: {len(strangers)}, the first is "
                    f"{strangers[0]}. Nothing is known of them but their predictions.")  # fmt: skip
    if changed := changed_labels(run, rows):
        told.append(f"{changed}.")
    folds = sorted(set(rows.loc[rows["is_calibrated"] == "false", "fold"])) if "is_calibrated" in rows else []
    if folds:
        models = ", ".join(f"fold {fold}" if fold else "the final model" for fold in folds)
        which = f" of {models}" if len(folds) < len(set(rows["fold"])) else ""
        told.append(f"Probabilities{which} are not calibrated: too few slides were held out for it.")
    n = sum(UNLIKE.replace(" ", "_") in flags.split() for flags in rows["flags"]) if "flags" in rows else 0
    if n:
        told.append(
            f"Unlike what the model was trained on: {n} of {len(rows)} {unit}s (flag in predictions.csv)."
        )
    return told
