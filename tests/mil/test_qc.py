"""What `tile` leaves for people, on drawn slides of which some are bad."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from features import EncoderConfig
from mil import Cohort, CohortSlide, ExtractConfig, Run, extract, qc, tile
from mil.cli.app import app
from tiling import GridConfig, PhantomConfig, TissueConfig, load_grid, render_phantom, write_slide

COLUMNS = [
    "slide_id", "status", "tissue_mm2", "n_tiles", "pen_fraction", "focus", "stain_strength", "background",
    "mpp", "mpp_source", "width_level0_px", "height_level0_px", "reader", "flags", "message",
]  # fmt: skip
GRID = GridConfig(tile_px=64)


def stamps(folder: Path) -> dict[str, int]:
    return {p.relative_to(folder).as_posix(): p.stat().st_mtime_ns for p in sorted(folder.rglob("*.png"))}


def table(run: Run) -> pd.DataFrame:
    return pd.read_csv(run.root / "qc.csv").set_index("slide_id")


@pytest.fixture(scope="module")
def slides(tmp_path_factory) -> Path:
    """Five good slides, a pale one, an empty one and a damaged one, in folders."""
    folder = tmp_path_factory.mktemp("slides")
    for k in range(6):
        config = PhantomConfig(size_px=(1000, 800), tissue_share=0.4, has_pen=False, seed=k)
        pixels = render_phantom(config).pixels
        if k == 4:
            pixels = np.rint(244 - (244 - pixels.astype(float)) * 0.4).astype(np.uint8)
        path = folder / f"ward-{k % 2}" / ("pale.svs" if k == 4 else f"good-{k}.svs")
        path.parent.mkdir(exist_ok=True)
        write_slide(path, pixels, mpp=0.5)
    write_slide(folder / "empty.svs", np.full((700, 900, 3), 244, np.uint8), mpp=0.5)
    (folder / "damaged.svs").write_bytes((folder / "empty.svs").read_bytes()[:900])
    return folder


@pytest.fixture(scope="module")
def tiled(slides, tmp_path_factory) -> Run:
    run = Run.create(tmp_path_factory.mktemp("run"))
    tile(Cohort.from_folder(slides), run, GRID, TissueConfig())
    return run


@pytest.fixture
def copied(tiled, tmp_path) -> Run:
    shutil.copytree(tiled.root, tmp_path / "run")
    return Run(tmp_path / "run")


def test_every_slide_has_a_row_and_each_with_a_grid_a_picture(tiled):
    rows = table(tiled)
    assert rows.reset_index().columns.tolist() == COLUMNS
    assert rows.index.tolist() == tiled.slides().slide_id.tolist()
    assert rows.status.value_counts().to_dict() == {"tiled": 6, "no tissue": 1, "failed": 1}
    assert rows.loc["damaged", "message"] == tiled.slides().set_index("slide_id").loc["damaged", "message"]
    assert rows.loc["ward-0/pale", "flags"] == "weak stain"
    assert rows["flags"].notna().sum() == 1
    for slide_id in rows.index.drop("damaged"):
        grid = load_grid(tiled.grid_path(slide_id))
        with Image.open(tiled.qc_path(slide_id)) as picture:
            assert picture.width > 500
        assert rows.loc[slide_id, "n_tiles"] == len(grid)
        assert rows.loc[slide_id, "mpp"] == grid.mpp
        assert (rows.loc[slide_id, "width_level0_px"], rows.loc[slide_id, "height_level0_px"]) == (
            grid.size_level0_px
        )
    assert not tiled.qc_path("damaged").exists()
    with Image.open(tiled.contact_sheet_path(1)) as sheet:
        assert sheet.width > 1000


def test_the_figures_are_those_that_were_measured(tiled):
    rows = table(tiled)
    for slide_id in rows.index.drop("damaged"):
        with h5py.File(tiled.grid_path(slide_id)) as file:
            for name in ("tissue_mm2", "pen_fraction", "focus", "stain_strength"):
                assert rows.loc[slide_id, name] == pytest.approx(file.attrs[name], rel=1e-5)
    assert rows.loc["empty", "tissue_mm2"] == 0
    assert 0.02 < rows.loc["ward-1/good-1", "tissue_mm2"] < 0.2  # of 0.2 mm² of slide


def test_tissue_that_holds_no_tile_is_told_from_none(slides, tmp_path, capsys):
    run = Run.create(tmp_path / "run")
    tile(Cohort.from_folder(slides / "ward-0"), run, GridConfig(tile_px=224, tile_mpp=4.0), TissueConfig())
    rows = table(run)  # a tile is 0.9 mm wide, the slide 0.5
    assert (rows.status == "no tile").all()
    assert (run.slides().status == "no tile").all()
    assert run.slides().message.str.contains("smaller --tile-px").all()
    assert (
        "tissue, but no tile holds enough of it: good-0, good-2, pale (3 in all)" in capsys.readouterr().err
    )
    assert (rows.n_tiles == 0).all()
    for area_mm2, message in zip(rows.tissue_mm2, rows.message, strict=True):
        assert message.startswith(f"{area_mm2:.3g} mm² of tissue, but no tile holds enough of it: tile with")
    assert extract(run, EncoderConfig(encoder="stain-stats"), ExtractConfig()).counts == {
        "no tile": len(rows)
    }
    assert set(run.slides().status) == {"no tile"}


def test_no_tissue_at_all_needs_no_message(tiled):
    assert pd.isna(table(tiled).loc["empty", "message"])


def test_nothing_is_made_twice(copied, slides):
    before = stamps(copied.root)
    told = (copied.root / "qc.csv").read_text()
    tile(Cohort.from_folder(slides), copied, GRID, TissueConfig())
    outcome = qc(copied)
    assert outcome.counts == {"kept": 7}
    assert stamps(copied.root) == before
    assert (copied.root / "qc.csv").read_text() == told


def test_all_of_it_comes_back_from_the_grids_alone(copied, tiled):
    told = (copied.root / "qc.csv").read_bytes()
    shutil.rmtree(copied.root / "qc")
    (copied.root / "qc.csv").unlink()
    assert qc(copied).counts == {"done": 7}
    assert (copied.root / "qc.csv").read_bytes() == told
    for path in sorted((tiled.root / "qc").rglob("*.png")):
        again = copied.root / path.relative_to(tiled.root)
        assert np.array_equal(np.array(Image.open(path)), np.array(Image.open(again)))


def test_only_what_is_missing_or_damaged_is_made(copied):
    before = stamps(copied.root)
    copied.qc_path("empty").unlink()
    damaged = copied.qc_path("ward-1/good-1")
    damaged.write_bytes(damaged.read_bytes()[:20])
    assert qc(copied).counts == {"done": 2, "kept": 5}
    after = stamps(copied.root)
    assert {k for k in before if after[k] != before[k]} == {"qc/empty.png", "qc/ward-1/good-1.png"}


def test_other_tiles_make_another_picture(copied, slides):
    before = stamps(copied.root)
    tile(Cohort.from_folder(slides), copied, GridConfig(tile_px=100), TissueConfig())
    after = stamps(copied.root)
    assert all(after[k] != before[k] for k in before)


def test_a_slide_that_fails_now_keeps_no_picture_of_before(copied, slides, tmp_path):
    worse = tmp_path / "slides"
    shutil.copytree(slides, worse)
    (worse / "empty.svs").write_bytes(b"no slide")
    tile(Cohort.from_folder(worse), copied, GRID, TissueConfig())
    assert table(copied).loc["empty", "status"] == "failed"
    assert not copied.qc_path("empty").exists()


def test_a_run_that_was_stopped_is_shown_as_far_as_it_came(copied):
    copied.begin(copied.cohort())  # what `tile` does first
    copied.grid_path("ward-0/pale").unlink()
    qc(copied)
    status = table(copied).status
    assert status["ward-0/pale"] == "pending"
    assert status["ward-1/good-1"] == "tiled"


def test_a_damaged_grid_is_told_and_stops_nothing(copied):
    path = copied.grid_path("ward-1/good-1")
    path.write_bytes(path.read_bytes()[:500])
    qc(copied)
    row = table(copied).loc["ward-1/good-1"]
    assert row.status == "failed"
    assert "not a readable HDF5 file" in row.message


def test_a_grid_that_cannot_be_read_fails_its_slide(copied):
    copied.grid_path("ward-1/good-1").write_bytes(b"")
    copied.grid_path("ward-1/good-3").unlink()
    said = CliRunner().invoke(app, ["qc", str(copied.root)])
    assert said.exit_code == 1
    assert "qc: 2 failed, 5 kept" in said.output
    failed = copied.read_table("failures.csv")
    failed = failed[failed.step == "qc"]
    assert failed.slide_id.tolist() == ["ward-1/good-1", "ward-1/good-3"]
    assert failed.hint.all()
    for slide_id in failed.slide_id:
        assert not copied.qc_path(slide_id).exists()


def test_many_slides_make_pages_and_fewer_remove_them(copied):
    one = copied.grid_path("ward-1/good-1")
    many = [CohortSlide(f"copy-{k:03d}", Path(f"copy-{k:03d}.svs")) for k in range(205)]
    for slide in many:
        shutil.copyfile(one, copied.grid_path(slide.slide_id))
    copied.begin(Cohort(tuple(many)))
    for slide in many[3:]:  # pictures are not what this test is about
        copied.grid_path(slide.slide_id).unlink()
    qc(copied)
    assert [copied.contact_sheet_path(page).exists() for page in (1, 2, 3, 4)] == [True, True, True, False]
    assert (table(copied).status == "pending").sum() == 202
    copied.begin(Cohort(tuple(many[:90])))
    qc(copied)
    assert [copied.contact_sheet_path(page).exists() for page in (1, 2, 3)] == [True, False, False]


def test_regions_bound_the_tissue_that_is_counted(slides, tmp_path):
    (tmp_path / "regions" / "ward-1").mkdir(parents=True)
    half = Image.new("L", (100, 80))
    half.paste(255, (0, 0, 50, 80))
    half.save(tmp_path / "regions" / "ward-1" / "good-1.png")
    run = Run.create(tmp_path / "run")
    tile(Cohort.from_folder(slides), run, GRID, TissueConfig(), regions=tmp_path / "regions")
    whole, bounded = tiled_mm2(run, "ward-1/good-3"), tiled_mm2(run, "ward-1/good-1")
    assert whole > 0
    mask_mm2 = polygons_mm2(load_grid(run.grid_path("ward-1/good-1")))
    assert bounded == pytest.approx(mask_mm2, rel=0.02)


def tiled_mm2(run: Run, slide_id: str) -> float:
    return float(table(run).loc[slide_id, "tissue_mm2"])


def polygons_mm2(grid) -> float:
    def area(ring):
        x, y = np.array(ring, float).T
        return abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2

    polygons = grid.tissue_polygons["coordinates"]
    px = sum(area(p[0]) - sum(area(hole) for hole in p[1:]) for p in polygons)
    return px * (grid.mpp / 1000) ** 2


def test_a_damaged_grid_costs_no_other_slide_its_picture(copied):
    with h5py.File(copied.grid_path("empty"), "a") as file:
        file.attrs["fingerprint"] = "another"
        del file["tissue/polygons"]
        file["tissue/polygons"] = "{"
    copied.contact_sheet_path(1).unlink()
    outcome = qc(copied)
    assert [failure.slide_id for failure in outcome.failures] == ["empty"]
    assert "is damaged" in outcome.failures[0].error
    assert copied.contact_sheet_path(1).exists()
    assert len(table(copied)) == 8
