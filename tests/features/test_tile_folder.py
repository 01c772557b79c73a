"""Pictures whose pixels are known, whole and broken."""

import numpy as np
import pytest
from PIL import Image

from features import TileFolder, as_patch
from tiling import ConfigError, FormatError


def picture(path, colour=(200, 100, 150), size=(8, 6), mode="RGB", **how):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path, **how)
    return path


def table(path, *lines):
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_folder_is_labelled_by_its_subfolders(tmp_path):
    for name in ("b/2.png", "a/1.jpg", "a/deep/0.tif", "loose.png", "a/.hidden.png", ".git/x.png"):
        picture(tmp_path / name)
    (tmp_path / "a/notes.txt").write_text("no picture")
    found = TileFolder.open(tmp_path)
    assert found.names == ("a/1.jpg", "a/deep/0.tif", "b/2.png", "loose.png")
    assert found.labels == ("a", "a", "b", "")
    assert set(found.groups) == set(found.batches) == {""}
    assert repr(found).startswith("TileFolder(4 pictures, 3 labels, ")


def test_a_table_says_what_is_known_in_any_order_of_rows(tmp_path):
    rows = ["b.png,y,p2,lyon", "a.png,x,p1,kyiv", " c.png ,,p1,kyiv"]
    told = [
        TileFolder.open(table(tmp_path / "t.csv", "file,label,patient,site", *lines))
        for lines in (rows, rows[::-1])
    ]
    assert told[0] == told[1]
    assert told[0].names == ("a.png", "b.png", "c.png")
    assert told[0].labels == ("x", "y", "")
    assert told[0].groups == ("p1", "p2", "p1")
    assert told[0].batches == ("kyiv", "lyon", "kyiv")


def test_columns_are_chosen_by_name_where_several_could_be_meant(tmp_path):
    path = table(tmp_path / "t.csv", "path,class,patient,block,site,scanner", "a.png,x,p,b,s,c")
    with pytest.raises(ConfigError, match=r"site, scanner could each be the batch; .*--batch-column"):
        TileFolder.open(path)
    found = TileFolder.open(path, group_column="block", batch_column="scanner")
    assert (found.groups, found.batches) == (("b",), ("c",))
    with pytest.raises(ConfigError, match="no column 'slide', its columns are path, class"):
        TileFolder.open(path, group_column="slide")


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (["label", "x"], "no column 'file'"),
        (["file,label", "a.png,x", "./a.png,y"], "names a.png 2 times"),
        (["file,label,patient", "a.png,x,p", "b.png,x,"], "patient is empty in 1 of 2 rows"),
        (["file,label", ",x"], "file is empty in 1 of 1 rows"),
        (["file,label"], "holds no picture"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path, lines, why):
    with pytest.raises(FormatError, match=why):
        TileFolder.open(table(tmp_path / "t.csv", *lines))


def test_what_is_no_folder_and_no_table_is_refused(tmp_path):
    with pytest.raises(FormatError, match="cannot be read as CSV"):
        TileFolder.open(tmp_path / "nothing")
    with pytest.raises(FormatError, match="cannot be read as CSV"):
        TileFolder.open(picture(tmp_path / "one.png"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(FormatError, match="holds no picture; give PNG"):
        TileFolder.open(tmp_path / "empty")


def test_pixels_are_rgb_over_white(tmp_path):
    picture(tmp_path / "0.png")
    picture(tmp_path / "1.png", 90, mode="L")
    picture(tmp_path / "2.png", (10, 20, 30, 0), mode="RGBA")
    found = TileFolder.open(tmp_path)
    assert [found.read(row)[0, 0].tolist() for row in range(3)] == [[200, 100, 150], [90] * 3, [255] * 3]
    assert found.read(0).shape == (6, 8, 3)
    assert found.read(0).dtype == np.uint8


def test_broken_pictures_are_named_and_the_others_are_whole(tmp_path):
    whole = picture(tmp_path / "a.png", size=(60, 70)).read_bytes()
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (50, 50, 3), np.uint8)).save(tmp_path / "b.png")
    (tmp_path / "c.png").write_bytes((tmp_path / "b.png").read_bytes()[:900])
    (tmp_path / "d.png").write_bytes(b"")
    (tmp_path / "e.jpg").write_text("<html>")
    Image.fromarray(rng.integers(0, 60000, (9, 9)).astype(np.uint16)).save(tmp_path / "f.png")
    (tmp_path / "g.png").write_bytes(whole)
    rows = [f"{name}.png,x" for name in "gfdcba"]
    found = TileFolder.open(table(tmp_path / "t.csv", "file,label", *rows, "e.jpg,x", "gone.png,x"))
    calls = []
    checked = found.checked(lambda: calls.append(1))
    assert checked.tiles.names == ("a.png", "b.png", "g.png")
    assert checked.sides_px.tolist() == [60, 50, 60]
    assert checked.side_px == 60
    assert checked.digests[0] == checked.digests[2] != checked.digests[1]
    assert list(checked.broken) == ["c.png", "d.png", "e.jpg", "f.png", "gone.png"]
    assert checked.broken["f.png"] == "has more than 8 bits a channel"
    assert checked.broken["gone.png"] == "No such file or directory"
    assert all(str(tmp_path) not in why and "0x" not in why for why in checked.broken.values())
    assert len(calls) == 8
    with pytest.raises(FormatError, match=r"d\.png: "):
        found.read(3)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # it tells of tags that it skips
def test_a_damaged_picture_never_raises_anything_else(tmp_path):
    rng = np.random.default_rng(1)
    image = Image.fromarray(rng.integers(0, 256, (20, 20, 3), np.uint8))
    for suffix in ("png", "jpg", "tif", "bmp", "webp"):
        image.save(tmp_path / f"whole.{suffix}")
        content = np.frombuffer((tmp_path / f"whole.{suffix}").read_bytes(), np.uint8)
        for k in range(25):
            hit = content.copy()
            hit[rng.integers(0, min(200, len(hit)), 6)] = rng.integers(0, 256, 6)
            hit[: rng.integers(20, len(hit))].tofile(tmp_path / f"{k}.{suffix}")
    checked = TileFolder.open(tmp_path).checked()
    assert len(checked.tiles) + len(checked.broken) == 130
    assert len(checked.broken) > 100


def test_patches_are_the_square_middle_at_the_asked_side(tmp_path):
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:, 10:50] = 250
    for name in "abcde":
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    batches = list(TileFolder.open(tmp_path).patches(20, 2))
    assert [batch.shape for batch in batches] == [(2, 20, 20, 3), (2, 20, 20, 3), (1, 20, 20, 3)]
    assert all((batch == 250).all() for batch in batches)
    assert (as_patch(pixels, 40) == 250).all()
    assert as_patch(pixels, 90).shape == (90, 90, 3)
