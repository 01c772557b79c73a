"""The report in a real browser: nothing is refused, and nothing is complained of, on the console."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mil import Run, report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
HOSTILE = "</title><script>document.title='taken'</script><img src=//example.org/x onerror=alert(1)>"


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium")
def test_the_page_asks_for_nothing_and_runs_nothing(tmp_path):
    dom, said = opened(report(hostile_run(tmp_path / "run")).page, tmp_path / "profile")
    assert "CONSOLE" not in said  # a blocked request or script would be told there
    assert "<title>run: cohort report</title>" in dom
    assert dom.count("<script") == 0
    (tmp_path / "bad.html").write_text("<script>console.error('seen')</script>")
    assert "seen" in opened(tmp_path / "bad.html", tmp_path / "profile")[1]  # the test itself sees them


def hostile_run(root: Path) -> Run:
    run, n = Run.create(root), 12
    ids = [f"{HOSTILE}{k}" for k in range(n)]
    labels = ["normal", HOSTILE] * (n // 2)
    slides = {"slide_id": ids, "path": ids, "patient_id": ids, "label": labels, "mpp": "", "split": "",
              "n_tiles": "4", "status": "extracted", "message": ""}  # fmt: skip
    run.write_table("slides.csv", pd.DataFrame(slides))
    p = np.linspace(0.1, 0.9, n)
    rows = {"slide_id": ids, "label": labels, "prediction": ["normal"] * n, "set": "", "threshold": "0.5",
            "tile_threshold": "0.5", "fold": "0", "flags": ""}  # fmt: skip
    for what in ("p", "uncalibrated"):
        rows |= {f"{what}(normal)": 1 - p, f"{what}({HOSTILE})": p}
    run.write_table("predictions.csv", pd.DataFrame(rows))
    return run


def opened(page: Path, profile: Path) -> tuple[str, str]:
    """The page's DOM after it has loaded, and what the browser says."""
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--enable-logging=stderr",
        f"--user-data-dir={profile}",
    ]
    done = subprocess.run(
        [str(CHROMIUM), *flags, "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return done.stdout, done.stderr


@pytest.mark.slow
def test_captions_end_within_a_phone(chromium, tmp_path):
    page = report(hostile_run(tmp_path / "run")).page
    told = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", told)
    chromium.get(page.as_uri())
    script = "return [...document.querySelectorAll('caption')].map((e) => e.getBoundingClientRect().right)"
    ends = chromium.execute_script(script)
    assert len(ends) >= 3
    assert max(ends) <= 390
    assert chromium.execute_script("return document.documentElement.scrollWidth") <= 390
    chromium.get("about:blank")
