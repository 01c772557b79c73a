"""No space for what is written: the slide fails with the reason, the others go on, no half file stays."""

import errno
import pkgutil
import shutil

import pandas as pd
import pytest

from features import EncoderConfig
from mil import Cohort, ExtractConfig, Run, extract, qc, tile
from tiling import GridConfig, TissueConfig

GRID = GridConfig(tile_px=64)


@pytest.fixture(scope="module")
def slides(phantom_cohort, tmp_path_factory):
    folder = tmp_path_factory.mktemp("slides")
    for path in sorted((phantom_cohort / "slides").glob("*.svs"))[:2]:
        shutil.copy2(path, folder / path.name)
    return folder


@pytest.fixture
def run(slides, tmp_path):
    made = Run.create(tmp_path / "run")
    tile(Cohort.from_folder(slides), made, GRID, TissueConfig())
    return made


def full(monkeypatch, target, slide_id):
    """Let what `target` writes of one slide fail midway, as on a disk that is full."""
    owner, _, name = target.rpartition(".")
    real = getattr(pkgutil.resolve_name(owner), name)

    def write(file, *args, **options):
        if slide_id in str(getattr(file, "filename", "")) or slide_id in str(args) + str(options):
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(file, *args, **options)

    monkeypatch.setattr(target, write)


def check(run, step):
    told = pd.read_csv(run.root / "failures.csv").set_index("slide_id")
    assert told.step.to_dict() == {"phantom-001": step}
    assert told.hint.str.contains("free space").all()
    assert "No space left" in told.error["phantom-001"]
    assert not list(run.root.rglob("*.partial"))


def test_a_grid(slides, tmp_path, monkeypatch):
    run = Run.create(tmp_path / "run")
    full(monkeypatch, "tiling.grid_file.write_coords", "phantom-001")
    tile(Cohort.from_folder(slides), run, GRID, TissueConfig())
    check(run, "tile")
    assert [p.stem for p in (run.root / "tiles").iterdir()] == ["phantom-002"]


def test_a_bag(run, monkeypatch):
    full(monkeypatch, "features.bag.write_header", "phantom-001")
    extract(run, EncoderConfig(), ExtractConfig())
    check(run, "extract")
    assert [p.stem for p in (run.root / "features").rglob("*.h5")] == ["phantom-002"]


def test_a_picture(run, monkeypatch):
    for path in (run.root / "qc").rglob("*.png"):
        path.unlink()
    full(monkeypatch, "PIL.PngImagePlugin.PngInfo.add_itxt", "phantom-001")
    qc(run)
    check(run, "qc")
    assert not (run.root / "qc" / "phantom-001.png").exists()
    assert (run.root / "qc" / "phantom-002.png").exists()
