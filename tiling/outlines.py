"""A mask's exact outlines: rings along the edges of its pixels, holes told from pieces."""

import cv2
import numpy as np

_STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))  # east, south, west, north: clockwise, the mask on the right
_STARTS = ((0, 0), (1, 0), (1, 1), (0, 1))  # the corner of a pixel at which its edge of that heading begins

_Edge = tuple[int, int, int]  # the corner (x, y) where it begins, and its heading


def outlines(mask: np.ndarray) -> list[list[np.ndarray]]:
    """Return the pieces of a bool (H, W) mask, each as rings: its border, then its holes.

    A ring is int (n, 2), the corners (x, y) in mask pixels, closed. The area inside is the mask's
    exactly. A ring never touches itself, and pieces that meet only at a corner are two: so every
    piece is a valid polygon.
    """
    labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)[1]
    edges = _edges(mask)
    pieces: dict[int, list[tuple[float, np.ndarray]]] = {}
    done: set[_Edge] = set()
    for edge in edges:
        if edge in done:
            continue
        walk = _walk(edges, edge)
        done.update(walk)
        x, y = (edge[axis] - _STARTS[edge[2]][axis] for axis in (0, 1))
        pieces.setdefault(int(labels[y, x]), []).extend(_rings(walk))
    # borders run clockwise and holes the other way, so that the one border is the largest
    return [[ring for _, ring in sorted(p, key=lambda r: -r[0])] for p in pieces.values()]


def _edges(mask: np.ndarray) -> dict[_Edge, None]:
    """Every pixel edge between mask and rest, row by row; a dict since it keeps its order."""
    around = np.pad(mask, 1)
    beside = (around[:-2, 1:-1], around[1:-1, 2:], around[2:, 1:-1], around[1:-1, :-2])
    edges: dict[_Edge, None] = {}
    for heading, (neighbour, (dx, dy)) in enumerate(zip(beside, _STARTS, strict=True)):
        ys, xs = np.nonzero(mask & ~neighbour)
        edges |= dict.fromkeys(zip((xs + dx).tolist(), (ys + dy).tolist(), [heading] * len(xs), strict=True))
    return edges


def _walk(edges: dict[_Edge, None], start: _Edge) -> list[_Edge]:
    """Follow the edges round; turning right wherever one can keeps to one piece where two meet."""
    walk, edge = [start], start
    while True:
        x, y, heading = edge
        x, y = x + _STEPS[heading][0], y + _STEPS[heading][1]
        turns = ((x, y, (heading + turn) % 4) for turn in (1, 0, 3))
        edge = next(turn for turn in turns if turn in edges)
        if edge == start:
            return walk
        walk.append(edge)


def _rings(walk: list[_Edge]) -> list[tuple[float, np.ndarray]]:
    """Split a walk where it comes back to a corner; return each ring with its signed area."""
    rings, open_walk, position = [], [], {}
    for edge in [*walk, walk[0]]:
        corner = edge[:2]
        if corner in position:
            rings.append(_ring(open_walk[position[corner] :]))
            for left in open_walk[position[corner] :]:
                del position[left[:2]]
            del open_walk[len(position) :]
        position[corner] = len(open_walk)
        open_walk.append(edge)
    return rings


def _ring(edges: list[_Edge]) -> tuple[float, np.ndarray]:
    turns = [
        edge[:2] for edge, before in zip(edges, [edges[-1], *edges], strict=False) if edge[2] != before[2]
    ]
    ring = np.array([*turns, turns[0]])
    x, y = ring.T
    return float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1])) / 2, ring
