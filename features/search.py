"""Tile search: which tiles of many slides are nearest to a vector, by cosine similarity."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from tiling import ConfigError, FormatError, fingerprint, replacing

from .search_bags import BagHead, load_heads, load_units, sample_units, unit
from .search_lists import (
    SAMPLE_A_LIST,
    choose_probes,
    exact_index,
    faiss_module,
    list_index,
    n_lists_for,
    nearest,
    read_index,
)

_VERSION = 1  # of the folder's files and of how they are made
_INDEX, _TILES, _TOLD = "index.faiss", "tiles.npy", "index.json"
_KEPT = ("encoder", "encoder_fingerprint", "fingerprint", "n_lists", "n_probes", "recall")
_QUERIES = 4096  # at a time, of a learner that asks for all


@dataclass(frozen=True, kw_only=True)
class IndexConfig:
    """How tiles are searched: all compared with the query, or only those of the nearest lists (IVF)."""

    exact_up_to: int = field(
        default=1_000_000, metadata={"help": "most tiles that are all compared; more are searched by lists"}
    )
    least_recall: float = field(
        default=0.95, metadata={"help": "share of the 20 nearest that a search by lists has to find"}
    )
    seed: int = field(default=0, metadata={"help": "seed of what is drawn to make and measure the lists"})

    def __post_init__(self) -> None:
        if self.exact_up_to < 0:
            raise ConfigError(f"exact_up_to is {self.exact_up_to}", hint="give a number of tiles, 0 or more")
        if not 0 < self.least_recall <= 1:
            raise ConfigError(f"least_recall is {self.least_recall:g}", hint="give more than 0, up to 1")
        if self.seed < 0:
            raise ConfigError(f"seed is {self.seed}", hint="give 0 or more")


@dataclass(frozen=True)
class Neighbours:
    """What is near each of n queries, the nearest first.

    `positions` int64 (n, k) are rows of `TileIndex.tiles`, -1 where there are no more; `similarity`
    float32 (n, k) is the cosine, NaN there.
    """

    positions: np.ndarray
    similarity: np.ndarray


@dataclass(frozen=True)
class TileIndex:
    """The readable tiles of some bags, slide after slide, to be searched.

    `tiles` int64 (N, 4) says of each its slide (a place in `slide_ids`), its row in the bag, and its
    level-0 corner x, y. `n_lists` is 0 where every search is exact; else `n_probes` lists are searched,
    and `recall` is the share of the 20 nearest tiles on other slides that this was measured to find.
    """

    slide_ids: tuple[str, ...]
    tiles: np.ndarray
    encoder: str
    encoder_fingerprint: str
    fingerprint: str
    n_lists: int
    n_probes: int
    recall: float
    faiss_index: Any

    def __len__(self) -> int:
        return len(self.tiles)

    def __repr__(self) -> str:
        way = "exact"
        if self.n_lists:
            way = f"{self.n_probes} of {self.n_lists} lists searched, recall {self.recall:.3f}"
        return f"TileIndex({len(self)} tiles of {len(self.slide_ids)} slides by {self.encoder}, {way})"

    @classmethod
    def current(
        cls,
        bags: Mapping[str, Path],
        folder: Path,
        config: IndexConfig | None = None,
        *,
        report: Callable[[str], None] | None = None,
    ) -> "TileIndex":
        """Return the index in `folder` if it is of these bags and options, else `build` it there."""
        config, told = config or IndexConfig(), _told(folder)
        if told and told.get("fingerprint") == _fingerprint(load_heads(bags), config):
            try:
                return cls.load(folder)
            except FormatError:  # damaged: to be made again
                pass
        return cls.build(bags, folder, config, report=report)

    @classmethod
    def build(
        cls,
        bags: Mapping[str, Path],
        folder: Path,
        config: IndexConfig | None = None,
        *,
        report: Callable[[str], None] | None = None,
    ) -> "TileIndex":
        """Index the bags {slide_id: path} and keep the index in `folder`.

        In memory are the index and one bag at a time. `report` is called with each slide's id.

        Raises:
            FormatError: a bag is absent or damaged, or there is no tile in any.
            SlidebagError: the bags are of different encoders or weights.
        """
        config, heads = config or IndexConfig(), load_heads(bags)
        n_tiles = sum(head.n_tiles for head in heads.values())
        first = next(iter(heads.values()))
        n_lists = n_lists_for(n_tiles) if n_tiles > config.exact_up_to else 0
        if n_lists:
            sample = sample_units(bags, heads, SAMPLE_A_LIST * n_lists, seed=config.seed)
            index = list_index(sample, n_lists, seed=config.seed)
        else:
            index = exact_index(first.dim)
        tiles = _filled(index, bags, report)
        n_probes, recall = 0, 1.0
        if n_lists:
            index.make_direct_map()
            n_probes, recall = choose_probes(index, tiles[:, 0], config.least_recall, seed=config.seed)
        made = cls(
            slide_ids=tuple(bags), tiles=tiles, faiss_index=index,
            encoder=first.encoder, encoder_fingerprint=first.encoder_fingerprint,
            fingerprint=_fingerprint(heads, config), n_lists=n_lists, n_probes=n_probes, recall=recall,
        )  # fmt: skip
        _save(made, folder, config, heads)
        return made

    @classmethod
    def load(cls, folder: Path) -> "TileIndex":
        """Read the index in a folder; lists stay on the disk until they are searched.

        Raises:
            FormatError: there is none, or it is damaged or of another version.
        """
        told = _told(folder)
        if told is None or told.get("format_version") != _VERSION:
            raise FormatError(f"{folder}: holds no index of version {_VERSION}", hint="build it again")
        try:
            index = read_index(folder / _INDEX, has_lists=bool(told["n_lists"]))
            tiles = np.load(folder / _TILES)
        except (OSError, ValueError, RuntimeError) as error:  # RuntimeError is faiss's
            raise FormatError(f"{folder}: index cannot be read ({error})", hint="build it again") from error
        if not len(tiles) == index.ntotal == told["n_tiles"]:
            raise FormatError(
                f"{folder}: {index.ntotal} vectors, {len(tiles)} tiles, wanted {told['n_tiles']}",
                hint="build it again",
            )
        if told["n_lists"]:
            index.make_direct_map()
        kept = {name: told[name] for name in _KEPT}
        return cls(slide_ids=tuple(told["bags"]), tiles=tiles, faiss_index=index, **kept)

    def of_slides(self, slide_ids: Collection[str]) -> np.ndarray:
        """Return which tiles are of some slides, bool (N,)."""
        return np.isin(self.tiles[:, 0], [k for k, name in enumerate(self.slide_ids) if name in slide_ids])

    def positions_of(self, slide_id: str, rows: np.ndarray) -> np.ndarray:
        """Return the positions of rows of a slide's bag, int64 (n,), without those that were unreadable.

        Raises:
            ConfigError: the slide is not in the index.
        """
        if slide_id not in self.slide_ids:
            raise ConfigError(
                f"slide {slide_id!r} is not among the {len(self.slide_ids)} of the index",
                hint=f"extract it with {self.encoder}",
            )
        own = self.of_slides({slide_id})
        return np.flatnonzero(own)[np.isin(self.tiles[own, 1], rows)]

    def vectors(self, positions: np.ndarray) -> np.ndarray:
        """Return the unit vectors of some tiles, float32 (n, D)."""
        return self.faiss_index.reconstruct_batch(np.ascontiguousarray(positions, np.int64))

    def search(self, vectors: np.ndarray, k: int, *, among: np.ndarray | None = None) -> Neighbours:
        """Return the k tiles of highest cosine similarity to each of `vectors` (n, D), of any length.

        `among`, bool (N,), says which tiles may be found. Where the lists searched hold fewer than k of
        them, all lists are.

        Raises:
            ConfigError: `k` is below 1, or the vectors are of another dim.
        """
        dim = self.faiss_index.d
        if k < 1:
            raise ConfigError(f"{k} tiles were asked for", hint="ask for 1 or more")
        if vectors.ndim != 2 or vectors.shape[1] != dim:
            raise ConfigError(
                f"vectors are {vectors.shape}, wanted (n, {dim})", hint=f"encode them with {self.encoder}"
            )
        vectors = unit(vectors)
        positions, similarity = nearest(self.faiss_index, vectors, k, among=among, n_probes=self.n_probes)
        if self.n_lists:
            n_there = len(self) if among is None else int(np.count_nonzero(among))
            short = (positions[:, : min(k, n_there)] < 0).any(axis=1)
            if short.any():
                positions[short], similarity[short] = nearest(
                    self.faiss_index, vectors[short], k, among=among, n_probes=self.n_lists
                )
        similarity[positions < 0] = np.nan
        return Neighbours(positions, similarity)

    def neighbours(self, positions: np.ndarray | Sequence[int], k: int) -> Neighbours:
        """Return the k nearest others of some tiles of the index, as a learner's neighbourhoods."""
        own = np.asarray(positions, np.int64)
        near = np.empty((len(own), k), np.int64)
        similarity = np.empty((len(own), k), np.float32)
        for start in range(0, len(own), _QUERIES):
            here = slice(start, start + _QUERIES)
            found = self.search(self.vectors(own[here]), k + 1)
            # oneself goes to the end; who is not found among many equals loses the last of them
            order = np.argsort(found.positions == own[here, None], axis=1, kind="stable")[:, :k]
            near[here] = np.take_along_axis(found.positions, order, axis=1)
            similarity[here] = np.take_along_axis(found.similarity, order, axis=1)
        return Neighbours(near, similarity)


