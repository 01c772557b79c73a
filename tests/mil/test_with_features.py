"""Which slides have features is asked of an encoder's bags, and who has none is told."""

import json
import shutil

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from features import EncoderConfig, FeatureStore
from mil import (
    Cohort,
    ExtractConfig,
    Run,
    SearchConfig,
    TileQuery,
    TrainConfig,
    extract,
    open_index,
    pack,
    predict,
    search,
    tile,
    train,
)
from mil.cli import app
from tiling import (
    FormatError,
    GridConfig,
    PhantomConfig,
    TissueConfig,
    load_grid,
    render_phantom,
    write_slide,
)

CONFIG = TrainConfig(learner="mean", folds=3)
LABELS = ("normal", "tumour")


@pytest.fixture(scope="module")
def extracted(phantom_cohort, tmp_path_factory) -> Run:
    run = Run.create(tmp_path_factory.mktemp("run"))
    cohort = Cohort.from_folder(phantom_cohort / "slides", phantom_cohort / "slides.csv")
    tile(cohort, run, GridConfig(tile_px=160, max_tiles=4), TissueConfig())
    extract(run, EncoderConfig(encoder="stain-stats"), ExtractConfig())
    run.update_slides({s.slide_id: {"patient_id": s.slide_id} for s in cohort.slides})
    return run


@pytest.fixture
def run(extracted, tmp_path) -> Run:
    return Run(shutil.copytree(extracted.root, tmp_path / "run"))


def one_of_each(run: Run) -> list[str]:
    """A slide of each label, so that enough are left to learn from."""
    return [next(s.slide_id for s in run.cohort().slides if s.label == label) for label in LABELS]


def ids(run: Run) -> list[str]:
    return [s.slide_id for s in run.cohort().slides]


def test_what_another_encoder_failed_at_does_not_matter(run):
    first = ids(run)[0]
    run.update_slides({first: {"status": "not extracted", "message": "no memory"}})  # as encoder B left it
    done = train(run, "stain-stats", CONFIG)
    assert run.read_table("predictions.csv").slide_id.tolist() == ids(run)
    assert not (run.root / "failures.csv").exists()
    assert train(run, "stain-stats", CONFIG).is_kept
    assert done.folder.is_dir()
    assert open_index(run, "stain-stats").slide_ids == tuple(ids(run))
    assert FeatureStore(pack(run, "stain-stats").store.address).slide_ids == tuple(ids(run))


@pytest.mark.parametrize(
    ("status", "why"), [("failed", "could not be tiled: cut short"), ("pending", "was not tiled yet")]
)
def test_who_has_no_features_is_left_out_and_told(run, capsys, status, why):
    first, second = one_of_each(run)
    run.features_path("stain-stats", first).unlink()  # but slides.csv says "extracted"
    run.update_slides({second: {"status": status, "message": "cut short"}})
    train(run, "stain-stats", CONFIG)
    said = capsys.readouterr().err
    assert "train: left out for want of features of stain-stats: " in said
    assert "(2 in all), 2 of them labelled" in said
    assert first in said
    assert run.read_table("predictions.csv").slide_id.tolist() == [
        i for i in ids(run) if i not in (first, second)
    ]
    failed = run.read_table("failures.csv").set_index("slide_id")
    assert set(failed.step) == {"train"}
    assert failed.error[first] == "has no features of 'stain-stats'"
    assert "slidebag extract" in failed.hint[first]
    assert failed.error[second] == why
    told = json.loads((run.root / "run.json").read_text())["steps"]["train"]
    assert sorted(told["left_out"]) == sorted([first, second])


@pytest.mark.parametrize("where", ["files", "store"])
@pytest.mark.parametrize(
    "work", [["train", "--learner", "mean"], ["pack"], ["search", "--slide", "x", "--at", "1,1"]]
)
def test_a_run_of_another_encoder_than_the_default_says_what_to_type(run, where, work):
    shutil.copytree(run.features_folder("stain-stats"), run.root / "features" / "timm_test_vit")
    for path in (run.root / "features" / "timm_test_vit").rglob("*.h5"):
        with h5py.File(path, "a") as file:
            told = json.loads(file.attrs["config"])
            told["encoder"]["encoder"] = "timm:test_vit"
            file.attrs["config"] = json.dumps(told)
    if where == "store":
        pack(run, "stain-stats")
        shutil.rmtree(run.features_folder("stain-stats"))
    with pytest.raises(FormatError) as told:
        CliRunner().invoke(app, [work[0], str(run.root), *work[1:]], catch_exceptions=False)
    found = "there are those of 'stain-stats' and 'timm:test_vit'"
    assert told.value.message == f"{run.root}: no slide has features of 'embedded', but {found}"
    again = f"run `slidebag extract {run.root} --encoder embedded`"
    assert told.value.hint == f"give --encoder stain-stats or timm:test_vit, or {again}"


