"""Vectors of tile pictures by one encoder, kept so that the same picture is not encoded twice."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from features import CheckedTiles, Encoder, EncoderCard
from tiling import SlidebagError, replacing


def seen_px(card: EncoderCard, checked: CheckedTiles) -> int:
    """Return the side at which an encoder sees pictures: that of most, if it takes that, else its own."""
    as_it_is = card.takes(checked.side_px) and not card.resizes
    return checked.side_px if as_it_is else card.input_px


def encode_tiles(
    checked: CheckedTiles, encoder: Encoder, folder: Path, report: Callable[[int], None]
) -> tuple[np.ndarray, int]:
    """Return vectors float32 (N, dim) of all pictures, and how many of them were not in `folder` yet.

    Raises:
        SlidebagError: the encoder yields what is no number.
        FormatError: a picture was replaced meanwhile by one that is not whole.
    """
    side_px = seen_px(encoder.card, checked)
    path = folder / f"{encoder.fingerprint}-{side_px}px.npz"
    known = _load(path, encoder.card.dim)
    missing = {digest: row for row, digest in enumerate(checked.digests) if digest not in known}
    report(len(checked.digests) - len(missing))
    pictures, digests = checked.tiles.of(list(missing.values())), iter(missing)
    try:
        for patches in pictures.patches(side_px, encoder.batch):
            vectors = encoder.encode(patches)
            if not np.isfinite(vectors).all():
                raise SlidebagError(
                    f"encoder {encoder.card.name} yields NaN or infinity", hint="use another --precision"
                )
            known |= {next(digests): vector for vector in vectors}
            report(len(vectors))
    finally:  # also where it is stopped: the same command again goes on from there
        if missing.keys() & known.keys():
            _save(path, {digest: known[digest] for digest in checked.digests if digest in known})
    return np.stack([known[digest] for digest in checked.digests]), len(missing)


def _load(path: Path, dim: int) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as stream, np.load(stream) as file:  # of a path numpy keeps a damaged file open
            digests, vectors = file["digests"], file["vectors"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return {}  # absent or damaged: to be made again
    is_sound = vectors.shape == (len(digests), dim) and vectors.dtype == np.float32
    return dict(zip(digests.tolist(), vectors, strict=True)) if is_sound else {}


def _save(path: Path, vectors: dict[str, np.ndarray]) -> None:
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, digests=np.array(list(vectors), "U64"), vectors=np.stack(list(vectors.values())))