def _fingerprint(heads: Mapping[str, BagHead], config: IndexConfig) -> str:
    return fingerprint(
        "tile index", _VERSION, config, [[name, head.fingerprint] for name, head in heads.items()]
    )


def _filled(index: Any, bags: Mapping[str, Path], report: Callable[[str], None] | None) -> np.ndarray:
    """Add all bags to an index, one at a time; return what `TileIndex.tiles` says of them."""
    tiles = []
    for number, (slide_id, path) in enumerate(bags.items()):
        vectors, places = load_units(path)
        if len(vectors):
            index.add(vectors)
        tiles.append(np.column_stack([np.full(len(places), number), places]).astype(np.int64))
        if report:
            report(slide_id)
    return np.concatenate(tiles)


def _save(made: TileIndex, folder: Path, config: IndexConfig, heads: Mapping[str, BagHead]) -> None:
    (folder / _TOLD).unlink(missing_ok=True)  # written last: that it is there means that all of it is
    with replacing(folder / _INDEX) as temporary:
        faiss_module().write_index(made.faiss_index, str(temporary))
    with replacing(folder / _TILES) as temporary, temporary.open("wb") as file:
        np.save(file, made.tiles)
    told = {
        "format": "slidebag.search",
        "format_version": _VERSION,
        "slidebag_version": version("slidebag"),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "metric": "cosine",
        "n_tiles": len(made),
        "dim": made.faiss_index.d,
        **{name: getattr(made, name) for name in _KEPT},
        "config": asdict(config),
        "bags": {slide_id: head.fingerprint for slide_id, head in heads.items()},
    }
    with replacing(folder / _TOLD) as temporary:
        temporary.write_text(json.dumps(told, indent=2) + "\n")


def _told(folder: Path) -> dict[str, Any] | None:
    """What the index in a folder says of itself, None where there is none to trust."""
    try:
        told = json.loads((folder / _TOLD).read_text())
    except (OSError, ValueError):
        return None  # absent or damaged: to be made again
    return told if isinstance(told, dict) and told.get("format") == "slidebag.search" else None
