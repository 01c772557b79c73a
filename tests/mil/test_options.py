"""Options in a file."""

import json

import pytest
import typer
from typer.testing import CliRunner

from features import DEFAULT_ENCODER
from mil.cli import app
from tiling import ConfigError


def config_of(tmp_path, text, verb="extract", *arguments):
    (tmp_path / "run.toml").write_text(text)
    args = [verb, str(tmp_path), *arguments, "--config", str(tmp_path / "run.toml"), "--print-config"]
    done = CliRunner().invoke(app, args)
    if isinstance(done.exception, ConfigError):
        raise done.exception
    return json.loads(done.stdout)


def test_values_are_taken_and_one_or_several_encoders(tmp_path):
    told = config_of(tmp_path, 'batch = 7\nsave_patches = true\nencoder = "stain-stats"\n')
    assert (told["batch"], told["save_patches"], told["encoder"]) == (7, True, "stain-stats")
    assert config_of(tmp_path, 'encoder = ["uni", "conch"]')["encoder"] == ["uni", "conch"]


def test_what_holds_several_values_is_a_flag_to_repeat_and_a_list_in_toml(tmp_path):
    assert config_of(tmp_path, 'format = ["png", "regions"]', "heatmap")["format"] == ["png", "regions"]
    assert config_of(tmp_path, 'format = "png"', "heatmap")["format"] == ["png"]
    assert "ome-tiff" in config_of(tmp_path, "", "heatmap")["format"]
    args = ["heatmap", str(tmp_path), "--format", "regions", "--format", "png", "--print-config"]
    assert json.loads(CliRunner().invoke(app, args).stdout)["format"] == ["regions", "png"]
    with pytest.raises(ConfigError, match="unknown heatmap format 'gif'"):
        config_of(tmp_path, 'format = ["gif"]', "heatmap")


def test_a_whole_number_is_the_number_that_a_flag_gives(tmp_path):
    told = config_of(tmp_path, "smooth_um = 60", "heatmap")["smooth_um"]
    assert (told, type(told)) == (60.0, float)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('batch = "many"', "batch is 'many'; write it as a whole number"),
        ("batch = true", "batch is True; write it as a whole number"),
        ("encoder = [1]", r"encoder is \[1\]; write it as text"),
        ('device = ["cuda:0", "cuda:1"]', r"device is \[.*\]; write it as text"),
    ],
)
def test_values_of_another_type_are_refused(tmp_path, text, told):
    with pytest.raises(ConfigError, match=rf"run.toml: {told}"):
        config_of(tmp_path, text)


def test_each_flag_of_a_command_may_stand_in_the_file(tmp_path):
    text = 'encoder = "stain-stats"\nset = ["epochs=2", "width=8"]\nstore = "packed.zarr"\nfolds = 3\n'
    told = config_of(tmp_path, text, "train")
    assert (told["encoder"], told["store"], told["folds"]) == ("stain-stats", "packed.zarr", 3)
    assert told["set"] == ["epochs=2", "width=8"]
    told = config_of(tmp_path, 'table = "slides.csv"\nmpp = 1\nset = "epochs=2"', "run", "out")
    assert (told["table"], told["mpp"], told["set"]) == ("slides.csv", 1.0, ["epochs=2"])
    with pytest.raises(ConfigError, match="mpp is 'half'; write it as a number"):
        config_of(tmp_path, 'mpp = "half"', "tile", "out")


def test_a_flag_overrides_the_file_even_by_its_default(tmp_path):
    (tmp_path / "run.toml").write_text('encoder = "stain-stats"\nset = ["epochs=2"]')
    asked = ["train", "run", "--config", str(tmp_path / "run.toml"), "--print-config"]
    told = json.loads(CliRunner().invoke(app, [*asked, "--encoder", DEFAULT_ENCODER, "--set", "a=b"]).stdout)
    assert (told["encoder"], told["set"]) == (DEFAULT_ENCODER, ["a=b"])


@pytest.mark.parametrize(
    ("verb", "text"),
    [
        ("run", 'table = "a b.csv"\nset = ["epochs=2"]\nmin_tissue = 0.5\nsave_patches = true'),
        ("train", 'encoder = "uni"\nsweep = 3'),
        ("extract", 'encoder = ["uni", "uni"]\nweights = ["", "."]'),
        ("extract", 'encoder = ["uni", "conch"]'),
        ("heatmap", 'format = ["png", "regions"]\nslide = "a"'),
        ("pretrain", 'teacher = "uni"'),
        ("pretrain", ""),
    ],
)
def test_what_is_printed_is_read_back(tmp_path, verb, text):
    arguments = ["out"] if verb in ("run", "pretrain") else []
    told = config_of(tmp_path, text, verb, *arguments)
    assert config_of(tmp_path, json.dumps(told, indent=2), verb, *arguments) == told


def test_an_empty_list_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"format is \[\]"):
        config_of(tmp_path, "format = []", "heatmap")


def test_what_is_no_file_of_options_is_refused(tmp_path):
    for text in ("batch: 7", '{"batch": 7'):
        with pytest.raises(ConfigError, match=r"run.toml: cannot be read"):
            config_of(tmp_path, text)


def test_help_names_every_option_in_full_on_a_narrow_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    verbs = typer.main.get_command(app).commands
    for name, verb in verbs.items():
        told = CliRunner().invoke(app, [name, "--help"]).stdout
        assert max(map(len, told.splitlines())) <= 80, name
        flags = [flag for p in verb.params for flag in (*p.opts, *p.secondary_opts) if flag.startswith("-")]
        assert not [flag for flag in flags if flag not in told], name
    listed = CliRunner().invoke(app, ["--help"]).stdout.partition("Commands:")[2]
    assert len(listed.splitlines()) > len(verbs) > 20
    assert "..." not in listed  # no summary is cut off
