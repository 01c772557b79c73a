"""The way of a pretraining: tiles are looked at, a network is built, trained, and written as a folder."""

import shutil
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from features.encoder import CARD, EncoderConfig, find_encoder, load_encoder
from features.encoder_folder import FolderEncoder, file_sha256, read_card, save_encoder_folder
from features.onnx_encoder import onnx_sha256
from features.tile_folder import as_patch
from features.weights import weights_sha256
from tiling import ConfigError, fingerprint

from .config import PretrainConfig, place, shared
from .neighbours import Probe
from .networks import Plan, plan_network, resizes
from .objective import Objective
from .processes import Processes
from .sources import Tiles
from .training import CHECKPOINT, Training, first_views, write_csv
from .verb import Pretrained, PretrainStep

_VERSION = 6  # raise it whenever the same options and tiles make another encoder
_SAMPLE_TILES = 512  # whose colours are looked at
_FIRST_VIEWS = 16384  # of tiles, of which what teachers make is looked at before the first step
_TAUGHT, _BROKEN = "taught", "broken.csv"
_LOCAL = "local-dir:"  # what timm calls a folder of its own layout
_LIMITS = "Of other tissue, stains and scanners than those of the tiles under `data` nothing is known."


@dataclass(frozen=True)
class Course:
    """One pretraining; `trained` and `held_out` are places in `tiles`, int (n,)."""

    tiles: Tiles
    trained: np.ndarray
    held_out: np.ndarray
    folder: Path
    config: PretrainConfig
    processes: Processes

    @classmethod
    def open(cls, sources: Sequence[Path], folder: Path, config: PretrainConfig) -> "Course":
        """Look at all tiles; raises as `pretrain` does."""
        processes = Processes.join(config)
        tiles = Tiles.open(sources)
        told = [int(digest[:8], 16) / 2**32 if label else 1.0 for digest, label in _digests(tiles)]
        is_held = np.array(told) < config.held_out
        course = cls(tiles, np.flatnonzero(~is_held), np.flatnonzero(is_held), folder, config, processes)
        if processes.is_first:
            _tell_broken(tiles.broken, folder)
        if config.epochs and len(course.trained) < config.batch:
            broken = f", {len(tiles.broken)} are broken" if tiles.broken else ""
            raise ConfigError(
                f"{len(course.trained)} tiles to learn from{broken}, wanted {config.batch} or more, a batch",
                hint="give more tiles, or a smaller --batch",
            )
        return course

    @cached_property
    def identity(self) -> str:
        """What changes with any tile, with any option that changes a weight, and with local weights."""
        config = self.config
        weights = [_weights_of(each) for each in (config.initial, *config.teachers) if each]
        return fingerprint(_VERSION, self.tiles.identity, config.consequential(), weights)

    def is_done(self) -> bool:
        """Return whether the folder has this very encoder; ConfigError if it has another."""
        if not (self.folder / CARD).is_file():
            return False
        told, wanted = read_card(self.folder), resizes(self.config)
        if told.get("recipe", {}).get("identity") != self.identity:
            raise ConfigError(
                f"{self.folder}: has an encoder of other tiles, options or weights",
                hint="give another folder",
            )
        if told.get("resizes", False) != wanted:  # it changes no weight, so it is not in the identity
            raise ConfigError(
                f"{self.folder}: resizes is {not wanted} in its card, wanted {wanted}",
                hint=f"give {'--no-resize' if wanted else '--resize'}, or another folder",
            )
        return True

    def run(self, report: Callable[[PretrainStep], None], about: dict[str, Any]) -> None:
        """Train, and write the folder; what is only needed to go on is removed then."""
        config, ways = self.config, self.processes
        plan = plan_network(config, config.name or self.folder.resolve().name, self.tiles.side_um)
        if not config.init:
            plan = replace(plan, card=replace(plan.card, **_colours(self.tiles, self.trained)))
        with torch.random.fork_rng([ways.torch_device] if ways.torch_device.type == "cuda" else []):
            torch.manual_seed(config.seed)
            objective = self._objective(plan, report)
        training = Training(objective, plan, config, self.folder, ways)
        probe = Probe.of(self.tiles, self.trained, self.held_out, config.seed)
        training.run(self.tiles, self.trained, self.identity, probe, report)
        if ways.is_first:
            _tell_broken(self.tiles.broken | training.broken, self.folder)
            figures = training.history[-1] if training.history else {}
            recipe = {"identity": self.identity, "config": asdict(config), **_versions(), **about}
            told = {"data": self._data(), "figures": figures, "limits": _LIMITS, "recipe": shared(recipe)}
            save_encoder_folder(
                self.folder, objective.trunk, plan.card, plan.architecture, dtype=config.save_as, about=told
            )
            (self.folder / CHECKPOINT).unlink(missing_ok=True)  # there is none of 0 epochs
            shutil.rmtree(self.folder / _TAUGHT, ignore_errors=True)

    def result(self) -> Pretrained:
        """Return what the folder has."""
        figures = read_card(self.folder)["figures"] if self.processes.is_first else {}
        n, n_held_out = len(self.trained) if self.config.epochs else 0, len(self.held_out)
        return Pretrained(self.folder, n, n_held_out, self.tiles.broken, figures, self.processes.rank)

    def _objective(self, plan: Plan, report: Callable[[PretrainStep], None]) -> Objective:
        config, ways = self.config, self.processes
        if not config.teacher:
            from .self_distillation import SelfDistillation

            return SelfDistillation(plan, config, is_reduced=ways.is_reduced).to(ways.torch_device)
        from .distillation import Distillation, Taught, check_teacher

        teachers = [load_encoder(each, device=ways.device) for each in config.teachers]
        for teacher in teachers:
            check_teacher(teacher, config)
        # several processes do not share files that each would write
        kept = self.folder / _TAUGHT / self.identity if ways.world == 1 else None
        taught = Taught(teachers, config, len(self.trained), kept)
        objective = Distillation(plan, config, taught, is_reduced=ways.is_reduced).to(ways.torch_device)
        if not (self.folder / CHECKPOINT).is_file():
            sample = first_views(self.tiles, self.trained, config, ways, _FIRST_VIEWS, report)
            objective.begin(sample, ways)
        return objective

    def _data(self) -> dict[str, Any]:
        tiles, config = self.tiles, self.config
        if not config.epochs:
            return {"about": config.data}
        n_of = Counter()  # of places that are called alike, together
        for source in tiles.sources:
            n_of[place(source.place)] += len(source)
        return {
            "about": config.data,
            "sources": n_of,
            "n_tiles": len(self.trained),
            "n_broken": len(tiles.broken),
            "n_held_out": len(self.held_out),
            "held_out": f"labelled pictures whose SHA-256 is below {config.held_out:g} of the largest",
            "labels": Counter(tiles.labels[k] for k in self.trained.tolist() if tiles.labels[k]),
        }


