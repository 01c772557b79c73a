"""Features of other tools, laid out as each writes them, become bags that are learned from."""

import json
import pickle
import shutil

import h5py
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from features import EncoderConfig, load_features
from mil import (
    Cohort,
    ExtractConfig,
    Run,
    TrainConfig,
    export_run,
    extract,
    import_coords,
    import_features,
    predict,
    tile,
    train,
)
from mil.bag_files import find_bags
from mil.cli import app
from tiling import ConfigError, GridConfig, TissueConfig, load_grid

MPP, SIDE = 0.5, 112  # the phantom's, so that a tile is as many pixels at level 0
NAMES = {
    "atlaspatch": "uni_v1",
    "clam": "uni",
    "slideflow": "retccl",
    "stamp": "uni2",
    "trident": "conch_v15",
}


@pytest.fixture(scope="module")
def cohort(phantom_cohort):
    return Cohort.from_folder(phantom_cohort / "slides", phantom_cohort / "slides.csv")


@pytest.fixture(scope="module")
def ours(cohort, tmp_path_factory):
    """A run with features of our own; the first slide has a tile that could not be read."""
    run = Run.create(tmp_path_factory.mktemp("ours"))
    tile(cohort, run, GridConfig(tile_px=SIDE), TissueConfig())
    extract(run, EncoderConfig(encoder="stain-stats"), ExtractConfig(dtype="float32"))
    return run


@pytest.fixture(scope="module")
def known(ours, cohort):
    """Corners, and features of 6 numbers, by slide."""
    rng = np.random.default_rng(0)
    coords = {s.slide_id: load_grid(ours.grid_path(s.slide_id)).coords for s in cohort.slides}
    return {i: (xy, rng.normal(size=(len(xy), 6)).astype(np.float32)) for i, xy in coords.items()}


def clam(job, known):
    """create_patches_fp.py and extract_features_fp.py: rows come batch by batch, in chunks of one."""
    for name, (xy, features) in known.items():
        h5(job / "patches" / f"{name}.h5", {"coords": xy.astype(np.int64)}, on_coords={
            "patch_size": SIDE, "patch_level": 0, "downsample": np.array([1.0, 1.0]),
            "downsampled_level_dim": np.array([1200, 1000]), "level_dim": np.array([1200, 1000]),
            "name": name, "save_path": "RESULTS/patches",
        })  # fmt: skip
        rows = {"features": features, "coords": xy.astype(np.int32)}
        h5(job / "features" / "h5_files" / f"{name}.h5", rows, chunks=True)
        pt(job / "features" / "pt_files" / f"{name}.pt", features)
    return job / "patches", job / "features"


def trident(job, known):
    told = {
        "patch_size": SIDE, "patch_size_level0": SIDE, "level0_magnification": 20, "target_magnification": 20,
        "overlap": 0, "savetodir": "job", "level0_width": 1200, "level0_height": 1000,
    }  # fmt: skip
    for name, (xy, features) in known.items():
        on_coords = told | {"name": name}
        h5(job / "patches" / f"{name}_patches.h5", {"coords": xy.astype(np.int64)}, on_coords=on_coords)
        path = job / "features_conch_v15" / f"{name}.h5"
        h5(path, {"features": features[None], "coords": xy.astype(np.int64)}, on_coords=on_coords)
        with h5py.File(path, "a") as file:
            file["features"].attrs.update({"name": name, "savetodir": "job", "encoder": "conch_v15"})
    return job / "patches", job / "features_conch_v15"


def stamp(job, known):
    """Tiles come as the workers were done with them, so in any order."""
    for name, (xy, features) in known.items():
        order = np.random.default_rng(len(xy)).permutation(len(xy))
        rows = {"coords": (xy[order] * MPP).astype(np.float32), "feats": features[order].astype(np.float16)}
        h5(job / "uni2-abcd" / f"{name}.h5", rows, on_file={
            "stamp_version": "2.3.0", "extractor": "uni2", "unit": "um", "tile_size_um": SIDE * MPP,
            "tile_size_px": SIDE, "code_hash": "abcd", "feat_type": "tile",
        })  # fmt: skip
    return job / "uni2-abcd", job / "uni2-abcd"


def atlaspatch(job, known):
    for name, (xy, features) in known.items():
        rows = np.hstack([xy, np.tile([SIDE, SIDE, 0], (len(xy), 1))]).astype(np.int32)
        data = {"coords": rows, "passports": np.array([b"x"] * len(xy), "S160"), "features/uni_v1": features}
        h5(job / "patches" / f"{name}.h5", data, on_file={
            "patch_size": SIDE, "patch_size_level0": SIDE, "level0_magnification": 20,
            "target_magnification": 20, "overlap": 0, "level0_width": 1200, "level0_height": 1000,
            "wsi_path": f"{name}.svs", "num_patches": len(xy),
        })  # fmt: skip
    return job / "patches", job / "patches"


