"""`slidebag info`: what it says of slides that cannot be used, and its exit code."""

import shutil

import pytest
import tifffile
from typer.testing import CliRunner

from mil.cli.app import app


def info(*paths):
    said = CliRunner().invoke(app, ["info", *map(str, paths)])
    return said.exit_code, " ".join(said.output.split())


def test_a_slide_is_read_from_before_it_is_called_usable(phantom, tmp_path):
    path = tmp_path / "broken.svs"
    shutil.copy(phantom.path, path)
    assert info(path)[0] == 0
    with tifffile.TiffFile(path) as tiff, path.open("r+b") as file:
        page = tiff.series[0].levels[-1].keyframe
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
            file.seek(offset)
            file.write(bytes(count))
    code, told = info(path)
    assert code == 1
    assert "broken: cannot be read at" in told
    assert "µm/px" in told


@pytest.mark.data
def test_an_unreadable_slide_is_described_and_told(data_dir):
    code, told = info(data_dir / "slides" / "unreadable.svs")
    assert code == 1
    assert "16 × 16 px" in told
    assert "unreadable: cannot be read at (0, 0), level 0" in told
    assert "copy the file again" in told


def test_a_folder_and_no_file_at_all_are_told_as_such(phantom, tmp_path):
    code, told = info(tmp_path, tmp_path / "none.svs", phantom.path)
    assert code == 1
    assert f"{tmp_path}: is a folder; name the slide files in it" in told
    assert "none.svs: no such file; check how its path is written" in told
    assert "slide table" not in told
    assert "µm/px" in told
