"""Tissue finding on 40 drawn slides, five of each kind, whose truth is known to the pixel.

Dice is of the found tissue against the drawn; pen recall is the share of ink that is not called tissue;
tissue loss is the share of uninked tissue that is found before the slide is written on, but not after.
Then the CPU time on a pyramid 100,000 px wide. The last line is one JSON object.

    python bench/tissue.py
    python bench/tissue.py --seed 100    # slides that nothing was chosen on
    python bench/tissue.py --kinds pens blurred --pictures FOLDER
"""

import argparse
import json
import time
from pathlib import Path

import cv2
import numpy as np
from tissue_slides import KINDS, MPP, ArraySlide, Drawing, draw

from tiling import TissueMask, segment_tissue

N_EACH = 5
WIDE_PX = (100_000, 80_000)
WIDE_DOWN = 32  # its lowest level: 3,125 x 2,500 px of 8 µm


def reduce_mask(mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    size = (shape[1], shape[0])
    return cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0.5


def find(pixels: np.ndarray) -> tuple[TissueMask, float]:
    """Return what is found, and the seconds of CPU it took."""
    slide = ArraySlide({1: pixels}, size_px=pixels.shape[1::-1], mpp=MPP)
    start = time.process_time()
    found = segment_tissue(slide)
    return found, time.process_time() - start


def judge(drawing: Drawing, found: TissueMask) -> dict[str, float]:
    truth, ink = (reduce_mask(m, found.mask.shape) for m in (drawing.tissue, drawing.ink))
    figures = {"dice": 2 * (truth & found.mask).sum() / (truth.sum() + found.mask.sum())}
    if ink.any():
        before = find(drawing.plain)[0].mask & truth
        figures["pen_recall"] = 1 - found.mask[ink].mean()
        figures["tissue_loss"] = (before & ~found.mask).sum() / before.sum()
        assert found.quality is not None
        figures["pen_fraction_error"] = abs(found.quality.pen_fraction - ink.mean()) / ink.mean()
    return figures


def save_picture(folder: Path, name: str, drawing: Drawing, found: TissueMask) -> None:
    picture = np.ascontiguousarray(found.thumbnail[..., ::-1])
    truth = reduce_mask(drawing.tissue, found.mask.shape)
    for mask, colour in ((truth, (255, 128, 0)), (found.mask, (0, 255, 0))):
        lines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, lines, -1, colour, 2)
    cv2.imwrite(str(folder / f"{name}.png"), picture)


def time_wide(seed: int) -> list[float]:
    """Seconds of CPU on pyramids 100,000 px wide, one of each kind, each the median of three."""
    width, height = (side // WIDE_DOWN for side in WIDE_PX)
    medians = []
    for kind in KINDS:
        lowest = cv2.resize(draw(kind, seed + 4).pixels, (width, height), interpolation=cv2.INTER_AREA)
        seconds = []
        for _ in range(3):
            slide = ArraySlide({WIDE_DOWN: lowest}, size_px=WIDE_PX, mpp=8.0 / WIDE_DOWN)
            start = time.process_time()
            segment_tissue(slide)
            seconds.append(time.process_time() - start)
        medians.append(float(np.median(seconds)))
    return medians


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS)
    parser.add_argument("--pictures", type=Path, help="folder for pictures: truth in blue, found in green")
    parser.add_argument("--seed", type=int, default=0, help="of the first slide of each kind")
    args = parser.parse_args()
    find(draw("strong", 99).pixels)  # what is loaded at first use is not timed
    judged: list[dict[str, float]] = []
    print(f"{'kind':14}{'dice median':>13}{'worst':>8}{'CPU s':>8}  dice of each")
    for kind in args.kinds:
        rows = []
        for seed in range(args.seed, args.seed + N_EACH):
            drawing = draw(kind, seed)
            found, seconds = find(drawing.pixels)
            rows.append(judge(drawing, found) | {"seconds": seconds})
            if args.pictures is not None:
                args.pictures.mkdir(parents=True, exist_ok=True)
                save_picture(args.pictures, f"{kind}-{seed}", drawing, found)
        dice = [row["dice"] for row in rows]
        each = " ".join(f"{d:.3f}" for d in dice)
        seconds = np.median([row["seconds"] for row in rows])
        print(f"{kind:14}{np.median(dice):13.3f}{min(dice):8.3f}{seconds:8.3f}  {each}", flush=True)
        judged += rows
    pens = [row for row in judged if "pen_recall" in row]
    told = {
        "dice_median": np.median([r["dice"] for r in judged]),
        "dice_worst": min(r["dice"] for r in judged),
    }
    for name in ("pen_recall", "tissue_loss", "pen_fraction_error") if pens else ():
        values = [row[name] for row in pens]
        print(f"{name:20} mean {np.mean(values):.4f}  each {' '.join(f'{v:.4f}' for v in values)}")
        told[name] = np.mean(values)
    wide = time_wide(args.seed)
    print(f"{'CPU s of 100k px':20} {' '.join(f'{k} {s:.2f}' for k, s in zip(KINDS, wide, strict=True))}")
    told |= {"cpu_s_100k": np.median(wide), "cpu_s_100k_worst": max(wide)}
    print(json.dumps({k: round(float(v), 4) for k, v in told.items()}))


if __name__ == "__main__":
    main()
