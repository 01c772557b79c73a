import pytest
from PIL import Image

from tiling import picture_fingerprint, write_picture


def test_a_picture_says_what_it_was_made_from(tmp_path):
    picture = Image.new("RGB", (20, 10), (200, 30, 40))
    write_picture(tmp_path / "ward" / "a.png", picture, fingerprint="abc", about='žluť \udcff "a"')
    assert picture_fingerprint(tmp_path / "ward" / "a.png") == "abc"
    with Image.open(tmp_path / "ward" / "a.png") as found:
        assert (found.size, found.getpixel((5, 5))) == ((20, 10), (200, 30, 40))


def test_what_is_no_such_picture_has_none(tmp_path):
    assert picture_fingerprint(tmp_path / "absent.png") is None
    (tmp_path / "text.png").write_text("no picture")
    assert picture_fingerprint(tmp_path / "text.png") is None
    Image.new("RGB", (3, 3)).save(tmp_path / "other.png")
    assert picture_fingerprint(tmp_path / "other.png") is None


def test_a_failed_write_leaves_nothing(tmp_path):
    class Broken:
        def save(self, path, **_):
            path.write_bytes(b"half")
            raise OSError("disk is full")

    with pytest.raises(OSError, match="full"):
        write_picture(tmp_path / "a.png", Broken(), fingerprint="abc", about="a")  # pyright: ignore
    assert list(tmp_path.iterdir()) == []
