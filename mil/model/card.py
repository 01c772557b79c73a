"""The card of a model: what it was trained on, how well it did, and what it must not be taken for."""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from features import find_encoder
from mil.bag_files import Bags
from mil.bags import LoadedBag, SlideGroup
from mil.classes import names_in
from mil.cohort import Fold
from mil.run_folder import Run
from tiling import FormatError, SlidebagError, replacing

from .fitted import Fitted
from .typical_tiles import FOLDER, TypicalTiles, write_typical_tiles

_JSON, _TEXT = "card.json", "README.md"


@dataclass(frozen=True)
class TrainedOn:
    """The labelled bags that a model was made from, whose slides they are, and the training's options.

    `warnings` are what is to be said of the slides.
    """

    run: Run
    source: Bags
    groups: Sequence[SlideGroup]
    bags: Sequence[LoadedBag]
    options: dict[str, Any]
    warnings: tuple[str, ...] = ()

    def without_test_of(self, folds: Sequence[Fold]) -> "TrainedOn":
        """Return what the final model was made from: what a given split keeps for the test is not in it."""
        if folds[0].name != "given":
            return self
        chosen = sorted(folds[0].train + folds[0].validation)
        return replace(self, groups=[self.groups[i] for i in chosen], bags=[self.bags[i] for i in chosen])

    def count(self, name: str) -> dict[str, int]:
        """Return how many bags, slides, patients and tiles are of a class."""
        own = [pair for pair in zip(self.groups, self.bags, strict=True) if name in names_in(pair[0].label)]
        slides = [slide for group, _ in own for slide in group.slides]
        return {
            "bags": len(own),
            "slides": len(slides),
            "patients": len({slide.patient_id for slide in slides}),
            "tiles": sum(len(loaded.bag) for _, loaded in own),
        }


def read_card(folder: Path) -> dict[str, Any]:
    """Return what card.json in a model's folder tells; nothing where there is none.

    Raises:
        FormatError: it is damaged.
    """
    path = folder / _JSON
    if not path.is_file():
        return {}
    hint = "train again, which writes it anew, or remove it"
    try:
        told = json.loads(path.read_text())
    except ValueError as error:
        raise FormatError(f"{path}: damaged ({error!r})", hint=hint) from error
    if not isinstance(told, dict):
        raise FormatError(f"{path}: holds {told!r:.40}, wanted a model's card", hint=hint)
    return told


def write_card(folder: Path, fitted: Fitted, trained_on: TrainedOn, figures: dict[str, float]) -> None:
    """Write card.json, README.md and `typical/` into a model's folder, unless they are of this very model.

    `figures` are those of slides predicted by models that had not seen them.
    """
    with suppress(FormatError):  # a damaged one is of no model
        if read_card(folder).get("fingerprint") == fitted.recipe.fingerprint:
            return
    typical = write_typical_tiles(
        folder, fitted, trained_on.run, trained_on.source, trained_on.groups, trained_on.bags
    )
    card = _card(fitted, trained_on, figures)
    with replacing(folder / _TEXT) as temporary:
        temporary.write_text(_text(card, typical))
    with replacing(folder / _JSON) as temporary:
        temporary.write_text(json.dumps(card, indent=2) + "\n")


def _card(fitted: Fitted, trained_on: TrainedOn, figures: dict[str, float]) -> dict[str, Any]:
    recipe, learner = fitted.recipe, fitted.learner
    return {
        "format": "slidebag.card",
        "format_version": 1,
        "fingerprint": recipe.fingerprint,
        "slidebag_version": version("slidebag"),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "learner": learner.name,
        "learner_options": asdict(learner.config),
        "training_options": trained_on.options,
        "classes": list(learner.classes.names),
        "negative_class": learner.classes.names[0] if learner.classes.has_negative else None,
        "is_exclusive": learner.classes.is_exclusive,
        "bag": recipe.bag,
        "cohort": {name: trained_on.count(name) for name in learner.classes.names},
        "annotated_bags": sum(loaded.bag.candidates is not None for loaded in trained_on.bags),
        "bags_with_views": sum(loaded.bag.views is not None for loaded in trained_on.bags),
        "encoder": _encoder(recipe.preparation.encoder.encoder) | {"fingerprint": recipe.encoder_fingerprint},
        "preparation": asdict(recipe.preparation),
        "slide_thresholds": recipe.slide_thresholds,
        "tile_threshold": recipe.tile_threshold,
        "calibration": asdict(fitted.calibration),
        "figures_on_unseen_slides": figures,
        "warnings": [*trained_on.warnings, *learner.warnings],
    }


def _encoder(name: str) -> dict[str, Any]:
    try:
        return asdict(find_encoder(name).card)
    except SlidebagError:  # features of another tool, or a hub that is not reached
        return {"name": name}