def test_damaged_features_of_others_do_not_hide_that_there_are_none(run):
    for path in run.features_folder("stain-stats").rglob("*.h5"):
        path.write_bytes(b"damaged")
    (run.root / "features" / "other.zarr").mkdir()
    with pytest.raises(FormatError, match=r"no slide has features of 'embedded'; run `slidebag extract"):
        train(run, "embedded", CONFIG)


def test_a_run_without_any_features_says_how_to_get_them(run):
    shutil.rmtree(run.root / "features")
    with pytest.raises(FormatError, match=r"no slide has features of 'embedded'; run `slidebag extract"):
        train(run, "embedded", CONFIG)


def test_a_run_of_which_nothing_could_be_tiled_says_why_and_not_to_extract(phantom_cohort, tmp_path):
    slides = tmp_path / "slides"
    slides.mkdir()
    for name in "ab":
        write_slide(slides / f"{name}.tiff", np.full((300, 400, 3), 200, np.uint8), mpp=None)
    run = Run(tmp_path / "run")
    tile(Cohort.from_folder(slides), run, GridConfig(tile_px=160), TissueConfig())
    with pytest.raises(FormatError) as told:
        train(run, "stain-stats", CONFIG)
    why = run.slides().message[0]
    assert "states no resolution" in why
    of_all = "2 of 2 slides could not be tiled, the first"
    assert told.value.message == f"{run.root}: {of_all}: a: {why}; failures.csv says why"
    assert "--mpp" in told.value.hint
    failed = run.read_table("failures.csv")
    assert sorted(failed.step) == ["tile", "tile", "train", "train"]
    run.update_slides({name: {"status": "pending", "message": ""} for name in "ab"})
    with pytest.raises(FormatError, match=r"as none was tiled yet; run `slidebag tile` to its end"):
        train(run, "stain-stats", CONFIG)


def test_the_command_says_who_was_left_out_and_ends_with_1(run):
    first = ids(run)[0]
    path = run.features_path("stain-stats", first)
    kept = path.read_bytes()
    path.unlink()
    command = ["train", str(run.root), "--learner", "mean", "--folds", "3", "--encoder", "stain-stats"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 1
    assert "has no features of 'stain-stats'" in done.output
    path.write_bytes(kept)
    assert CliRunner().invoke(app, command).exit_code == 0
    assert not (run.root / "failures.csv").exists()


def test_a_store_is_asked_too(run, tmp_path, capsys):
    first = ids(run)[0]
    path = run.features_path("stain-stats", first)
    path.rename(tmp_path / "aside.h5")
    store = pack(run, "stain-stats").store
    assert f"pack: left out for want of features of stain-stats: {first} (1 in all" in capsys.readouterr().err
    assert first not in store
    assert ids(run)[1] in store
    shutil.rmtree(run.features_folder("stain-stats"))
    train(run, "stain-stats", CONFIG)
    assert "slidebag pack" in run.read_table("failures.csv").set_index("step").hint["train"]


def test_a_search_says_which_slides_it_cannot_find(run, capsys):
    first, second = ids(run)[:2]
    run.features_path("stain-stats", first).unlink()
    x, y = load_grid(run.grid_path(second)).coords[0].tolist()
    found = search(run, TileQuery(second, x, y), "stain-stats", SearchConfig(top=100))
    assert first not in set(found.hits.slide_id)
    assert f"search: left out for want of features of stain-stats: {first} (1 in" in capsys.readouterr().err


def test_an_encoder_of_which_there_is_nothing_is_refused(run):
    for verb in (lambda e: train(run, e, CONFIG), lambda e: pack(run, e), lambda e: open_index(run, e)):
        with pytest.raises(FormatError, match="no slide has features of 'uni'"):
            verb("uni")


def test_tissue_without_a_tile_is_flagged_as_that_in_predictions(run, tmp_path):
    train(run, "stain-stats", CONFIG)
    pixels = render_phantom(PhantomConfig(size_px=(1000, 800), tissue_share=0.4, has_pen=False)).pixels
    (tmp_path / "slides").mkdir()
    write_slide(tmp_path / "slides" / "small.svs", pixels[320:470, 420:570], mpp=0.5)  # tiles have 160 px
    write_slide(tmp_path / "slides" / "empty.svs", np.full((700, 900, 3), 244, np.uint8), mpp=0.5)
    new = Run.create(tmp_path / "new")
    tiled, extracted, predicted = predict(
        run.model_folder("mean"), Cohort.from_folder(tmp_path / "slides"), new
    )
    for outcome in (tiled, extracted, predicted):
        assert dict(outcome.statuses) == {"empty": "no tissue", "small": "no tile"}
    flags = new.read_table("predictions.csv").set_index("slide_id")["flags"]
    assert flags.to_dict() == {"empty": "no_tissue", "small": "no_tile"}
