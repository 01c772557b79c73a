"""`regrid`: a run of the same places at another resolution, file by file."""

import json
import shutil

import numpy as np
import pytest

from features import EncoderConfig
from mil import Cohort, ExtractConfig, Run, extract, regrid_run, tile
from tiling import ConfigError, FormatError, GridConfig, TissueConfig, load_grid, load_summary


@pytest.fixture
def slides(phantom_cohort, tmp_path):
    """Two good slides and one that cannot be opened."""
    folder = tmp_path / "slides"
    folder.mkdir()
    for path in sorted((phantom_cohort / "slides").glob("*.svs"))[:2]:
        shutil.copy2(path, folder)
    (folder / "bad.svs").write_bytes(b"no slide")
    return folder


@pytest.fixture
def run(slides, tmp_path):
    """Tiled at 0.7 µm/px, so that a tile's side is no whole number of level-0 pixels."""
    made = Run.create(tmp_path / "run")
    tile(Cohort.from_folder(slides), made, GridConfig(tile_px=64, tile_mpp=0.7), TissueConfig())
    return made


def centres(grid):
    return grid.coords + grid.config.tile_px * grid.config.tile_mpp / grid.mpp / 2


@pytest.mark.parametrize(("tile_mpp", "tile_px"), [(2.0, None), (1.1, 96), (0.5, 32)])
def test_centres_agree_within_half_a_pixel_row_for_row(run, tmp_path, tile_mpp, tile_px):
    out = Run.create(tmp_path / "out")
    regrid_run(run, out, tile_mpp=tile_mpp, tile_px=tile_px)
    good = out.cohort("tiled").slides
    assert len(good) == 2
    for slide in good:
        old, new = (load_grid(r.grid_path(slide.slide_id)) for r in (run, out))
        assert len(new) == len(old) > 10
        assert np.abs(centres(new) - centres(old)).max() <= 0.5
        assert (new.config.tile_mpp, new.config.tile_px) == (tile_mpp, tile_px or 64)


def test_the_new_run_is_told_of_as_tile_tells(run, tmp_path):
    out = Run.create(tmp_path / "out")
    outcome = regrid_run(run, out, tile_mpp=2.0)
    assert dict(outcome.statuses)["bad"] == "failed"
    columns = ["slide_id", "path", "patient_id", "label", "mpp", "split", "n_tiles", "status", "message"]
    assert out.slides()[columns].equals(run.slides()[columns])  # the bad slide for the same reason
    assert out.read_table("failures.csv")["step"].tolist() == ["regrid"]
    assert json.loads((out.root / "run.json").read_text())["steps"]["regrid"]["tile_mpp"] == 2.0
    first = out.cohort("tiled").slides[0].slide_id
    assert out.qc_path(first).is_file()
    assert out.contact_sheet_path(1).is_file()
    was, now = (load_summary(r.grid_path(first)) for r in (run, out))
    assert (now.quality, now.reader, now.mpp_source) == (was.quality, was.reader, was.mpp_source)


def test_grids_are_kept_until_something_they_are_made_of_changes(run, slides, tmp_path):
    out = Run.create(tmp_path / "out")

    def counts(**options):
        return regrid_run(run, out, **options).counts

    assert counts(tile_mpp=2.0) == {"done": 2, "failed": 1}
    assert counts(tile_mpp=2.0) == {"kept": 2, "failed": 1}
    assert counts(tile_mpp=2.0, tile_px=96) == {"done": 2, "failed": 1}
    (slides / "bad.svs").unlink()
    tile(
        Cohort.from_folder(slides), run, GridConfig(tile_px=64, tile_mpp=0.7, min_tissue=0.5), TissueConfig()
    )
    assert counts(tile_mpp=2.0, tile_px=96) == {"done": 2}


def test_bags_of_both_runs_match_row_for_row(run, tmp_path):
    out = Run.create(tmp_path / "out")
    regrid_run(run, out, tile_mpp=1.4)
    outcome = extract(out, EncoderConfig(encoder="stain-stats"), ExtractConfig())
    assert outcome.counts == {"done": 2}


def test_a_slide_that_has_changed_since_fails_alone(run, slides, tmp_path):
    first = sorted(slides.glob("phantom*.svs"))[0]
    first.write_bytes(first.read_bytes() + b" ")
    outcome = regrid_run(run, Run.create(tmp_path / "out"), tile_mpp=2.0)
    assert sorted(f.slide_id for f in outcome.failures) == ["bad", first.stem]
    assert any("has changed" in f.error and "tile" in f.hint for f in outcome.failures)


def test_a_resolution_that_a_slide_has_not_fails_it_with_the_way_out(run, tmp_path):
    outcome = regrid_run(run, Run.create(tmp_path / "out"), tile_mpp=0.25)
    hints = {f.slide_id: f.hint for f in outcome.failures}
    assert len(hints) == 3
    assert sum("--tile-mpp 0.5" in hint for hint in hints.values()) == 2


def test_misuse_is_told_before_anything_is_written(run, tmp_path):
    with pytest.raises(ConfigError, match="is the run itself"):
        regrid_run(run, Run(run.root), tile_mpp=2.0)
    out = Run.create(tmp_path / "out")
    with pytest.raises(ConfigError, match=r"tile_mpp is 0\.01"):
        regrid_run(run, out, tile_mpp=0.01)
    with pytest.raises(FormatError, match=r"no slides\.csv"):
        regrid_run(Run.create(tmp_path / "empty"), out, tile_mpp=2.0)
    assert list(out.root.iterdir()) == []
