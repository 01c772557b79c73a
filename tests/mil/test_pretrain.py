"""The verb `pretrain` by the command line, and what it writes in the other verbs."""

import json
from contextlib import contextmanager

import pytest
from drawn_tiles import write_tiles
from typer.testing import CliRunner

from features import PretrainConfig, load_features
from mil import Cohort, PredictConfig, Run, TrainConfig, predict, tile, train
from mil.cli import app
from mil.pretrain import pretrain
from tiling import ConfigError, GridConfig, TissueConfig

TINY = {
    "width": 16, "depth": 1, "heads": 2, "token_px": 8, "input_px": 32, "local_px": 16, "local_crops": 1,
    "batch": 8, "epochs": 1, "prototypes": 32, "held_out": 0.2, "device": "cpu",
}  # fmt: skip


def slidebag(*args):
    done = CliRunner().invoke(app, [str(a) for a in args])
    assert done.exit_code == 0, done.output + str(done.exception)
    return done.output


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An encoder that the command has made."""
    folder = tmp_path_factory.mktemp("pretrain")
    write_tiles(folder / "tiles", 15)
    (folder / "tiny.toml").write_text("".join(f"{name} = {json.dumps(v)}\n" for name, v in TINY.items()))
    said = slidebag(
        "pretrain", folder / "tiles", folder / "mine", "--config", folder / "tiny.toml", "--seed", 2
    )
    assert "held out" in said
    assert "--encoder" in said
    return folder


def test_the_card_tells_command_and_options(folder):
    recipe = json.loads((folder / "mine" / "card.json").read_text())["recipe"]
    assert recipe["config"] | TINY | {"teacher": [], "teacher_weights": []} == recipe["config"]
    assert recipe["config"]["seed"] == 2
    assert recipe["command"]
    told = [*recipe["command"], *map(str, recipe["config"].values())]
    assert not any(str(folder.parent) in each for each in told)  # the card goes to others
    assert recipe["versions"]["lightly"]


def test_options_are_those_of_the_config(folder):
    told = slidebag(
        "pretrain", "tiles", "out", "--config", folder / "tiny.toml", "--stain", "0.5", "--print-config"
    )
    assert json.loads(told)["stain"] == 0.5
    told = slidebag("pretrain", "tiles", "out", "--teacher", "uni", "--print-config")
    assert json.loads(told)["teacher"] == ["uni"]


def test_first_views_and_training_have_a_bar_each(folder, monkeypatch):
    told = []

    @contextmanager
    def bar(title, total, *, unit, done):
        left = total - done

        def advance(name, n):
            nonlocal left
            left -= n

        yield advance
        told.append((title, total, left))

    monkeypatch.setattr("mil.pretrain.progress", bar)
    own = {"teacher": ("stain-stats",), "epochs": 3, "teacher_views": 2}
    of_self = ("local_px", "local_crops", "prototypes")
    config = PretrainConfig(**{name: TINY[name] for name in TINY if name not in of_self} | own)
    done = pretrain([folder / "tiles"], folder / "taught", config)
    in_batches = done.n_tiles // 8 * 8
    assert told == [("first views", 2 * in_batches, 0), ("pretrain", 3 * in_batches, 0)]


def test_without_lightly_it_says_what_to_install(folder, monkeypatch):
    monkeypatch.setattr("features.pretraining.verb.find_spec", lambda name: None)
    done = CliRunner().invoke(app, ["pretrain", str(folder / "tiles"), str(folder / "other")])
    assert isinstance(done.exception, ConfigError)
    assert 'pip install "slidebag[pretrain]"' in str(done.exception)


def test_extract_and_predict_take_the_folder_by_its_path(folder, phantom_cohort, tmp_path, monkeypatch):
    run = Run.create(tmp_path / "run")
    cohort = Cohort.from_folder(phantom_cohort / "slides", phantom_cohort / "slides.csv")
    tile(cohort, run, GridConfig(tile_px=160, max_tiles=3), TissueConfig())
    monkeypatch.chdir(folder)
    slidebag("extract", run.root, "--encoder", "./mine")
    bags = sorted((run.root / "features" / "mine").glob("*.h5"))
    assert len(bags) == 8
    assert load_features(bags[0]).encoder == str(folder / "mine")
    train(run, "./mine", TrainConfig(learner="mean", folds=3))
    model = run.root / "models" / "mean"
    card = json.loads((model / "card.json").read_text())
    assert card["encoder"]["dim"] == 16
    monkeypatch.chdir(tmp_path)  # where there is no ./mine
    slide = sorted((phantom_cohort / "slides").glob("*.svs"))[0]
    predict(model, Cohort.from_folder(slide), Run.create(tmp_path / "new"), config=PredictConfig())
    found = load_features(tmp_path / "new" / "features" / "mine" / f"{slide.stem}.h5")
    assert found.encoder_fingerprint == load_features(bags[0]).encoder_fingerprint
