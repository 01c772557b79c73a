"""faiss as tile search uses it: an exact index, lists (IVF) for very many tiles, and their recall."""

import sys
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np

RECALL_AT = 20  # how many of the nearest the recall is measured on
SAMPLE_A_LIST = 128  # vectors for k-means; of more than 256 faiss leaves the rest out and does not say so
_RECALL_SAMPLE = 128


def faiss_module() -> Any:
    """Return faiss, imported by whoever first searches: the front door stays light."""
    import faiss

    return faiss


def exact_index(dim: int) -> Any:
    """Return an empty index that compares a query with every vector."""
    return faiss_module().IndexFlatIP(dim)


def n_lists_for(n_tiles: int) -> int:
    """Return how many lists to divide tiles into: their root, so that finding a list costs as much as one."""
    return max(1, round(sqrt(n_tiles)))


def list_index(sample: np.ndarray, n_lists: int, *, seed: int) -> Any:
    """Return an empty index of lists around the k-means of `sample`, unit float32 (n, D).

    Numbers are kept as float16, which is what bags hold too. A graph (HNSW) may be searched faster, but
    takes eight times as long to build and twice the memory (bench/search.py), and cannot stay on the disk.
    """
    faiss = faiss_module()
    index = faiss.index_factory(sample.shape[1], f"IVF{n_lists},SQfp16", faiss.METRIC_INNER_PRODUCT)
    index.cp.seed = seed
    index.cp.min_points_per_centroid = 1  # few for each list is what a small sample means, no cause to warn
    index.cp.max_points_per_centroid = max(256, -(-len(sample) // n_lists))
    index.train(sample)
    return index


def read_index(path: Path, *, has_lists: bool) -> Any:
    """Return a written index; raises RuntimeError, as faiss does, if it is damaged.

    Lists are mapped into memory, so that a search reads only those it looks into.
    """
    faiss = faiss_module()
    can_map = has_lists and sys.platform != "win32"  # faiss cannot there
    return faiss.read_index(str(path), faiss.IO_FLAG_MMAP if can_map else 0)


def nearest(
    index: Any, vectors: np.ndarray, k: int, *, among: np.ndarray | None = None, n_probes: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return positions int64 (n, k), -1 where there are no more, and similarities float32 (n, k).

    `n_probes` lists are searched, 0 for an index without lists; `among`, bool (N,), may be found.
    """
    faiss = faiss_module()
    told = {} if among is None else {"sel": faiss.IDSelectorBitmap(np.packbits(among, bitorder="little"))}
    way = faiss.SearchParametersIVF(nprobe=n_probes, **told) if n_probes else faiss.SearchParameters(**told)
    similarity, positions = index.search(np.ascontiguousarray(vectors, np.float32), k, params=way)
    return positions, similarity


def choose_probes(index: Any, slide_of: np.ndarray, least_recall: float, *, seed: int) -> tuple[int, float]:
    """Return how many lists to search, doubled until the recall is reached, and that recall.

    It is the share of the 20 nearest of tiles drawn, on other slides than their own (N,) `slide_of`: on
    one's own slide most of the nearest lie in one's own list, which would be too easy.
    """
    drawn = np.random.default_rng(seed).permutation(len(slide_of))[:_RECALL_SAMPLE]
    is_one_slide = bool((slide_of == slide_of[0]).all())
    jobs = []
    for slide in np.unique(slide_of[drawn]):
        vectors = index.reconstruct_batch(drawn[slide_of[drawn] == slide])
        among = None if is_one_slide else slide_of != slide
        jobs.append(
            (vectors, among, nearest(index, vectors, RECALL_AT, among=among, n_probes=index.nlist)[0])
        )
    n_probes = 1
    while True:
        found = [nearest(index, v, RECALL_AT, among=among, n_probes=n_probes)[0] for v, among, _ in jobs]
        recall = _recall(np.concatenate(found), np.concatenate([truth for *_, truth in jobs]))
        if recall >= least_recall or n_probes >= index.nlist:
            return n_probes, recall
        n_probes = min(2 * n_probes, index.nlist)


def _recall(found: np.ndarray, truth: np.ndarray) -> float:
    n_found = sum(np.isin(t[t >= 0], f).sum() for f, t in zip(found, truth, strict=True))
    return float(n_found / max(1, (truth >= 0).sum()))
