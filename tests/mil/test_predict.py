"""In what and by what `predict` computes: as the model learned, unless another precision is asked for."""

import json
import shutil

import h5py
import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from features import EncoderConfig, load_encoder, load_features
from mil import Cohort, ExtractConfig, PredictConfig, Run, TrainConfig, extract, predict, tile, train
from tiling import ConfigError, GridConfig, SlidebagError, TissueConfig

NAME = "timm:test_vit"


@pytest.fixture(scope="module")
def folder(phantom_cohort, tmp_path_factory):
    """Weights, others, and a run with a model of features in bfloat16 with tokens."""
    folder = tmp_path_factory.mktemp("predict")
    for seed in (2, 3):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            save_file(
                timm.create_model("test_vit", num_classes=0).state_dict(), folder / f"{seed}.safetensors"
            )
    run = Run.create(folder / "run")
    cohort = Cohort.from_folder(phantom_cohort / "slides", phantom_cohort / "slides.csv")
    tile(cohort, run, GridConfig(tile_px=160, max_tiles=3), TissueConfig())
    told = EncoderConfig(
        encoder=NAME,
        weights=str(folder / "2.safetensors"),
        precision="bfloat16",
        engine="torch",
        token_side=2,
    )
    extract(run, told, ExtractConfig())
    train(run, NAME, TrainConfig(learner="mean", folds=3))
    return folder


@pytest.fixture
def go(folder, phantom_cohort, tmp_path):
    """Predict one slide; return its bag's file, of the run that is made."""
    slide = sorted((phantom_cohort / "slides").glob("*.svs"))[0]

    def go(model=folder / "run" / "models" / "mean", *, seed=2, table=None, **options):
        run, weights = Run(tmp_path / "new"), str(folder / f"{seed}.safetensors")
        cohort = Cohort.from_folder(slide, table)
        predict(model, cohort, run, config=PredictConfig(**options), weights=weights)
        return run.features_path(NAME, slide.stem)

    return go


def noted(bag):
    return json.loads((bag.parents[2] / "run.json").read_text())["steps"]["predict"]


def test_the_model_s_own_precision_is_computed_and_nothing_said_of_it(go, folder, capsys):
    bag = go(engine="torch")
    with h5py.File(bag) as file:
        assert file.attrs["precision"] == "bfloat16"
    assert "as asked for" not in capsys.readouterr().err
    assert (noted(bag)["precision"], noted(bag)["learned_in"]) == ("bfloat16", "bfloat16")
    of_training = load_features(folder / "run" / "features" / "timm_test_vit" / bag.name)
    np.testing.assert_array_equal(of_training.features, load_features(bag).features)


def test_tokens_that_no_model_reads_are_not_computed(go, folder):
    with h5py.File(folder / "run" / "features" / "timm_test_vit" / go().name) as file:
        assert "tokens" in file
    with h5py.File(go()) as file:
        assert "tokens" not in file


def test_another_precision_is_said_stored_and_close(go, folder, capsys):
    bag = go(precision="float32", engine="torch")
    assert "features in float32, as asked for; the model learned from bfloat16" in capsys.readouterr().err
    with h5py.File(bag) as file:
        assert (file.attrs["precision"], file.attrs["engine"]) == ("float32", "torch")
    told = noted(bag)
    assert (told["precision"], told["learned_in"], told["engine"]) == ("float32", "bfloat16", "torch")
    exact, own = load_features(bag), load_features(folder / "run" / "features" / "timm_test_vit" / bag.name)
    assert exact.encoder_fingerprint != own.encoder_fingerprint
    np.testing.assert_allclose(exact.features, own.features, atol=0.1)


@pytest.mark.parametrize("precision", ["", "float32"])
def test_other_weights_are_refused_in_any_precision(go, precision):
    with pytest.raises(SlidebagError, match="give the weights it was trained on"):
        go(seed=3, precision=precision, engine="torch")


def test_a_model_of_a_precision_that_is_not_here_needs_another_one_asked_for(go, folder, tmp_path):
    model = shutil.copytree(folder / "run" / "models" / "mean", tmp_path / "model")
    recipe = json.loads((model / "recipe.json").read_text())
    weights = str(folder / "2.safetensors")
    encoder = load_encoder(EncoderConfig(encoder=NAME, weights=weights, precision="float32", engine="torch"))
    recipe["preparation"]["encoder"]["precision"] = "float16"  # as on a GPU
    recipe["encoder_fingerprint"] = encoder.fingerprint_in("float16")
    (model / "recipe.json").write_text(json.dumps(recipe))
    with pytest.raises(ConfigError, match=r"torch does not compute float16 on cpu.*--precision from float32"):
        go(model, engine="torch", device="cpu")
    with h5py.File(go(model, precision="float32", engine="torch", device="cpu")) as file:
        assert file.attrs["precision"] == "float32"


def test_a_stained_encoder_is_known_in_any_precision(folder):
    told = {"encoder": NAME, "weights": str(folder / "2.safetensors"), "engine": "torch", "stain": "macenko"}
    exact, short = (
        load_encoder(EncoderConfig(**told, precision=precision)) for precision in ("float32", "bfloat16")
    )
    assert exact.fingerprint != short.fingerprint
    assert exact.fingerprint_in("bfloat16") == short.fingerprint
    assert short.fingerprint_in("float32") == exact.fingerprint


@pytest.mark.parametrize(
    ("label", "told"),
    [
        ("normal", ""),
        ("", ""),
        ("tumor", "1 slide has a label that the model does not know (tumor; it knows normal, tumour)"),
        ("tumour;x", "1 slide has a label that the model does not know (x; it knows normal, tumour)"),
    ],
)
def test_labels_that_the_model_does_not_know_are_told(go, phantom_cohort, tmp_path, capsys, label, told):
    slide = sorted((phantom_cohort / "slides").glob("*.svs"))[0]
    (tmp_path / "new.csv").write_text(f"slide,label\n{slide.stem},{label}\n")
    go(table=tmp_path / "new.csv", engine="torch")
    said = capsys.readouterr().err
    assert told in said
    assert ("does not know" in said) == bool(told)


@pytest.mark.parametrize("trace", ["models", "run.json"])
def test_a_run_that_was_trained_in_is_refused_and_no_folder_made_for_a_bad_model(go, folder, tmp_path, trace):
    with pytest.raises(SlidebagError):
        go(folder)
    assert not (tmp_path / "new").exists()
    if trace == "models":
        (tmp_path / "new" / "models").mkdir(parents=True)
    else:
        (tmp_path / "new").mkdir()
        shutil.copy(folder / "run" / "run.json", tmp_path / "new")
    with pytest.raises(ConfigError, match="a training took place there"):
        go(engine="torch")
