"""What tile search takes from feature bags: unit vectors of readable tiles, one bag at a time."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tiling import FormatError, SlidebagError, open_checked, read_header

from .bag import load_features


@dataclass(frozen=True)
class BagHead:
    """What a bag says of itself without its features being read."""

    n_tiles: int  # that could be read
    dim: int
    encoder: str
    encoder_fingerprint: str
    fingerprint: str


def load_heads(bags: Mapping[str, Path]) -> dict[str, BagHead]:
    """Return the head of each bag {slide_id: path}.

    Raises:
        FormatError: a bag is absent or damaged, or there is no tile in any.
        SlidebagError: they are of different encoders or weights.
    """
    heads = {slide_id: _head(path) for slide_id, path in bags.items()}
    if not any(head.n_tiles for head in heads.values()):
        raise FormatError(f"{len(heads)} bags hold no tile to search", hint="extract slides with tissue")
    first = next(iter(heads))
    for slide_id, head in heads.items():
        if head.encoder_fingerprint != heads[first].encoder_fingerprint:
            raise SlidebagError(
                f"{slide_id}: its features are of other weights, precision or stain than those of {first}",
                hint="extract all slides of the run with the same encoder, weights and options",
            )
    return heads


def _head(path: Path) -> BagHead:
    with open_checked(path, "features") as file:
        told = read_header(file)
        return BagHead(
            n_tiles=len(file["coords"]) - int(told["n_unreadable"]),  # pyright: ignore[reportArgumentType]
            dim=int(told["dim"]),
            encoder=str(told["encoder"]),
            encoder_fingerprint=str(told["encoder_fingerprint"]),
            fingerprint=str(told["fingerprint"]),
        )


def load_units(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return of a bag's readable tiles the unit vectors, float32 (n, D), and row, x, y, int64 (n, 3)."""
    bag = load_features(path)
    rows = np.flatnonzero(~bag.unreadable)
    return unit(bag.features[rows]), np.column_stack([rows, bag.coords[rows]])


def sample_units(bags: Mapping[str, Path], heads: Mapping[str, BagHead], n: int, *, seed: int) -> np.ndarray:
    """Return the unit vectors of `n` tiles drawn evenly from all readable ones, float32 (n, D)."""
    ends = np.cumsum([heads[slide_id].n_tiles for slide_id in bags])
    drawn = np.sort(np.random.default_rng(seed).permutation(ends[-1])[:n])
    parts = []
    for path, end, start in zip(bags.values(), ends, [0, *ends[:-1]], strict=True):
        inside = drawn[(drawn >= start) & (drawn < end)] - start
        if len(inside):
            parts.append(load_units(path)[0][inside])
    return np.concatenate(parts)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Return vectors (n, D) at length 1, float32; one of zeros stays as it is."""
    vectors = np.asarray(vectors, np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)
