"""Options in a TOML file."""

import json

import pytest
from typer.testing import CliRunner

from mil.cli import app
from tiling import ConfigError


def config_of(tmp_path, text, verb="extract"):
    (tmp_path / "run.toml").write_text(text)
    args = [verb, str(tmp_path), "--config", str(tmp_path / "run.toml"), "--print-config"]
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