def _weights_of(told: EncoderConfig) -> str:
    """Return what changes with an encoder of this machine, which may be another tomorrow."""
    entry = find_encoder(told.encoder)
    if isinstance(entry.load, FolderEncoder):
        computed = replace(entry.card, name="", licence="", source="", mpp=None)  # the rest is for people
        return fingerprint(entry.load.weights_sha256, entry.load.architecture, computed)
    digests = [weights_sha256(Path(told.weights))] if told.weights else []
    family, _, own = told.encoder.partition(":")
    if family in ("torchscript", "onnx"):
        file = Path(own)
        card = file.with_suffix(".json")
        digests.append(onnx_sha256(file) if family == "onnx" else file_sha256(file))
        digests += [file_sha256(card)] if card.is_file() else []
    elif own.startswith(_LOCAL):
        digests.append(weights_sha256(Path(own.removeprefix(_LOCAL))))
    return "".join(digests)


def _digests(tiles: Tiles) -> list[tuple[str, str]]:
    return [(d, label) if d else ("0", "") for d, label in zip(tiles.digests, tiles.labels, strict=True)]


def _colours(tiles: Tiles, trained: np.ndarray) -> dict[str, tuple[float, ...]]:
    """Mean and spread of red, green and blue over a sample of tiles, in 0 to 1."""
    some = trained[np.linspace(0, len(trained) - 1, min(len(trained), _SAMPLE_TILES)).astype(int)]
    pixels = np.concatenate([as_patch(tiles.take(k), 32).reshape(-1, 3) for k in some.tolist()]) / 255
    mean, std = pixels.mean(axis=0), np.maximum(pixels.std(axis=0), 0.05)
    return {"mean": tuple(mean.round(4).tolist()), "std": tuple(std.round(4).tolist())}


def _versions() -> dict[str, Any]:
    return {"versions": {name: version(name) for name in ("slidebag", "torch", "timm", "lightly")}}


def _tell_broken(broken: dict[str, str], folder: Path) -> None:
    if not broken:
        return
    first = ", ".join(list(broken)[:3]) + (", ..." if len(broken) > 3 else "")
    print(f"pretrain: {len(broken)} broken tiles or files are left out: {first}", file=sys.stderr)
    write_csv(folder / _BROKEN, [{"name": name, "error": why} for name, why in broken.items()])
