"""`import` and `export`: whole folders, and what comes after them."""

import shutil

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from features import EncoderConfig
from mil import (
    Cohort,
    ExtractConfig,
    Run,
    TrainConfig,
    export_run,
    extract,
    import_coords,
    predict,
    tile,
    train,
)
from mil.cli import app
from tiling import ConfigError, FormatError, GridConfig, TissueConfig, load_grid

FORMATS = ["atlaspatch", "clam", "slideflow", "stamp", "trident"]


@pytest.fixture(scope="module")
def slides(phantom_cohort, tmp_path_factory):
    """Three slides, two of one name."""
    folder = tmp_path_factory.mktemp("slides")
    found = sorted((phantom_cohort / "slides").glob("*.svs"))
    for path, name in zip(found, ("a/one.svs", "b/one.svs", "two.svs"), strict=False):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(path, folder / name)
    return folder


@pytest.fixture(scope="module")
def tiled(slides, tmp_path_factory):
    run = Run.create(tmp_path_factory.mktemp("tiled"))
    tile(Cohort.from_folder(slides), run, GridConfig(tile_px=112), TissueConfig())
    return run


def trident(path, coords, side=112):
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        data = file.create_dataset("coords", data=np.array(coords, np.int64).reshape(-1, 2))
        data.attrs.update({"patch_size": 112, "patch_size_level0": side, "overlap": "None"})


@pytest.mark.parametrize("format", FORMATS)
def test_a_run_goes_out_and_comes_back_whole(slides, tiled, tmp_path, format):
    cohort = Cohort.from_folder(slides)
    assert export_run(tiled, tmp_path / "out", format).counts == {"done": 3}
    run = Run.create(tmp_path / "run")
    assert import_coords(tmp_path / "out", cohort, run, format).counts == {"done": 3}
    assert import_coords(tmp_path / "out", cohort, run, format).counts == {"kept": 3}
    for slide in cohort.slides:
        one, two = (load_grid(r.grid_path(slide.slide_id)) for r in (tiled, run))
        np.testing.assert_array_equal(one.coords, two.coords)
        assert one.config == two.config
    assert run.slides().n_tiles.tolist() == tiled.slides().n_tiles.tolist()


def test_extract_goes_on_from_an_import_and_tile_may_replace_it(slides, tmp_path):
    for name, coords in {"a/one": [[3, 4], [200, 300]], "b/one": [[5, 5]], "two": []}.items():
        trident(tmp_path / "job" / "patches" / f"{name}_patches.h5", coords)
    cohort, run = Cohort.from_folder(slides), Run.create(tmp_path / "run")
    done = import_coords(tmp_path / "job", cohort, run, "trident")
    assert dict(done.statuses) == {"a/one": "done", "b/one": "done", "two": "no tissue"}
    encoded = extract(run, EncoderConfig(encoder="stain-stats"), ExtractConfig())
    assert dict(encoded.statuses) == {"a/one": "done", "b/one": "done", "two": "no tissue"}
    with h5py.File(run.features_path("stain-stats", "a/one")) as file:
        assert file["coords"][:].tolist() == [[3, 4], [200, 300]]
        assert np.isfinite(file["features"][:]).all()
    again = tile(cohort, run, GridConfig(tile_px=112), TissueConfig())
    assert again.counts == {"done": 3}
    assert len(load_grid(run.grid_path("two"))) > 0


def test_features_of_other_tiles_are_refused(slides, tmp_path):
    cohort, run = Cohort(Cohort.from_folder(slides).slides[:1]), Run.create(tmp_path / "run")
    trident(tmp_path / "job" / "a/one_patches.h5", [[3, 4]])
    import_coords(tmp_path / "job", cohort, run, "trident")
    extract(run, EncoderConfig(encoder="stain-stats"), ExtractConfig())
    trident(tmp_path / "job" / "a/one_patches.h5", [[5, 6]])
    import_coords(tmp_path / "job", cohort, run, "trident")
    done = export_run(run, tmp_path / "out", "clam", encoder="stain-stats")
    assert "other tiles than its grid" in done.failures[0].error


