"""No space for what is written: the slide fails with the reason, the others go on, no half file stays."""

import collections
import errno
import pkgutil
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from features import EncoderConfig
from mil import Cohort, ExtractConfig, HeatmapConfig, Run, extract, heatmap, qc, tile
from mil.scores import Scores, save_scores
from tiling import GridConfig, OverlayConfig, TissueConfig, load_grid

GRID = GridConfig(tile_px=64)
STAIN_STATS = ("--encoder", "stain-stats")
# many jobs in one process, whose files cannot grow beyond a bound: a real error of writing, whoever writes
WORKER = """
import resource, signal, sys
from mil.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
none = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
for job in sys.argv[1:]:
    bound, *sys.argv[1:] = job.split("|")
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(bound), none))
    try:
        main()
        code = 0
    except SystemExit as end:
        code = end.code
    resource.setrlimit(resource.RLIMIT_FSIZE, (none, none))
    print("ended with", code, flush=True)
"""


@pytest.fixture(scope="module")
def slides(phantom_cohort, tmp_path_factory):
    folder = tmp_path_factory.mktemp("slides")
    for path in sorted((phantom_cohort / "slides").glob("*.svs"))[:2]:
        shutil.copy2(path, folder / path.name)
    return folder


@pytest.fixture(scope="module")
def whole(slides, tmp_path_factory):
    """A run whose disk was never full, with predictions that nobody made."""
    run = Run.create(tmp_path_factory.mktemp("whole") / "run")
    tile(Cohort.from_folder(slides), run, GRID, TissueConfig())
    extract(run, EncoderConfig(encoder="stain-stats"), ExtractConfig())
    rows = []
    for slide_id in run.slides().slide_id:
        grid = load_grid(run.grid_path(slide_id))
        even, none = np.full((len(grid), 2), 0.5), np.full(len(grid), -1)
        scores = Scores(slide_id, ("normal", "tumour"), even, none, "mean", "f0")
        save_scores(scores, grid, run.scores_path(slide_id), model_fingerprint="f0")
        called = {"prediction": "normal", "p(normal)": 0.5, "threshold": "", "tile_threshold": 0.5}
        rows.append({"slide_id": slide_id, **called})
    run.write_table("predictions.csv", pd.DataFrame(rows))
    heatmap(run, OverlayConfig(), HeatmapConfig())
    return run


@pytest.fixture
def run(whole, tmp_path):
    shutil.copytree(whole.root, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "features")
    return Run(tmp_path / "run")


def under_bounds(jobs):
    """Run commands, each with the most bytes that a file may have; return exit code and text of each."""
    jobs = ["|".join(str(part) for part in job) for job in jobs]
    done = subprocess.run(
        [sys.executable, "-c", WORKER, *jobs],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    *told, rest = done.stdout.split("ended with ")
    assert len(told) == len(jobs)
    codes = [int(text.split()[0]) for text in [*told[1:], rest]]
    return list(zip(codes, told, strict=True))


def between(paths):
    """A bound that some of these files keep to, and some do not."""
    sizes = sorted(path.stat().st_size for path in paths)
    assert sizes[0] < sizes[-1]
    return (sizes[0] + sizes[-1]) // 2


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the bounds on a process are Linux's")
def test_files_that_cannot_grow(slides, whole, tmp_path):
    outputs = {
        "tile": "tiles/*.h5",
        "extract": "features/*/*.h5",
        "heatmap": "heatmaps/*/overlay.png",
        "qc": "qc/ph*.png",
    }
    jobs, roots = [], collections.defaultdict(list)
    for step, made in outputs.items():
        for bound in (3000 if step == "tile" else 300, between(whole.root.glob(made))):
            root = tmp_path / f"{step}-{bound}"
            if step != "tile":
                shutil.copytree(whole.root, root)
                for path in root.glob(made):
                    path.unlink()
            of_step = (slides, root, "--tile-px", 64) if step == "tile" else (root,)
            of_step += STAIN_STATS if step == "extract" else ()
            jobs.append((bound, step, *of_step))
            roots[step].append(root)
    for (bound, step, *_), (code, text) in zip(jobs, under_bounds(jobs), strict=True):
        assert code in (1, 2), text
        root = tmp_path / f"{step}-{bound}"
        failures = root / "failures.csv"
        assert "Traceback" not in text
        text += failures.read_text() if failures.exists() else ""
        assert "cannot be written (File too large)" in text
        assert "check free space" in text
        assert not list(root.rglob("*.partial"))
    for step, (*_, last) in roots.items():
        told = pd.read_csv(last / "failures.csv")
        failed, error = told[told.step == step].set_index("slide_id").error.to_dict().popitem()
        assert failed in error
        stems = {path.parent.name if step == "heatmap" else path.stem for path in last.glob(outputs[step])}
        assert {"phantom-001", "phantom-002"} - stems <= {failed} <= {"phantom-001", "phantom-002"}


def full(monkeypatch, target, slide_id):
    """Let what `target` writes of one slide fail midway, as on a disk that is full."""
    owner, _, name = target.rpartition(".")
    real = getattr(pkgutil.resolve_name(owner), name)

    def write(*args, **options):
        if slide_id in str(args) + str(options):
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*args, **options)

    monkeypatch.setattr(target, write)


def check(run, step, error="No space left"):
    told = pd.read_csv(run.root / "failures.csv").set_index("slide_id")
    assert told.step.to_dict() == {"phantom-001": step}
    assert error in told.error["phantom-001"]
    assert not list(run.root.rglob("*.partial"))


def test_a_picture(run, monkeypatch):
    for path in (run.root / "qc").rglob("*.png"):
        path.unlink()
    full(monkeypatch, "PIL.PngImagePlugin.PngInfo.add_itxt", "phantom-001")
    qc(run)
    check(run, "qc")
    assert not (run.root / "qc" / "phantom-001.png").exists()
    assert (run.root / "qc" / "phantom-002.png").exists()


def test_a_bag_for_which_there_is_no_room_is_not_begun(run, monkeypatch):
    usage = collections.namedtuple("usage", "total used free")
    frees = iter([1000, 10**9])
    monkeypatch.setattr("shutil.disk_usage", lambda folder: usage(10**9, 0, next(frees)))
    extract(run, EncoderConfig(encoder="stain-stats"), ExtractConfig())
    check(run, "extract", "its bag needs 0.0 MB, 0.0 MB are free in ")
    assert [p.stem for p in (run.root / "features").rglob("*.h5")] == ["phantom-002"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the bounds on a process are Linux's")
def test_a_model_that_cannot_grow(phantom_cohort, tmp_path):
    run = Run.create(tmp_path / "run")
    table = phantom_cohort / "slides.csv"
    tile(Cohort.from_folder(phantom_cohort / "slides", table), run, GridConfig(max_tiles=9), TissueConfig())
    extract(run, EncoderConfig(encoder="stain-stats"), ExtractConfig())
    jobs = []
    for bound in (300, 10_000):
        shutil.copytree(run.root, tmp_path / str(bound))
        jobs.append((bound, "train", tmp_path / str(bound), "--learner", "mean", "--folds", 3, *STAIN_STATS))
    for (bound, *_), (code, text) in zip(jobs, under_bounds(jobs), strict=True):
        assert code == 2
        assert "cannot be written (File too large); check free space" in text
        assert "Traceback" not in text
        assert not list((tmp_path / str(bound)).rglob("*.partial"))
        assert not list((tmp_path / str(bound)).rglob("recipe.json"))
