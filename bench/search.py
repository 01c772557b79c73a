"""Tile search: comparing every tile against lists (IVF, as slidebag makes them) and a graph (HNSW).

Vectors are drawn: clusters in 24 dimensions that overlap (as wide as they are apart), laid into `--dim`,
roughened and brought to unit length. Recall is the share of the 20 nearest that are found. One thread;
figures are of CPU time, sizes those of the vectors and what the index keeps beside them. The time to
build lists includes measuring how many must be searched.

    python bench/search.py [--sizes 100000 1000000] [--dim 384] [--ways lists graph] [--json]

The last line is one JSON object: size, then way, then figures.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import faiss
import numpy as np

from features.search_lists import (
    RECALL_AT,
    SAMPLE_A_LIST,
    choose_probes,
    exact_index,
    list_index,
    n_lists_for,
    nearest,
)

CLUSTERS, LATENT_DIM, SPREAD, ROUGHNESS = 500, 24, 1.0, 0.1
TILES_A_SLIDE = 5_000
GRAPH_LINKS, BREADTHS = 16, (16, 32, 64, 128, 256)


def draw(n: int, dim: int, seed: int = 0) -> np.ndarray:
    """Return unit vectors float32 (n, dim) around cluster centres, block by block."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(CLUSTERS, LATENT_DIM))
    plane = rng.normal(size=(LATENT_DIM, dim)) / np.sqrt(LATENT_DIM)
    rows = np.empty((n, dim), np.float32)
    for start in range(0, n, 50_000):
        m = min(50_000, n - start)
        latent = centres[rng.integers(CLUSTERS, size=m)] + SPREAD * rng.normal(size=(m, LATENT_DIM))
        rows[start : start + m] = latent @ plane + ROUGHNESS * rng.normal(size=(m, dim))
    faiss.normalize_L2(rows)
    return rows


def timed(job: Callable[[], Any]) -> tuple[Any, float]:
    begun = time.process_time()
    done = job()
    return done, time.process_time() - begun


def figures(build_s: float, search_s: float, found: np.ndarray, truth: np.ndarray, n_bytes: int) -> dict:
    recall = np.mean([len(np.intersect1d(f, t)) for f, t in zip(found, truth, strict=True)]) / RECALL_AT
    return {
        "build_s": build_s,
        "queries_per_s": len(found) / search_s,
        "recall": float(recall),
        "index_mb": n_bytes / 2**20,
    }


def measure(rows: np.ndarray, queries: np.ndarray, ways: list[str]) -> Iterator[dict[str, dict[str, float]]]:
    """Yield the figures of each way as soon as they are there."""
    table, truth = _exact(rows, queries)
    yield table
    if "lists" in ways:
        yield _lists(rows, queries, truth)
    if "graph" in ways:
        yield _graph(rows, queries, truth)


def _exact(rows: np.ndarray, queries: np.ndarray) -> tuple[dict[str, dict[str, float]], np.ndarray]:
    """The figures, queries together and one by one, and the true nearest, int64 (n, 20)."""
    index = exact_index(rows.shape[1])
    _, build_s = timed(lambda: index.add(rows))
    (truth, _), batch_s = timed(lambda: nearest(index, queries, RECALL_AT))
    few = queries[:20]
    found, alone_s = timed(lambda: np.concatenate([nearest(index, q[None], RECALL_AT)[0] for q in few]))
    return {
        "exact": figures(build_s, batch_s, truth, truth, 4 * rows.size),
        "exact, one by one": figures(build_s, alone_s, found, truth[:20], 4 * rows.size),
    }, truth


def _lists(rows: np.ndarray, queries: np.ndarray, truth: np.ndarray) -> dict[str, dict[str, float]]:
    n, dim = rows.shape
    n_lists = n_lists_for(n)

    def build() -> Any:
        drawn = np.random.default_rng(0).permutation(n)[: SAMPLE_A_LIST * n_lists]
        index = list_index(rows[drawn], n_lists, seed=0)
        index.add(rows)
        index.make_direct_map()
        return index

    index, build_s = timed(build)
    slides = np.arange(n) // TILES_A_SLIDE
    (n_probes, recall), tune_s = timed(lambda: choose_probes(index, slides, 0.95, seed=0))
    (found, _), search_s = timed(lambda: nearest(index, queries, RECALL_AT, n_probes=n_probes))
    told = figures(build_s + tune_s, search_s, found, truth, (2 * dim + 16) * n)
    return {
        f"lists, {n_probes} of {n_lists}": told
        | {"n_probes": n_probes, "stated_recall": recall, "tune_s": tune_s}
    }


def _graph(rows: np.ndarray, queries: np.ndarray, truth: np.ndarray) -> dict[str, dict[str, float]]:
    n, dim = rows.shape
    index = faiss.IndexHNSWFlat(dim, GRAPH_LINKS, faiss.METRIC_INNER_PRODUCT)
    _, build_s = timed(lambda: index.add(rows))
    n_bytes = (4 * dim + 4 * 2 * GRAPH_LINKS) * n
    for breadth in BREADTHS:
        way = faiss.SearchParametersHNSW(efSearch=breadth)
        (_, found), search_s = timed(lambda way=way: index.search(queries, RECALL_AT, params=way))
        told = figures(build_s, search_s, found, truth, n_bytes)
        if told["recall"] >= 0.95:
            break
    return {f"graph, breadth {breadth}": told | {"breadth": breadth}}


def _row(way: str, found: dict[str, float]) -> str:
    return (
        f"  {way:<22}{found['build_s']:>10.1f}{found['queries_per_s']:>12.0f}"
        f"{found['recall']:>9.3f}{found['index_mb']:>11.0f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument(
        "--ways",
        nargs="+",
        choices=["lists", "graph"],
        default=["lists", "graph"],
        help="beside the exact one",
    )
    parser.add_argument("--json", action="store_true", help="print the JSON line alone")
    told = parser.parse_args()
    faiss.omp_set_num_threads(1)
    table = {}
    for size in told.sizes:
        rows = draw(size + told.queries, told.dim)
        table[str(size)] = {}
        if not told.json:
            print(
                f"{f'{size:,} x {told.dim}':<24}{'build s':>10}{'queries/s':>12}{'recall':>9}{'index MB':>11}"
            )
        for found in measure(rows[: -told.queries], rows[-told.queries :], told.ways):
            table[str(size)] |= found
            if not told.json:
                print("\n".join(_row(way, each) for way, each in found.items()), flush=True)
    print(json.dumps(table))


if __name__ == "__main__":
    main()
