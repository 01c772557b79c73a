"""The verb `probe`: several encoders side by side on tiles whose class is known."""

import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from features import EncoderConfig, TileFolder, find_devices, find_encoder, load_encoder
from mil.progress import progress
from mil.run_folder import Run
from tiling import ConfigError, SlidebagError, WriteError

from .config import N_DRAWS, ProbeConfig
from .figures import COLUMNS, figures_of
from .tiles import ProbeTiles, load_tiles
from .vectors import encode_tiles, seen_px
from .write import write_probed


@dataclass(frozen=True)
class Probed:
    """What a probe found: `figures` has a row for each encoder, method and figure (docs/probe.md).

    `warnings` are what a reader should know, `failed` encoders by name with what went wrong. The same is in
    the files.
    """

    figures: pd.DataFrame
    warnings: tuple[str, ...]
    failed: dict[str, str]
    files: tuple[Path, ...]


def probe(
    tiles: Path,
    out: Path,
    encoders: EncoderConfig | Sequence[EncoderConfig],
    config: ProbeConfig | None = None,
) -> Probed:
    """Measure how well encoders tell apart the classes of tile pictures; write a table, a record and a plot.

    `tiles` is a folder with a subfolder for each class, or a CSV table. An encoder that cannot be used is
    told, and the others go on.

    Raises:
        ConfigError: an option does not fit, or there are too few classes, tiles or groups.
        FormatError: the table or the folder cannot be used.
        SlidebagError: no encoder could be used, or the files cannot be written.
    """
    config = config or ProbeConfig()
    named = _named([encoders] if isinstance(encoders, EncoderConfig) else list(encoders))
    if Path(tiles).is_dir() and Path(out).resolve().is_relative_to(Path(tiles).resolve()):
        raise ConfigError(f"{out} lies in the folder of the tiles", hint="choose another output folder")
    found = TileFolder.open(tiles, group_column=config.group_column, batch_column=config.batch_column)
    known = load_tiles(found, config)
    device, out = find_devices(config.device)[0], Run.create(out).root
    frames, told, failed, warnings = [], {}, {}, list(known.warnings)
    for name, each in named.items():
        try:
            frame, told[name] = _probed(name, each, known, out, device, config)
        except WriteError:  # the next one's vectors could not be written either
            raise
        except SlidebagError as error:
            failed[name] = str(error)
        else:
            frames.append(frame.assign(encoder=name))
            warnings += told[name].pop("warnings")
    if not frames:
        raise SlidebagError("; ".join(failed.values()))
    figures = pd.DataFrame(pd.concat(frames, ignore_index=True), columns=["encoder", *COLUMNS])
    record = known.told() | {"encoders": told, "failed": failed, "warnings": warnings, "n_draws": N_DRAWS}
    return Probed(figures, tuple(warnings), failed, write_probed(out, figures, record, config))


def _named(encoders: Sequence[EncoderConfig]) -> dict[str, EncoderConfig]:
    """The encoders by what they are called: one that is there several times, by its weights too."""
    for each in encoders:
        find_encoder(each.encoder)  # that there is none is told before anything is read
        if each.stain != "none" or each.token_side:
            raise ConfigError(
                "pictures are encoded as they are, and by one vector",
                hint="leave out --stain and --token-side",
            )
    times = Counter(each.encoder for each in encoders)
    paths = [Path(each.weights or "published weights") for each in encoders]
    for n_parts in range(1, max([1, *(len(path.parts) for path in paths)]) + 1):
        named = {}  # by as little of the paths as tells them apart: weights may be of one file name
        for each, path in zip(encoders, paths, strict=True):
            end = Path(*path.parts[-n_parts:]).as_posix()
            named[f"{each.encoder} ({end})" if times[each.encoder] > 1 else each.encoder] = each
        if len(named) == len(encoders):
            return named
    (name, path), _ = Counter(zip((each.encoder for each in encoders), paths, strict=True)).most_common(1)[0]
    raise ConfigError(
        f"encoder {name} ({path.name}) is named twice", hint="name each once, or give other --weights"
    )


def _probed(
    name: str, each: EncoderConfig, known: ProbeTiles, out: Path, device: str, config: ProbeConfig
) -> tuple[pd.DataFrame, dict]:
    """The figures of one encoder, and what it is and how it sees the tiles."""
    encoder = load_encoder(each, device=device)
    card, side_px = encoder.card, seen_px(encoder.card, known.checked)
    print(
        f"probe: {name} in {encoder.precision} by {encoder.engine} on {device}, {side_px} px", file=sys.stderr
    )
    started = time.monotonic()
    with progress("encode", len(known.checked.digests), unit="tiles") as advance:
        vectors, n_encoded = encode_tiles(known.checked, encoder, out / "vectors", lambda n: advance(name, n))
    seconds = time.monotonic() - started
    frame, chosen = figures_of(vectors, known.known, known.folds, config)
    told = {
        "fingerprint": encoder.fingerprint, "dim": card.dim, "precision": encoder.precision,
        "engine": encoder.engine, "device": device, "weights": each.weights, "seen_px": side_px,
        "seen_mpp": known.seen_mpp(side_px, config.mpp), "trained_mpp": card.mpp, "n_encoded": n_encoded,
        "seconds": round(seconds, 3), "warnings": known.misfits(name, card, side_px, config.mpp),
    }  # fmt: skip
    return frame, told | chosen
