"""The way of a pretraining: tiles are looked at, a network is built, trained, and written as a folder."""

import csv
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

from features.architecture import LOCAL_DIR
from features.checkpoint import Checkpoint
from features.encoder import CARD, EncoderConfig, find_encoder, load_encoder
from features.encoder_folder import FolderEncoder, file_sha256, read_card, save_encoder_folder, write_card
from features.onnx_encoder import onnx_sha256
from features.tile_folder import as_patch
from features.weights import weights_sha256
from tiling import ConfigError, fingerprint

from .batches import take_readable
from .config import PretrainConfig, place, shared
from .neighbours import Probe
from .networks import Plan, plan_network, resizes
from .objective import Objective
from .processes import Processes
from .sources import Tiles
from .training import Training, first_views, write_csv
from .verb import Pretrained, PretrainStep

_VERSION = 6  # raise it whenever the same options and tiles make another encoder
_SAMPLE_TILES = 512  # whose colours are looked at
_FIRST_VIEWS = 16384  # of tiles, of which what teachers make is looked at before the first step
_CHECKPOINT, _TAUGHT, _BROKEN = "checkpoint.safetensors", "taught", "broken.csv"
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
        """Look at all tiles, and write nothing yet; raises as `pretrain` does."""
        processes = Processes.join(config)
        tiles = Tiles.open(sources)
        told = [int(digest[:8], 16) / 2**32 if label else 1.0 for digest, label in _digests(tiles)]
        is_held = np.array(told) < config.held_out
        return cls(tiles, np.flatnonzero(~is_held), np.flatnonzero(is_held), folder, config, processes)

    @cached_property
    def identity(self) -> str:
        """What changes with any tile, with any option that changes a weight, and with local weights."""
        config = self.config
        weights = [_weights_of(each) for each in (config.initial, *config.teachers) if each]
        return fingerprint(_VERSION, self.tiles.identity, config.consequential(), weights)

    @property
    def _checkpoint(self) -> Checkpoint:
        return Checkpoint(self.folder / _CHECKPOINT, self.identity)

    def is_done(self) -> bool:
        """Return whether the folder has this very encoder; ConfigError if it has, or is to have, another."""
        if not (self.folder / CARD).is_file():
            if self._checkpoint.is_of_another():
                raise ConfigError(
                    f"{self._checkpoint.path}: is of another training: other tiles, options or weights",
                    hint="give the same ones, or another folder",
                )
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
        """Train, and write the encoder; raises as `pretrain` does."""
        config, ways, broken = self.config, self.processes, dict(self.tiles.broken)
        self._tell(broken)
        self._refuse_few()
        plan = plan_network(config, config.name or self.folder.resolve().name, self.tiles.side_um)
        if not config.init:
            plan = replace(plan, card=replace(plan.card, **_colours(self.tiles, self.trained, broken)))
        with torch.random.fork_rng([ways.torch_device] if ways.torch_device.type == "cuda" else []):
            torch.manual_seed(config.seed)
            objective = self._objective(plan, report)
        training = Training(objective, plan, config, self.folder, ways)
        probe = Probe.of(self.tiles, self.trained, self.held_out, config.seed)
        training.run(self.tiles, self.trained, self._checkpoint, probe, report)
        broken |= training.broken
        if broken != self.tiles.broken:
            self._tell(broken)
        if ways.is_first:
            figures = training.history[-1] if training.history else {}
            recipe = shared({"identity": self.identity, "config": asdict(config), **_versions(), **about})
            data = self._data(len(broken))
            told = {"data": data, "figures": figures, "limits": _LIMITS, "recipe": recipe}
            save_encoder_folder(
                self.folder, objective.trunk, plan.card, plan.architecture, dtype=config.save_as, about=told
            )

    def finish(self) -> Pretrained:
        """Remove what was only needed to go on, let the card tell what options tell; return what is there."""
        n, n_held_out = len(self.trained) if self.config.epochs else 0, len(self.held_out)
        if not self.processes.is_first:
            return Pretrained(self.folder, n, n_held_out, {}, {}, self.processes.rank)
        self._checkpoint.remove()
        shutil.rmtree(self.folder / _TAUGHT, ignore_errors=True)
        told = read_card(self.folder)
        card = _as_told(told, self.config)
        if card != told:
            write_card(self.folder, card)
        return Pretrained(self.folder, n, n_held_out, _named_broken(self.folder), told["figures"])

    def _tell(self, broken: dict[str, str]) -> None:
        """Name what is broken, in short on stderr, all of it in the folder."""
        if not self.processes.is_first:
            return
        if not broken:
            (self.folder / _BROKEN).unlink(missing_ok=True)  # of a first try
            return
        first = ", ".join(list(broken)[:3]) + (", ..." if len(broken) > 3 else "")
        print(f"pretrain: {len(broken)} broken tiles or files are left out: {first}", file=sys.stderr)
        write_csv(self.folder / _BROKEN, [{"name": name, "error": why} for name, why in broken.items()])

    def _refuse_few(self) -> None:
        n, least, n_broken = len(self.trained), self.config.batch, len(self.tiles.broken)
        if self.config.epochs and n < least:
            broken = f", {n_broken} are broken" if n_broken else ""
            raise ConfigError(
                f"{n} tiles to learn from{broken}, wanted {least} or more, a batch",
                hint="give more tiles, or a smaller --batch",
            )

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
        if not self._checkpoint.path.is_file():
            sample = first_views(self.tiles, self.trained, config, ways, _FIRST_VIEWS, report)
            objective.begin(sample, ways)
        return objective

    def _data(self, n_broken: int) -> dict[str, Any]:
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
            "n_broken": n_broken,
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
    elif own.startswith(LOCAL_DIR):
        digests.append(weights_sha256(Path(own.removeprefix(LOCAL_DIR))))
    return "".join(digests)


def _digests(tiles: Tiles) -> list[tuple[str, str]]:
    return [(d, label) if d else ("0", "") for d, label in zip(tiles.digests, tiles.labels, strict=True)]


def _colours(tiles: Tiles, trained: np.ndarray, broken: dict[str, str]) -> dict[str, tuple[float, ...]]:
    """Mean and spread of red, green and blue over a sample of tiles, in 0 to 1."""
    places = np.linspace(0, len(trained) - 1, min(len(trained), _SAMPLE_TILES)).astype(int)
    sample = (take_readable(tiles, trained, k, broken)[1] for k in places.tolist())
    pixels = np.concatenate([as_patch(each, 32).reshape(-1, 3) for each in sample]) / 255
    mean, std = pixels.mean(axis=0), np.maximum(pixels.std(axis=0), 0.05)
    return {"mean": tuple(mean.round(4).tolist()), "std": tuple(std.round(4).tolist())}


def _versions() -> dict[str, Any]:
    return {"versions": {name: version(name) for name in ("slidebag", "torch", "timm", "lightly")}}


def _as_told(card: dict[str, Any], config: PretrainConfig) -> dict[str, Any]:
    """Return a card that tells what is given of options that change no weight; the rest stays as it is."""
    told = {"name": config.name, "licence": config.licence, "mpp": config.mpp}
    given = {name: value for name, value in told.items() if value}
    about = {"data": config.data} if config.data else {}
    recipe = card["recipe"] | {"config": card["recipe"]["config"] | shared(given | about)}
    data = card["data"] | ({"about": config.data} if config.data else {})
    return card | given | {"data": data, "recipe": recipe}


def _named_broken(folder: Path) -> dict[str, str]:
    path = folder / _BROKEN
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {row["name"]: row["error"] for row in csv.DictReader(file)}
