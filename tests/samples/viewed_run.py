"""A run as the viewer meets it: scores that are the truth, hostile names, slides that failed or are gone."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from mil import Cohort, CohortSlide, Run, Scores, save_scores, tile
from tiling import GridConfig, PhantomConfig, TissueConfig, load_grid, render_phantom, save_grid, write_slide

HOSTILE = "<script>alert(1)</script>"  # its slash makes a folder of it
HOSTILE_LABEL = "\"'><img src=x onerror=alert(2)>"
CLASSES = ("normal", "tumour")
SIZE_PX = (2100, 1603)
TILE = GridConfig(tile_px=64, tile_mpp=0.55)  # at 0.5 µm/px no tile is of whole level-0 pixels
LIKELY, UNLIKELY, TILE_THRESHOLD = 0.9, 0.2, 0.55


def make_viewed_run(folder: Path) -> Run:
    """Return a run of slides "known", `HOSTILE`, "wrong", "gone" (no file any more) and "damaged" (failed).

    Tiles of "known" with most of their area in the drawn tumour have p(tumour) 0.9, others 0.2; its
    first tile could not be read. Those of "wrong" lie anyhow, as other tools place them.
    """
    slides = {"known": 11, HOSTILE: 12, "wrong": 13, "gone": 14, "damaged": 15}
    labels = {"known": "tumour", HOSTILE: HOSTILE_LABEL, "wrong": "normal", "gone": "", "damaged": "normal"}
    run, cohort, tumour = Run.create(folder / "run"), [], {}
    for slide_id, seed in slides.items():
        size_px = SIZE_PX if slide_id == "known" else (800, 600)
        path = folder / "slides" / f"{slide_id}.svs"
        path.parent.mkdir(parents=True, exist_ok=True)
        drawn = render_phantom(PhantomConfig(size_px=size_px, tumour_share=0.25, has_pen=False, seed=seed))
        write_slide(path, drawn.pixels, mpp=drawn.mpp)
        cohort.append(CohortSlide(slide_id, path, labels[slide_id], f"of {slide_id}"))
        tumour[slide_id] = drawn.tumour
    (folder / "slides" / "damaged.svs").write_bytes(b"II*\0 no slide at all")
    tile(Cohort(tuple(cohort)), run, TILE, TissueConfig())
    grid = load_grid(run.grid_path("wrong"))
    moved = grid.coords + np.where(grid.coords > 350, 29, [[5, 11]])
    save_grid(replace(grid, coords=moved, origin="another tool"), run.grid_path("wrong"))
    for slide_id in slides:
        if slide_id != "damaged":
            _score(run, slide_id, tumour[slide_id])
    _predict(run, {"known": 0.98, HOSTILE: 0.6, "wrong": 0.7, "gone": 0.4}, labels)
    (folder / "slides" / "gone.svs").unlink()
    cv2.imwrite(str(folder / "tumour.png"), tumour["known"].astype(np.uint8) * 255)
    return run


def _score(run: Run, slide_id: str, tumour: np.ndarray) -> None:
    grid = load_grid(run.grid_path(slide_id))
    side = grid.tile_px_level0
    is_tumour = [tumour[y : y + side, x : x + side].mean() > 0.5 for x, y in grid.coords]
    p_tumour = np.where(is_tumour, LIKELY, UNLIKELY).astype(np.float32)
    p_tumour[0] = np.nan
    scores = Scores(
        slide_id,
        CLASSES,
        np.stack([1 - p_tumour, p_tumour], axis=1),
        np.zeros(len(grid), np.int16),
        "slidebag",
        "of the truth",
    )
    save_scores(scores, grid, run.scores_path(slide_id), model_fingerprint="none")


def _predict(run: Run, p_tumour: dict[str, float], labels: dict[str, str]) -> None:
    rows = [
        {
            "slide_id": slide_id,
            "label": labels[slide_id],
            "p(normal)": f"{1 - p:.9g}",
            "p(tumour)": f"{p:.9g}",
            "uncalibrated(normal)": f"{1 - p:.9g}",
            "uncalibrated(tumour)": f"{p:.9g}",
            "prediction": CLASSES[p >= 0.5],
            "set": CLASSES[p >= 0.5],
            "fold": "0",
            "threshold": "0.5",
            "tile_threshold": f"{TILE_THRESHOLD}",
            "flags": "unlike_training" if slide_id == HOSTILE else "",
        }
        for slide_id, p in p_tumour.items()
    ]
    run.write_table("predictions.csv", pd.DataFrame(rows))