def _text(card: dict[str, Any], typical: TypicalTiles) -> str:
    n_annotated = card["annotated_bags"]
    told = f"labels and the annotations of {n_annotated} bags" if n_annotated else "labels alone"
    figures = [f"| {name} | {value:.4g} |" for name, value in card["figures_on_unseen_slides"].items()]
    return "\n".join(
        [
            f"# Model `{card['learner']}`: {', '.join(card['classes'])}",
            "",
            f"Fitted by slidebag {card['slidebag_version']} on {card['bag']} {told}. Research software: no",
            "medical device, not for diagnosis or treatment. Nothing is claimed of slides from other",
            "scanners, laboratories, stains or patients than those below; measure before use.",
            "",
            *_facts(card),
            "",
            "## On slides that the model at work had not seen",
            "",
            *(["| figure | value |", "|---|---|", *figures] if figures else ["No slide was kept for it."]),
            "",
            "## Warnings of the training",
            "",
            *([f"- {warning}" for warning in card["warnings"]] or ["None."]),
            "",
            "## Typical training tiles",
            "",
            "These are pictures of patients' tissue. Before the model leaves those who may see them, delete",
            f"`{FOLDER}/`; nothing else needs it.",
            *_shares(typical.prototypes),
            *_shown(typical.tiles),
            "",
        ]
    )


def _facts(card: dict[str, Any]) -> list[str]:
    grid, origin = card["preparation"]["grid"], card["preparation"]["origin"]
    placed = f", placed by {origin}" if origin else ""
    encoder, calibration = card["encoder"], card["calibration"]
    held_out = [f"{n} {name}" for name, n in zip(card["classes"], calibration["held_out"], strict=True)]
    sets, cohort, n_viewed = calibration["sets"], card["cohort"].items(), card["bags_with_views"]
    return [
        "| class | bags | slides | patients | tiles |",
        "|---|---|---|---|---|",
        *(f"| {n} | {c['bags']} | {c['slides']} | {c['patients']} | {c['tiles']} |" for n, c in cohort),
        "",
        f"- Negative class: {card['negative_class'] or 'none (subtypes)'}.",
        f"- Classes {'exclude' if card['is_exclusive'] else 'do not exclude'} each other; a bag is of one "
        f"{card['bag']}.",
        f"- Tiles: {grid['tile_px']} px at {grid['tile_mpp']:g} µm/px{placed}"
        f"{f'; augmented views of those of {n_viewed} bags were learned from too' if n_viewed else ''}.",
        f"- Encoder: `{encoder['name']}`, licence {encoder.get('licence', 'unknown')}, source "
        f"{encoder.get('source', 'unknown')}, fingerprint {encoder['fingerprint']}.",
        f"- {card['bag'].capitalize()}s are {_calibrated(calibration['slides'])}, "
        f"tiles {_calibrated(calibration['tiles'])}; "
        f"held out for it: {', '.join(held_out)}.",
        f"- Sets hold the true class of {sets['level']:.0%} of {card['bag']}s like these"
        f"{', within each class' if sets['by_class'] else ''}.",
        *_swept(card["training_options"]),
        "- All options: `card.json`, `config.json`, `recipe.json`.",
    ]


def _swept(options: dict[str, Any]) -> list[str]:
    if "sweep" not in options:
        return []
    found = ", ".join(f"`{name}` {value}" for name, value in options["swept"].items())
    bag = options["bag"]
    return [
        f"- A sweep of {options['sweep']} trials in each fold chose, by validation {bag}s: {found}. The "
        "models behind the figures below have options of their own, chosen without the "
        f"{bag}s that they are measured on (`sweep.csv`)."
    ]


def _calibrated(lines: dict[str, Any] | None) -> str:
    return "not calibrated" if lines is None else "calibrated"


def _shares(prototypes: pd.DataFrame) -> list[str]:
    """Tell how often each prototype is the nearest, in the mean of the bags of each class."""
    if prototypes.empty:
        return []
    table = prototypes.pivot_table("share", "group", "class", aggfunc="first", sort=False)
    rows = [
        f"| {group} | " + " | ".join(f"{float(share):.1%}" for share in shares) + " |"
        for group, *shares in table.itertuples()
    ]
    return [
        "",
        "They are the tiles nearest to each prototype of the model, the first its medoid. The share of",
        "tiles that have it for their nearest, in the mean of the bags of a class:",
        "",
        "| prototype | " + " | ".join(map(str, table.columns)) + " |",
        "|---" * (1 + len(table.columns)) + "|",
        *rows,
    ]


def _shown(typical: pd.DataFrame) -> list[str]:
    lines = []
    for group, rows in typical.groupby("group", sort=False):
        there = [row for row in rows.to_dict("records") if row["picture"]]
        pictures = [f"![{r['slide_id']} at {r['x']}, {r['y']}]({FOLDER}/{r['picture']})" for r in there]
        told = " ".join(pictures) or "The slides could not be read; see `typical/typical.csv`."
        lines += ["", f"### {group}", "", told]
    return lines
