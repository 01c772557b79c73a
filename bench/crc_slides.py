"""Build a cohort of whole slides from real tissue, with real tumour shapes and known pixel truth.

Healthy colon fills tissue-shaped blobs, adenocarcinoma fills real tumour outlines in half of the slides,
adenoma makes islands in all of them. No source tile is used in two slides.
"""

import argparse
import csv
import io
import json
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from crc_tissue import TILE_PX, TRUTH_PX, Places, lay_places, paint_slide

from tiling import replacing, write_slide

MPP = 0.5
_KINDS = {"healthy": ("H",), "tumour": ("AC",), "adenoma": ("S", "T", "V")}
_STAIN_NOISE = 0.15  # of the rank by stain hue: a slide's tiles are alike in stain, not equal
_SECOND_SLIDE = 0.15  # chance that a patient has two slides


@dataclass(frozen=True)
class SlidePlan:
    """One slide before it is painted: its label, source tiles by kind, and the share of tumour asked for."""

    name: str
    label: str
    patient: str
    sources: dict[str, list[str]]
    tumour_share: float
    outlines: str  # name of the file of tumour outlines; empty in normal slides


def plan_cohort(
    tiles: zipfile.ZipFile,
    polygons: zipfile.ZipFile,
    n_slides: int,
    seed: int,
    tumour_shares: tuple[float, float],
) -> list[SlidePlan]:
    """Deal labels, patients, tumour outlines and source tiles to the slides; no tile goes to two."""
    rng = np.random.default_rng(seed)
    # Slides in order of stain hue, in pairs of one label each: stain says nothing about the label
    order = np.concatenate([rng.permutation(["normal", "tumour"]) for _ in range(-(-n_slides // 2))])
    labels = order[:n_slides]
    positive = np.flatnonzero(labels == "tumour")
    sources = {
        "healthy": _deal(tiles, "healthy", n_slides, rng),
        "adenoma": _deal(tiles, "adenoma", n_slides, rng),
        "tumour": _deal(tiles, "tumour", len(positive), rng),
    }
    steps = (rng.permutation(len(positive)) + rng.random(len(positive))) / len(positive)
    low, high = np.log(tumour_shares)
    outlines = rng.permutation(sorted(n for n in polygons.namelist() if n.endswith(".json")))
    patients = _patients(labels, rng)
    numbers = rng.permutation(n_slides) + 1
    plans = []
    for i, label in enumerate(labels):
        mine = {kind: sources[kind][i] for kind in ("healthy", "adenoma")}
        share, outline = 0.0, ""
        if label == "tumour":
            k = int(np.searchsorted(positive, i))
            mine["tumour"] = sources["tumour"][k]
            share = float(np.exp(low + steps[k] * (high - low)))
            outline = str(outlines[k % len(outlines)])
        name = f"crc-{numbers[i]:03d}"
        plans.append(SlidePlan(name, str(label), patients[i], mine, share, outline))
    return sorted(plans, key=lambda plan: plan.name)


def _deal(tiles: zipfile.ZipFile, kind: str, n_slides: int, rng: np.random.Generator) -> list[list[str]]:
    """Share out the tiles of a kind among slides, those of like stain to the same slide."""
    names = sorted(n for n in tiles.namelist() if n.endswith(".jpg") and n.split("/")[-2] in _KINDS[kind])
    hue = np.array([_stain_hue(_decode(tiles, n, cv2.IMREAD_REDUCED_COLOR_4)) for n in names])
    rank = hue.argsort().argsort() / len(names) + rng.normal(0, _STAIN_NOISE, len(names))
    return [[names[i] for i in part] for part in np.array_split(rank.argsort(), n_slides)]


def _stain_hue(pixels: np.ndarray) -> float:
    """Absorbance in blue over that in green: a matter of stain and scanner more than of what is seen."""
    absorbance = -np.log((pixels.reshape(-1, 3).astype(np.float32) + 1) / 256)
    stained = absorbance[absorbance.mean(axis=1) > 0.2].sum(axis=0) + 1e-3
    return float(np.log(stained[2] / stained[1]))


def _decode(tiles: zipfile.ZipFile, name: str, mode: int = cv2.IMREAD_COLOR) -> np.ndarray:
    pixels = cv2.imdecode(np.frombuffer(tiles.read(name), np.uint8), mode)
    if pixels is None:
        raise ValueError(f"{tiles.filename}: {name} is no picture")
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def _patients(labels: np.ndarray, rng: np.random.Generator) -> list[str]:
    """A patient for each slide; some have two, of one label."""
    owner, n_patients = np.zeros(len(labels), int), 0
    for label in ("normal", "tumour"):
        waiting = rng.permutation(np.flatnonzero(labels == label)).tolist()
        while waiting:
            n = 2 if rng.random() < _SECOND_SLIDE else 1
            owner[waiting[:n]], waiting = n_patients, waiting[n:]
            n_patients += 1
    numbers = rng.permutation(n_patients) + 1
    return [f"patient-{numbers[i]:03d}" for i in owner]


def build_cohort(
    tiles: Path,
    polygons: Path,
    out: Path,
    *,
    n_slides: int,
    seed: int,
    side_px: int = 9000,
    tumour_shares: tuple[float, float] = (0.01, 0.3),
) -> list[dict]:
    """Write the cohort into `out` and return the rows of its slide table."""
    rows = []
    with zipfile.ZipFile(tiles) as tile_zip, zipfile.ZipFile(polygons) as polygon_zip:
        plans = plan_cohort(tile_zip, polygon_zip, n_slides, seed, tumour_shares)
        for i, plan in enumerate(plans):
            rng = np.random.default_rng([seed, i])
            height, width = np.rint(side_px * rng.uniform(0.93, 1.07, 2) / TRUTH_PX).astype(int).tolist()
            outlines = json.loads(polygon_zip.read(plan.outlines)) if plan.outlines else None
            places = lay_places((height, width), outlines, plan.tumour_share, rng)
            patches = {kind: [_decode(tile_zip, n) for n in names] for kind, names in plan.sources.items()}
            pixels = paint_slide(places, patches, rng)
            write_slide(out / "slides" / f"{plan.name}.svs", pixels, mpp=MPP)
            _write_mask(out / "truth" / f"{plan.name}.png", places.tumour)
            _write_mask(out / "tissue" / f"{plan.name}.png", places.tissue)
            rows.append(_row(plan, places))
            print(f"{i + 1:3d}/{n_slides}  " + "  ".join(str(v) for v in rows[-1].values()), flush=True)
    sources = [
        {"slide": plan.name, "source": name}
        for plan in plans
        for kind in sorted(plan.sources)
        for name in plan.sources[kind]
    ]
    _write_table(out / "sources.csv", sources)
    _write_table(out / "slides.csv", rows)
    return rows


def _row(plan: SlidePlan, places: Places) -> dict:
    n_tissue = int(places.tissue.sum())
    return {
        "slide": plan.name,
        "label": plan.label,
        "patient": plan.patient,
        "tumour_share": round(float(places.tumour.sum() / n_tissue), 4),
        "tissue_share": round(float(places.tissue.mean()), 4),
        "adenoma_share": round(float(places.adenoma.sum() / n_tissue), 4),
        "tissue_tiles": round(n_tissue * (TRUTH_PX / TILE_PX) ** 2),
    }


def _write_mask(path: Path, mask: np.ndarray) -> None:
    with replacing(path) as partial:
        partial.write_bytes(cv2.imencode(".png", mask.astype(np.uint8) * 255)[1].tobytes())


def _write_table(path: Path, rows: list[dict]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with replacing(path) as partial:
        partial.write_text(text.getvalue())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiles", type=Path, required=True, help="crc.zip: crc/H, AC, S, T, V")
    parser.add_argument("--polygons", type=Path, required=True, help="tumour outlines, one JSON a slide")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--slides", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--side-px", type=int, default=9000, help="side of a slide, about")
    parser.add_argument("--tumour-share", type=float, nargs=2, default=(0.01, 0.3), metavar=("LOW", "HIGH"))
    args = parser.parse_args()
    start = time.perf_counter()
    rows = build_cohort(
        args.tiles,
        args.polygons,
        args.out,
        n_slides=args.slides,
        seed=args.seed,
        side_px=args.side_px,
        tumour_shares=tuple(args.tumour_share),
    )
    shares = [row["tumour_share"] for row in rows if row["label"] == "tumour"]
    figures = {
        "n_slides": len(rows),
        "n_tumour": len(shares),
        "seconds": round(time.perf_counter() - start, 1),
        "tissue_tiles_mean": float(np.mean([row["tissue_tiles"] for row in rows])),
        "tumour_share_min_median_max": [min(shares), float(np.median(shares)), max(shares)],
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
