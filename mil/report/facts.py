"""What a run was made of and by: steps, times, versions, and the model with its card."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from mil.model import read_card
from mil.run_folder import Run

from .attrition import steps_of


@dataclass(frozen=True)
class Facts:
    """What run.json and the model's card tell; empty where they do not.

    `steps` has the columns step, finished, seconds, slides, machine, command; `options` each step's options
    as JSON; `typical` has the columns group, picture (a path) and told.
    """

    name: str
    learner: str
    encoder: str
    steps: pd.DataFrame
    options: dict[str, str]
    versions: dict[str, str]
    card: dict[str, Any]
    model: Path | None = None
    typical: pd.DataFrame = field(default_factory=pd.DataFrame)
    missing_card: str = ""  # where the model's card was looked for and not found


def run_facts(run: Run) -> Facts:
    """Return what is known of how a run came about.

    Raises:
        FormatError: run.json or the model's card is damaged.
    """
    steps = steps_of(run)
    train, predict = steps.get("train", {}), steps.get("predict", {})
    if predict:  # the last of both is what predictions.csv is of
        is_new = not train or predict.get("finished", "") >= train.get("finished", "")
        train, predict = ({}, predict) if is_new else (train, {})
    learner = train.get("train", {}).get("learner", "")
    model = run.model_folder(learner) if learner else Path(predict["model"]) if predict else None
    card_path = model / "card.json" if model else None
    card = read_card(model) if model else {}
    learner = learner or card.get("learner", "")
    encoder = train.get("encoder") or card.get("encoder", {}).get("name", "")
    versions: dict[str, str] = {}
    for step in steps.values():
        versions |= step.get("versions", {})
    return Facts(
        run.root.absolute().name, learner, encoder, _table(steps), _options(steps), versions, card,
        model if model and card else None, _typical(run, model) if model else pd.DataFrame(),
        str(card_path) if card_path and not card else "",
    )  # fmt: skip


def _table(steps: dict[str, Any]) -> pd.DataFrame:
    rows = []
    for name, step in steps.items():
        counts = step.get("slides") or {}
        is_plain = isinstance(counts, int)  # of `pack`, which has no statuses
        slides = str(counts) if is_plain else ", ".join(f"{n} {status}" for status, n in counts.items())
        seconds = float(step["seconds"]) if "seconds" in step else float("nan")
        told = (step.get("machine", ""), step.get("command", ""))
        rows.append((name, step.get("finished", ""), seconds, slides, *told))
    return pd.DataFrame(rows, columns=["step", "finished", "seconds", "slides", "machine", "command"])


def _options(steps: dict[str, Any]) -> dict[str, str]:
    shown_elsewhere = ("finished", "seconds", "slides", "machine", "command", "versions")
    return {
        name: json.dumps({k: v for k, v in step.items() if k not in shown_elsewhere}, indent=1)
        for name, step in steps.items()
    }


def _typical(run: Run, model: Path) -> pd.DataFrame:
    """The run's own typical tiles: those of another run's model are pictures of other patients' tissue."""
    table = model / "typical" / "typical.csv"
    if not table.is_file() or not table.resolve().is_relative_to(run.root.resolve()):
        return pd.DataFrame()
    rows = pd.read_csv(table, dtype=str, keep_default_na=False)
    rows = pd.DataFrame(rows[rows["picture"] != ""])
    told = [f"{r['slide_id']} at {r['x']}, {r['y']}" for r in rows.to_dict("records")]
    pictures = [str(table.parent / Path(p).name) for p in rows["picture"]]
    return pd.DataFrame({"group": rows["group"].to_numpy(), "picture": pictures, "told": told})