def test_an_encoder_without_features_is_told_at_once(slides, tiled, tmp_path):
    run = Run(shutil.copytree(tiled.root, tmp_path / "run"))
    extract(run, EncoderConfig(encoder="stain-stats"), ExtractConfig())
    with pytest.raises(FormatError, match="no slide has features of 'nope', but there are those of 'stain-"):
        export_run(run, tmp_path / "out", "clam", encoder="nope")
    assert not (run.root / "failures.csv").exists()
    run.features_path("stain-stats", "two").unlink()
    done = export_run(run, tmp_path / "out", "clam", encoder="stain-stats")
    assert dict(done.statuses) == {"a/one": "done", "b/one": "done", "two": "failed"}


def test_a_name_that_two_slides_share_is_nobodys(slides, tmp_path):
    for name in ("one", "two"):
        trident(tmp_path / "job" / f"{name}_patches.h5", [[3, 4]])
    run = Run.create(tmp_path / "run")
    done = import_coords(tmp_path / "job", Cohort.from_folder(slides), run, "trident")
    assert dict(done.statuses) == {"a/one": "failed", "b/one": "failed", "two": "done"}
    failures = run.read_table("failures.csv")
    assert failures.slide_id.tolist() == ["a/one", "b/one"]
    assert failures.step.unique().tolist() == ["import"]
    assert all(failures.error.str.contains("no file of that name"))


def test_two_files_of_one_slide_are_told(slides, tmp_path):
    for folder in ("20x/patches", "10x/patches"):
        trident(tmp_path / "job" / folder / "two_patches.h5", [[3, 4]])
    cohort = Cohort(tuple(s for s in Cohort.from_folder(slides).slides if s.slide_id == "two"))
    done = import_coords(tmp_path / "job", cohort, Run.create(tmp_path / "run"), "trident")
    assert "10x/patches/two_patches.h5 and 20x/patches/two_patches.h5" in done.failures[0].error


def test_a_folder_without_coordinates_is_refused_before_the_run_is_touched(slides, tiled, tmp_path):
    before = tiled.slides()
    with pytest.raises(ConfigError, match=r"no file there ends in _patches\.h5 or \.h5"):
        import_coords(slides, Cohort.from_folder(slides), tiled, "trident")
    with pytest.raises(ConfigError, match="unknown format"):
        export_run(tiled, tmp_path, "zarr")
    assert tiled.slides().equals(before)


def test_the_commands(slides, tiled, tmp_path):
    call = CliRunner().invoke
    done = call(app, ["export", str(tiled.root), str(tmp_path / "out"), "--format", "clam"])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "out" / "patches" / "a" / "one.h5").is_file()
    given = [str(tmp_path / "out"), str(slides), str(tmp_path / "run"), "--format", "clam"]
    done = call(app, ["import", *given])
    assert done.exit_code == 0, done.output
    (tmp_path / "out" / "patches" / "two.h5").unlink()
    assert call(app, ["import", *given]).exit_code == 1


def test_slides_cut_at_different_resolutions_are_warned_of_and_what_placed_the_tiles_is_told(
    phantom_cohort, tmp_path, capsys
):
    cohort = Cohort.from_folder(phantom_cohort / "slides", phantom_cohort / "slides.csv")
    run = Run.create(tmp_path / "run")
    for k, slide in enumerate(cohort.slides):
        side = 112 << (k % 2)  # level-0 pixels, of slides of one resolution
        coords = [(x * side, y * side) for x in range(1, 3) for y in range(1, 3)]
        trident(tmp_path / "coords" / f"{slide.slide_id}.h5", coords, side)
    import_coords(tmp_path / "coords", cohort, run, "trident")
    extract(run, EncoderConfig(encoder="stain-stats"), ExtractConfig())
    done = train(run, "stain-stats", TrainConfig(learner="mean", folds=3), {"epochs": "1"})
    (told,) = [warning for warning in done.warnings if "resolutions" in warning]
    assert "slidebag regrid" in told
    assert told in (done.folder / "README.md").read_text()
    capsys.readouterr()
    predict(done.folder, Cohort(cohort.slides[:1]), Run(tmp_path / "new"))
    assert "placed by trident, those of new slides are by slidebag alone" in capsys.readouterr().err
