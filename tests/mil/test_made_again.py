"""What was stopped, damaged or cannot be replaced: never two models' results in one, and a way on."""

import errno
import shutil
from pathlib import Path

import pytest
from bags_with_tumour import fold_models

from features import EncoderConfig
from mil import Cohort, ExtractConfig, Run, TrainConfig, evaluate, extract, predict, predictions, tile, train
from mil.calibration import Calibration
from mil.model import Recipe
from mil.report import report
from tiling import ConfigError, FormatError, GridConfig, TissueConfig, WriteError, stored_fingerprint

CONFIG = TrainConfig(learner="mix", folds=3)
DAMAGED = (b"", b"\xff\xfe{")  # emptied, and no text at all


@pytest.fixture(scope="module")
def trained(phantom_cohort, tmp_path_factory) -> Run:
    run = Run.create(tmp_path_factory.mktemp("run"))
    cohort = Cohort.from_folder(phantom_cohort / "slides", phantom_cohort / "slides.csv")
    tile(cohort, run, GridConfig(tile_px=160, max_tiles=6), TissueConfig())
    extract(run, EncoderConfig(encoder="stain-stats"), ExtractConfig())
    learn(run, 3)
    report(run)
    return run


@pytest.fixture
def run(trained, tmp_path) -> Run:
    return Run(shutil.copytree(trained.root, tmp_path / "run"))


def learn(run: Run, epochs: int) -> None:
    train(run, "stain-stats", CONFIG, {"epochs": str(epochs)})


def stopped(monkeypatch, work, after: int) -> None:
    """Do some work that is stopped while it writes the scores of a slide, `after` others."""
    real, written = predictions.save_scores, []

    def save(*args, **options):
        if len(written) == after:
            raise KeyboardInterrupt
        written.append(args)
        real(*args, **options)

    with monkeypatch.context() as stopping:
        stopping.setattr(predictions, "save_scores", save)
        with pytest.raises(KeyboardInterrupt):
            work()


def stop_here(*_) -> None:
    raise KeyboardInterrupt


def results(run: Run) -> dict[str, object]:
    scores = {path.stem: stored_fingerprint(path) for path in (run.root / "scores").glob("*.h5")}
    return scores | {"predictions": (run.root / "predictions.csv").read_bytes()}


@pytest.mark.parametrize("after", [0, 3])
def test_a_second_training_that_is_stopped_leaves_no_predictions(
    run, phantom_cohort, tmp_path, monkeypatch, after
):
    whole = Run(shutil.copytree(run.root, tmp_path / "whole"))
    learn(whole, 4)
    stopped(monkeypatch, lambda: learn(run, 4), after)
    assert not (run.root / "report" / "index.html").exists()
    with pytest.raises(FormatError, match=r"has no predictions\.csv; train or predict first"):
        evaluate(run, phantom_cohort / "truth")
    learn(run, 4)
    assert results(run) == results(whole)


def test_a_second_predict_that_is_stopped_leaves_no_predictions(run, phantom_cohort, tmp_path, monkeypatch):
    cohort, new = Cohort.from_folder(phantom_cohort / "slides"), Run(tmp_path / "new")
    first = Path(shutil.copytree(run.model_folder("mix"), tmp_path / "first"))
    learn(run, 4)
    predict(first, cohort, new)
    of_first = results(new)
    stopped(monkeypatch, lambda: predict(run.model_folder("mix"), cohort, new), 3)
    assert not (new.root / "predictions.csv").exists()
    predict(run.model_folder("mix"), cohort, new)
    of_second = results(new)
    assert not set(of_first.items()) & set(of_second.items())
    predict(first, cohort, new)
    assert results(new) == of_first


def test_a_training_that_changes_no_score_keeps_the_predictions_to_its_end(run, monkeypatch):
    before = results(run)
    with monkeypatch.context() as stopping:
        stopping.setattr("mil.training.verb.write_predictions", stop_here)
        with pytest.raises(KeyboardInterrupt):
            learn(run, 3)
    assert results(run) == before


@pytest.mark.parametrize("content", DAMAGED)
@pytest.mark.parametrize(
    "name",
    ["weights.safetensors", "config.json", "calibration.json", "novelty.safetensors", "recipe.json"],
)
def test_a_model_of_which_a_file_is_damaged_is_made_again_and_the_others_are_kept(tmp_path, name, content):
    models = fold_models(tmp_path)
    models.fitted()
    files = [path for path in sorted(tmp_path.rglob("*")) if path.is_file() and path.name != "metrics.csv"]
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}
    damaged = [models.folder(models.folds[1]), models.folder(None)]
    for folder in damaged:
        (folder / name).write_bytes(content)
        assert not models.are_there()
    models.fitted()
    assert models.are_there()
    for path, (whole, touched) in before.items():
        assert path.read_bytes() == whole
        assert path.parent in damaged or path.stat().st_mtime_ns == touched


@pytest.mark.parametrize("content", DAMAGED)
@pytest.mark.parametrize(("kind", "name"), [(Recipe, "recipe.json"), (Calibration, "calibration.json")])
def test_a_file_of_a_model_that_is_no_text_is_told(tmp_path, kind, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FormatError, match=rf"{name}: damaged .*; train again"):
        kind.load(tmp_path)


@pytest.mark.parametrize("content", [*DAMAGED, b"[1]"])
def test_a_damaged_card_is_told_and_to_train_again_writes_it_anew(run, content):
    path = run.model_folder("mix") / "card.json"
    whole = run.read_table("predictions.csv")
    path.write_bytes(content)
    with pytest.raises(FormatError, match=r"card\.json: .*; train again, which writes it anew, or remove it"):
        report(run)
    learn(run, 3)
    assert report(run).page.is_file()
    assert run.read_table("predictions.csv").equals(whole)


def locked(monkeypatch, name: str) -> None:
    """Let the system refuse to remove the files of a name; whoever tests may be allowed everything."""
    real = Path.unlink

    def unlink(path, *args, **options):
        if path.name == name:
            raise PermissionError(errno.EACCES, "Permission denied")
        real(path, *args, **options)

    monkeypatch.setattr(Path, "unlink", unlink)


@pytest.mark.parametrize("name", ["recipe.json", "index.html", "predictions.csv"])
def test_what_cannot_be_replaced_is_told_as_an_error_of_writing(run, monkeypatch, name):
    locked(monkeypatch, name)
    with pytest.raises(WriteError, match=rf"{name}: cannot be removed \(Permission denied\)"):
        learn(run, 4)


def test_a_run_that_cannot_be_written_to_is_told_before_anything_is_learned(run, monkeypatch, capsys):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(ConfigError, match=r"run: cannot be written to \(Permission denied\)"):
        learn(run, 4)
    assert "train: fold" not in capsys.readouterr().err
