"""Where the pictures of the report's mistakes lead to."""

import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from mil import Run, report
from mil.view import key_of


def run_of_a_patient(root: Path) -> Run:
    """A patient of two slides who is called wrong; the second slide alone has an overlay."""
    run = Run.create(root)
    told = {"slide_id": ["first", "second"], "path": "/nowhere.svs", "patient_id": "P1", "label": "normal",
            "mpp": "", "split": "", "n_tiles": "9", "status": "extracted", "message": ""}  # fmt: skip
    run.write_table("slides.csv", pd.DataFrame(told))
    row = {"patient_id": ["P1"], "slide_ids": "first|second", "label": "normal", "prediction": "tumour"}
    row |= {f"{what}({name})": "0.5" for what in ("p", "uncalibrated") for name in ("normal", "tumour")}
    row |= {"set": "", "threshold": "0.5", "tile_threshold": "0.5", "fold": "0", "flags": ""}
    run.write_table("predictions.csv", pd.DataFrame(row))
    folder = run.heatmap_folder("second")
    folder.mkdir(parents=True)
    cv2.imwrite(str(folder / "overlay.png"), np.full((8, 8, 3), 90, np.uint8))
    return run


def picture_of(page: Path) -> str:
    found = re.search(r'<div class="picture">.*?</div>', page.read_text(encoding="utf-8"), re.DOTALL)
    assert found
    return found[0]


def test_a_picture_leads_to_the_slide_that_it_shows(tmp_path):
    picture = picture_of(report(run_of_a_patient(tmp_path / "run")).page)
    assert re.findall('href="([^"]*)"', picture) == [
        "../heatmaps/second/overlay.png",
        f"../slides/{key_of('second')}",
    ]
    assert re.findall('aria-label="([^"]*)"', picture) == ["heatmap over second", "second in the viewer"]


def test_heatmaps_on_another_disk_are_shown_without_a_dead_link(tmp_path):
    run = run_of_a_patient(tmp_path / "run")
    shutil.move(run.root / "heatmaps", tmp_path / "elsewhere")
    (run.root / "heatmaps").symlink_to(tmp_path / "elsewhere")
    page = report(run).page
    assert "<img" in picture_of(page)
    assert 'href=""' not in page.read_text(encoding="utf-8")
