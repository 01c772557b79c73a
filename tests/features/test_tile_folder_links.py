"""Folders of pictures that are made of links."""

import os

import pytest
from PIL import Image

from features import TileFolder
from tiling import FormatError


def pictures(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6), (200, 100, 150)).save(folder / name)
    return folder


def linked(link, target):
    link.parent.mkdir(parents=True, exist_ok=True)
    try:
        link.symlink_to(target)
    except OSError:
        pytest.skip("no links here")


def test_linked_class_folders_and_pictures_are_as_real_ones(tmp_path):
    pictures(tmp_path / "far/of_tumour", "1.png", "deep/2.png", ".hidden.png")
    pictures(tmp_path / "far", "lone.png")
    pictures(tmp_path / "tiles", "healthy/0.png")
    linked(tmp_path / "tiles/tumour", tmp_path / "far/of_tumour")
    linked(tmp_path / "tiles/healthy/3.png", tmp_path / "far/lone.png")
    found = TileFolder.open(tmp_path / "tiles")
    assert found.names == ("healthy/0.png", "healthy/3.png", "tumour/1.png", "tumour/deep/2.png")
    assert found.labels == ("healthy", "healthy", "tumour", "tumour")
    assert [found.read(row).shape for row in range(4)] == [(6, 8, 3)] * 4
    linked(tmp_path / "only/tumour", tmp_path / "far/of_tumour")
    assert TileFolder.open(tmp_path / "only").names == ("tumour/1.png", "tumour/deep/2.png")


def test_no_folder_is_looked_through_twice(tmp_path):
    tiles = pictures(tmp_path / "tiles", "b/1.png", "b/deep/2.png")
    linked(tiles / "a", tiles / "b")  # that real folder is met anyway
    linked(tiles / "b/deep/up", tiles)
    linked(tiles / "b/me", tiles / "b/me")
    far = pictures(tmp_path / "far", "3.png")
    linked(far / "back", tiles)
    linked(tiles / "c", far)
    linked(tiles / "d", far)
    assert TileFolder.open(tiles).names == ("b/1.png", "b/deep/2.png", "c/3.png")


def test_a_picture_that_a_link_no_longer_leads_to_is_broken_and_named(tmp_path):
    linked(pictures(tmp_path, "a/1.png") / "a/2.png", tmp_path / "gone.png")
    checked = TileFolder.open(tmp_path).checked()
    assert checked.tiles.names == ("a/1.png",)
    assert checked.broken == {"a/2.png": "No such file or directory"}


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root reads everything")
@pytest.mark.parametrize(("mode", "what"), [(0o000, "a"), (0o600, "a/1.png")])  # 0o600: it can only be listed
def test_a_folder_that_cannot_be_read_is_an_error(tmp_path, mode, what):
    pictures(tmp_path, "a/1.png", "b/2.png")
    (tmp_path / "a").chmod(mode)
    try:
        with pytest.raises(FormatError, match=f"{what}: cannot be read .*; check permissions"):
            TileFolder.open(tmp_path)
    finally:
        (tmp_path / "a").chmod(0o755)
