"""The recipe beside a model: how a slide becomes a bag for it, and the thresholds frozen on validation."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from features import EncoderConfig
from mil.model_files import read_versioned
from mil.prepare import Preparation
from tiling import FormatError, GridConfig, TissueConfig, replacing

_VERSION = 3  # 1 had no calibration beside it, 2 one threshold and no kind of bag


@dataclass(frozen=True)
class Recipe:
    """What `predict` must know beyond the weights.

    `slide_thresholds` is one for each positive class where that decides alone: where there are a negative
    and a positive class, or where classes do not exclude each other. Else it is empty.
    """

    preparation: Preparation
    encoder_fingerprint: str
    slide_thresholds: tuple[float, ...]
    tile_threshold: float
    bag: str  # what one bag holds: "slide", or "patient" for all slides of one
    fingerprint: str  # of the training: learner, options, bags, labels, folds, seed

    def save(self, folder: Path) -> None:
        """Write recipe.json, the last file of a model: that it exists means that the model is whole."""
        with replacing(folder / "recipe.json") as temporary:
            told = {"format": "slidebag.recipe", "format_version": _VERSION, **asdict(self)}
            temporary.write_text(json.dumps(told, indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> "Recipe":
        """Read recipe.json.

        Raises:
            FormatError: there is none, it is damaged, or of a newer version.
        """
        path = folder / "recipe.json"
        if not path.is_file():
            raise FormatError(
                f"{folder}: has no recipe.json, so no whole model", hint="train one, or name its folder"
            )
        try:
            told = read_versioned(path, _VERSION)
            if told["format_version"] < _VERSION:
                raise FormatError(
                    f"{path}: format version {told['format_version']}, this slidebag reads {_VERSION}",
                    hint="train again",
                )
            steps = told["preparation"]
            preparation = Preparation(
                GridConfig(**steps["grid"]),
                TissueConfig(**steps["tissue"]),
                EncoderConfig(**(steps["encoder"] | {"weights": None})),
                steps["dtype"],
                steps.get("origin", ""),  # recipes of before there was one
            )
            return cls(
                preparation,
                told["encoder_fingerprint"],
                tuple(told["slide_thresholds"]),
                told["tile_threshold"],
                told["bag"],
                told["fingerprint"],
            )
        except (KeyError, TypeError, json.JSONDecodeError, UnicodeDecodeError) as error:
            raise FormatError(f"{path}: damaged ({error!r})", hint="train again") from error


def stored_recipe_fingerprint(folder: Path) -> str | None:
    """Return the fingerprint of the whole model in `folder`, None where there is none to trust."""
    try:
        return Recipe.load(folder).fingerprint
    except FormatError:
        return None