def slideflow(job, known):
    for name, (xy, features) in known.items():
        pt(job / f"{name}.pt", features)
        np.savez(job / f"{name}.index", arr_0=(xy + SIDE / 2).astype(int))
    told = {"extractor": {"class": "slideflow.model.extractors.retccl.RetCCLFeatures", "kwargs": {}},
            "normalizer": None, "num_features": 6, "tile_px": SIDE, "tile_um": 56}  # fmt: skip
    (job / "bags_config.json").write_text(json.dumps(told))
    return job, job


WRITERS = {f.__name__: f for f in (atlaspatch, clam, slideflow, stamp, trident)}


def h5(path, data, *, on_file=None, on_coords=None, chunks=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, rows in data.items():
            how = {"chunks": (1, *rows.shape[1:]), "maxshape": (None, *rows.shape[1:])} if chunks else {}
            file.create_dataset(name, data=rows, **how)
        file.attrs.update(on_file or {})
        file["coords"].attrs.update(on_coords or {})


def pt(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(torch.from_numpy(rows.copy()), path)


def expected(features, format):
    return features.astype(np.float16) if format == "stamp" else features


@pytest.mark.parametrize("format", sorted(WRITERS))
def test_tiles_and_features_become_bags_to_learn_from(format, known, cohort, phantom_cohort, tmp_path):
    coords, features = WRITERS[format](tmp_path / "job", known)
    given = [str(coords), str(phantom_cohort / "slides"), str(tmp_path / "run"), "--format", format]
    given += ["--features", str(features), "--table", str(phantom_cohort / "slides.csv")]
    given += ["--encoder", "uni"] if format == "clam" else []
    done = CliRunner().invoke(app, ["import", *given])
    assert done.exit_code == 0, done.output
    run = Run(tmp_path / "run")
    assert set(run.slides().status) == {"extracted"}
    for slide_id, (xy, rows) in known.items():
        grid, bag = load_grid(run.grid_path(slide_id)), find_bags(run, NAMES[format]).bag(slide_id)
        assert sorted(grid.coords.tolist()) == sorted(xy.tolist())
        np.testing.assert_array_equal(bag.coords, grid.coords)
        by_place = dict(zip(map(tuple, xy.tolist()), expected(rows, format), strict=True))
        np.testing.assert_array_equal(bag.features, [by_place[tuple(c)] for c in bag.coords.tolist()])
        assert bag.features.dtype == (np.float16 if format == "stamp" else np.float32)
        assert not bag.unreadable.any()
    assert import_features(features, run, format, encoder=NAMES[format]).counts == {"kept": 8}
    if format == "stamp":
        train(run, NAMES[format], TrainConfig(learner="mean", folds=3))
        assert len(run.read_table("predictions.csv")) == 8
        with pytest.raises(ConfigError, match=f"features of '{NAMES[format]}' that were imported from stamp"):
            predict(run.model_folder("mean"), cohort, Run(tmp_path / "new"))
        assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("format", sorted(WRITERS))
def test_features_go_out_and_come_back(format, ours, cohort, tmp_path):
    run, first = Run(shutil.copytree(ours.root, tmp_path / "ours")), cohort.slides[0].slide_id
    with h5py.File(run.features_path("stain-stats", first), "a") as file:
        file["unreadable"][1] = True
    assert export_run(run, tmp_path / "out", format, encoder="stain-stats").counts == {"done": 8}
    back = Run.create(tmp_path / "back")
    coords, features = {
        "atlaspatch": ("patches", "patches"), "clam": ("patches", "pt_files"), "slideflow": (".", "."),
        "stamp": ("stain-stats", "stain-stats"), "trident": ("patches", "features_stain-stats"),
    }[format]  # fmt: skip
    import_coords(tmp_path / "out" / coords, cohort, back, format)
    done = import_features(tmp_path / "out" / features, back, format, encoder="stain-stats")
    assert done.counts == {"done": 8}
    for slide in cohort.slides:
        one, two = (load_features(r.features_path("stain-stats", slide.slide_id)) for r in (run, back))
        kept = ~one.unreadable
        assert kept.sum() == len(kept) - (slide.slide_id == first)
        np.testing.assert_array_equal(one.coords[kept], two.coords)
        np.testing.assert_array_equal(expected(one.features[kept], format), two.features)
        assert one.encoder_fingerprint != two.encoder_fingerprint


def test_the_files_are_where_each_tool_looks_for_them(ours, cohort, tmp_path):
    name = cohort.slides[0].slide_id
    for format in WRITERS:
        export_run(ours, tmp_path / format, format, encoder="stain-stats")
    with h5py.File(tmp_path / "clam" / "h5_files" / f"{name}.h5") as file:
        assert (file["features"].dtype, file["coords"].dtype) == (np.float32, np.int32)
        rows = torch.load(tmp_path / "clam" / "pt_files" / f"{name}.pt", weights_only=True)
        np.testing.assert_array_equal(rows.numpy(), file["features"][:])
    with h5py.File(tmp_path / "trident" / "features_stain-stats" / f"{name}.h5") as file:
        assert file["features"].attrs["encoder"] == "stain-stats"
        assert file["coords"].attrs["patch_size_level0"] == SIDE
    with h5py.File(tmp_path / "stamp" / "stain-stats" / f"{name}.h5") as file:
        assert (file["feats"].dtype, file["coords"].dtype) == (np.float16, np.float32)
        assert (file.attrs["extractor"], file.attrs["unit"]) == ("stain-stats", "um")
    with h5py.File(tmp_path / "atlaspatch" / "patches" / f"{name}.h5") as file:
        assert file["features/stain-stats"].dtype == np.float32
    told = json.loads((tmp_path / "slideflow" / "bags_config.json").read_text())
    assert (told["tile_px"], told["tile_um"], told["num_features"]) == (SIDE, 56.0, rows.shape[1])
    centres = np.load(tmp_path / "slideflow" / f"{name}.index.npz")["arr_0"]
    np.testing.assert_array_equal(centres, load_grid(ours.grid_path(name)).coords + SIDE // 2)


def test_clam_s_features_alone_need_sizes_only(known, cohort, tmp_path):
    folder = clam(tmp_path / "job", known)[1] / "h5_files"
    run = Run.create(tmp_path / "run")
    assert import_coords(folder, cohort, run, "clam").counts == {"failed": 8}
    done = import_coords(folder, cohort, run, "clam", tile_px=SIDE, tile_mpp=MPP)
    assert done.counts == {"done": 8}
    assert import_features(folder, run, "clam", encoder="uni").counts == {"done": 8}
    xy, rows = known[cohort.slides[0].slide_id]
    bag = load_features(run.features_path("uni", cohort.slides[0].slide_id))
    np.testing.assert_array_equal(bag.coords, xy)
    np.testing.assert_array_equal(bag.features, rows)
    failed = import_features(folder, run, "clam")
    assert "does not tell whose features" in failed.failures[0].error


def test_features_of_other_tiles_or_unsafe_ones_fail_alone(known, cohort, tmp_path):
    coords, features = clam(tmp_path / "job", known)
    one, two, three, four = [s.slide_id for s in cohort.slides[:4]]
    xy, rows = known[one]
    h5(features / "h5_files" / f"{one}.h5", {"features": rows, "coords": xy + 1})
    h5(features / "h5_files" / f"{two}.h5", {"features": known[two][1] * np.nan, "coords": known[two][0]})
    run = Run.create(tmp_path / "run")
    import_coords(coords, cohort, run, "clam")
    done = import_features(features / "h5_files", run, "clam", encoder="uni")
    errors = {f.slide_id: f.error for f in done.failures}
    assert "other tiles than its grid" in errors.pop(one)
    assert "wanted finite" in errors.pop(two)
    assert not errors
    assert run.slides().set_index("slide_id").status[one] == "not extracted"
    torch.save({"features": torch.zeros(3, 6)}, features / "pt_files" / f"{one}.pt")
    (features / "pt_files" / f"{two}.pt").write_bytes(pickle.dumps(print, 2))
    pt(features / "pt_files" / f"{three}.pt", known[three][1][1:])
    (features / "pt_files" / f"{four}.pt").write_bytes(b"")
    done = import_features(features / "pt_files", run, "clam", encoder="uni")
    errors = {f.slide_id: f.error for f in done.failures}
    assert "holds a dict, wanted a tensor" in errors.pop(one)
    assert "not a tensor that can be read safely" in errors.pop(two)
    assert f"{len(known[three][1]) - 1} rows of features for" in errors.pop(three)
    assert "not a tensor that can be read safely" in errors.pop(four)
    assert not errors


def test_one_of_several_encoders_is_chosen(known, cohort, tmp_path):
    folder = atlaspatch(tmp_path / "job", known)[0]
    for path in folder.iterdir():
        with h5py.File(path, "a") as file:
            file["features/other"] = file["features/uni_v1"][:] + 1
    run = Run.create(tmp_path / "run")
    import_coords(folder, cohort, run, "atlaspatch")
    assert "holds features of other, uni_v1" in import_features(folder, run, "atlaspatch").failures[0].error
    assert import_features(folder, run, "atlaspatch", encoder="other").counts == {"done": 8}
    none = import_features(folder, run, "atlaspatch", encoder="none")
    assert "has no dataset 'features/none'" in none.failures[0].error
    with pytest.raises(ConfigError, match=r"no file there ends in \.pt"):
        import_features(folder, run, "slideflow")


def test_a_slide_without_tiles_has_an_empty_bag(known, cohort, tmp_path):
    first = cohort.slides[0].slide_id
    empty = known | {first: (known[first][0][:0], known[first][1][:0])}
    coords, features = trident(tmp_path / "job", empty)
    (features / f"{first}.h5").unlink()
    run = Run.create(tmp_path / "run")
    import_coords(coords, cohort, run, "trident")
    assert import_features(features, run, "trident").counts == {"done": 7, "no tissue": 1}
    assert load_features(run.features_path("conch_v15", first)).features.shape == (0, 6)
