import os
import shutil
import subprocess
import sys

import numpy as np
import openslide
import pytest
import tifffile
from PIL import Image

from tiling import ResolutionError, Slide, SlideError, open_slide, write_slide


@pytest.fixture(scope="module")
def pixels():
    y, x = np.mgrid[0:600, 0:900]
    planes = [128 + 100 * np.sin(x / 60), 128 + 100 * np.cos(y / 50), 128 + 100 * np.sin((x + y) / 80)]
    return np.stack(planes, axis=2).astype(np.uint8)


@pytest.fixture(scope="module")
def stated(tmp_path_factory, pixels):
    path = tmp_path_factory.mktemp("slide") / "stated.svs"
    write_slide(path, pixels, mpp=0.5)
    return path


@pytest.fixture(scope="module")
def unstated(tmp_path_factory, pixels):
    path = tmp_path_factory.mktemp("slide") / "unstated.svs"
    write_slide(path, pixels, mpp=None)
    return path


def told_by(path, properties=None, **options):
    """The resolution of a slide whose file states nothing but `properties`."""
    with open_slide(path, **options) as slide:
        slide.properties = dict(slide.properties) | (properties or {})
        return slide.resolution.mpp, slide.resolution.source


TAGS = {"tiff.ResolutionUnit": "centimeter", "tiff.XResolution": "40000", "tiff.YResolution": "40000"}
METADATA = {"openslide.mpp-x": "0.4", "openslide.mpp-y": "0.4"}


def test_the_table_comes_before_the_file_and_the_file_before_the_flag(unstated):
    everything = METADATA | TAGS
    assert told_by(unstated, everything, mpp=0.3, fallback_mpp=0.6) == (0.3, "slide table")
    assert told_by(unstated, everything, fallback_mpp=0.6) == (0.4, "openslide.mpp-x")
    assert told_by(unstated, TAGS, fallback_mpp=0.6) == (0.25, "tiff.XResolution")
    assert told_by(unstated, fallback_mpp=0.6) == (0.6, "--mpp")


def test_the_files_own_resolution_is_exact(stated, tmp_path, pixels):
    assert told_by(stated) == (0.5, "openslide.mpp-x")
    write_slide(tmp_path / "a.svs", pixels, mpp=0.26281234567891)
    with open_slide(tmp_path / "a.svs") as slide:
        assert slide.mpp == pytest.approx(0.26281234567891, rel=1e-14)


def test_tags_in_inches_are_understood(unstated):
    tags = {"tiff.ResolutionUnit": "inch", "tiff.XResolution": "50800", "tiff.YResolution": "50800"}
    assert told_by(unstated, tags) == (0.5, "tiff.XResolution")


@pytest.mark.parametrize(
    "useless",
    [
        {"tiff.ResolutionUnit": "none", "tiff.XResolution": "1", "tiff.YResolution": "1"},
        {"tiff.ResolutionUnit": "inch", "tiff.XResolution": "0", "tiff.YResolution": "0"},
        {"tiff.ResolutionUnit": "inch", "tiff.XResolution": "96", "tiff.YResolution": "96"},
        {"openslide.mpp-x": "0.5"},
        {"openslide.mpp-x": "0.5", "openslide.mpp-y": "0.6"},
        {"openslide.mpp-x": "0.00499", "openslide.mpp-y": "0.00499"},
        {"openslide.mpp-x": "352.8", "openslide.mpp-y": "352.8"},
    ],
)
def test_what_is_not_worth_believing_is_passed_over(unstated, useless):
    assert told_by(unstated, useless, fallback_mpp=0.6) == (0.6, "--mpp")
    with pytest.raises(ResolutionError):
        told_by(unstated, useless)


def test_nearly_square_pixels_count_as_their_mean(unstated):
    assert told_by(unstated, {"openslide.mpp-x": "0.5", "openslide.mpp-y": "0.504"})[0] == pytest.approx(
        0.502
    )


def test_a_missing_resolution_tells_the_three_ways_out(unstated):
    with open_slide(unstated, id="ward/a") as slide, pytest.raises(ResolutionError) as caught:
        _ = slide.mpp
    told = str(caught.value)
    assert "ward/a" in told
    assert all(way in told for way in ("metadata", "column 'mpp'", "--mpp"))


@pytest.mark.parametrize("mpp", [0.00499, 0.0499, 20.01, 353])
def test_an_implausible_resolution_is_named(unstated, mpp):
    with open_slide(unstated, fallback_mpp=mpp) as slide, pytest.raises(ResolutionError) as caught:
        _ = slide.mpp
    told = str(caught.value)
    assert f"{mpp:.5g} µm/px" in told
    assert "0.05 to 20" in told
    assert all(way in told for way in ("metadata", "column 'mpp'", "--mpp"))


@pytest.mark.parametrize("mpp", [0.05, 20, np.float32(0.25)])
def test_the_bounds_are_plausible_and_any_number_is_kept_as_float(unstated, mpp):
    with open_slide(unstated, mpp=mpp) as slide:
        assert slide.mpp == mpp
        assert (
            type(slide.mpp) is float
        )  # a whole number would change the grid's fingerprint on its way to disk


def test_a_file_that_is_not_there_or_no_slide_is_refused(tmp_path):
    with pytest.raises(SlideError, match=r"none\.svs: no such file"):
        open_slide(tmp_path / "none.svs")
    (tmp_path / "a.svs").write_text("slide_id,label\n")
    with pytest.raises(SlideError, match=r"cannot be opened.*a\.svs"):
        open_slide(tmp_path / "a.svs", id="a")
    with pytest.raises(SlideError, match="is a folder; name the slide files in it"):
        open_slide(tmp_path)


def test_a_slide_is_named_after_its_file_if_not_otherwise(stated):
    with open_slide(str(stated)) as slide:
        assert slide.id == "stated"
        assert slide.path == stated
        assert "900 × 600 px" in repr(slide)
    with open_slide(stated, id="ward/7") as slide:
        assert slide.id == "ward/7"


def test_what_lies_beyond_the_border_is_white(stated):
    with open_slide(stated) as slide:
        over = slide.read(-40, -30, 0, (100, 100))
        inside = slide.read(0, 0, 0, (60, 70))
        beyond = slide.read(880, 590, 0, (50, 50))
    assert (over[:30] == 255).all()
    assert (over[:, :40] == 255).all()
    np.testing.assert_array_equal(over[30:, 40:], inside)
    assert (beyond[10:] == 255).all()
    assert (beyond[:, 20:] == 255).all()
    assert beyond[:10, :20].mean() < 240


def test_a_background_that_the_file_states_is_kept(stated, monkeypatch):
    class Black(openslide.OpenSlide):
        @property
        def properties(self):
            return {**super().properties, "openslide.background-color": "000000"}

    monkeypatch.setattr(openslide, "OpenSlide", Black)
    with open_slide(stated) as slide:
        assert not slide.read(-50, -50, 0, (40, 40)).any()


def test_reads_are_the_pixels_at_their_place(stated, pixels):
    with open_slide(stated) as slide:
        region = slide.read(321, 123, 0, (200, 150))
        small = slide.read(400, 200, 1, (50, 40))
    assert region.shape == (150, 200, 3)
    assert region.dtype == np.uint8
    assert np.abs(region.astype(int) - pixels[123:273, 321:521]).mean() < 2
    mean = pixels[200:360, 400:600].reshape(40, 4, 50, 4, 3).mean(axis=(1, 3))
    assert np.abs(small - mean).mean() < 3


@pytest.mark.parametrize(("level", "size_px"), [(-1, (10, 10)), (2, (10, 10)), (0, (0, 10)), (0, (10, -1))])
def test_what_cannot_be_read_is_refused(stated, level, size_px):
    with open_slide(stated) as slide, pytest.raises(ValueError, match="stated"):
        slide.read(0, 0, level, size_px)


def test_a_thumbnail_is_whole_and_as_fine_as_asked(stated):
    with open_slide(stated) as slide:
        assert slide.downsamples == pytest.approx((1, 4))
        assert slide.thumbnail(2.0).shape == (150, 225, 3)
        assert slide.thumbnail(8.0).shape == (150, 225, 3)  # a quarter would hang over the border
        assert slide.thumbnail(1.9).shape == (300, 450, 3)
        assert slide.thumbnail(0.1).shape == (600, 900, 3)


def test_fingerprint_follows_the_files_content_and_time(stated, tmp_path):
    one, two = tmp_path / "one.svs", tmp_path / "two.svs"
    for path in (one, two):
        shutil.copy2(stated, path)

    def told(path):
        with open_slide(path) as slide:
            return slide.fingerprint

    first = told(one)
    assert first == told(one) == told(two)  # a moved file is the same slide
    os.utime(two, (1, 1))
    assert told(two) != first
    stat = one.stat()
    with one.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)[0]
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last ^ 1]))
    os.utime(one, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert told(one) != first


@pytest.fixture
def broken(stated, tmp_path):
    """A slide whose second 256 px tile holds zeros instead of a picture."""
    path = tmp_path / "broken.svs"
    shutil.copy(stated, path)
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        offset, count = page.dataoffsets[1], page.databytecounts[1]
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(bytes(count))
    return path


def test_a_broken_place_is_told_and_the_rest_still_reads(broken, stated):
    with open_slide(broken) as slide, open_slide(stated) as whole:
        for _ in range(2):
            with pytest.raises(
                SlideError, match=r"broken: cannot be read at \(300, 0\), level 0.*copy the file"
            ):
                slide.read(300, 0, 0, (100, 100))
            for x, y, level in [(0, 0, 0), (600, 300, 0), (0, 0, 1)]:
                np.testing.assert_array_equal(
                    slide.read(x, y, level, (90, 90)), whole.read(x, y, level, (90, 90))
                )


def test_a_file_lost_while_open_fails_as_a_slide_again_and_again(broken):
    with open_slide(broken) as slide:
        broken.write_bytes(b"")
        for _ in range(3):
            with pytest.raises(SlideError, match="broken"):
                slide.read(0, 0, 0, (900, 600))  # more than was read when it was opened


def test_closing_a_slide_lets_go_of_the_file(stated):
    with open_slide(stated) as slide:
        assert isinstance(slide, Slide)
    with pytest.raises(Exception):  # noqa: B017, PT011  whatever the reader says of a closed handle
        slide.read(0, 0, 0, (9, 9))


@pytest.mark.data
class TestRealSlides:
    def test_a_scanners_own_resolution(self, data_dir):
        with open_slide(data_dir / "slides" / "CMU-1-Small-Region.svs") as slide:
            assert (slide.mpp, slide.resolution.source) == (0.499, "openslide.mpp-x")
            assert slide.size_px == (2220, 2967)
        with open_slide(data_dir / "slides" / "test3-DAPI-2-387.ndpi") as slide:
            assert slide.mpp == pytest.approx(0.2282, rel=1e-3)
            assert len(slide.level_sizes_px) == 7

    @pytest.mark.parametrize(
        ("name", "found"),
        [
            ("CMU-1-Small-Region.jpeg.tiff", "0.00499"),
            ("boxes.tiff", "352.78"),
            ("tcga-cr-7395-01a-01-ts1.svs", "states no resolution"),
            ("C3L-00601-26_from_dzi.tif", "states no resolution"),
        ],
    )
    def test_traps_are_refused_until_told_better(self, data_dir, name, found):
        path = data_dir / "slides" / name
        with open_slide(path) as slide, pytest.raises(ResolutionError, match=found):
            _ = slide.mpp
        with open_slide(path, fallback_mpp=0.499) as slide:
            assert (slide.mpp, slide.resolution.source) == (0.499, "--mpp")

    def test_an_unreadable_slide_says_so(self, data_dir):
        with open_slide(data_dir / "slides" / "unreadable.svs") as slide:
            for _ in range(2):
                with pytest.raises(SlideError, match="unreadable: cannot be read"):
                    slide.read(0, 0, 0, (16, 16))


SHOWN = {"x": 40, "y": 30, "width": 8, "height": 9}
BOUNDS = {f"openslide.bounds-{name}": str(value) for name, value in SHOWN.items()}


@pytest.mark.parametrize(
    ("properties", "corner"),
    [
        ({}, (0, 0)),
        (BOUNDS, (40, 30)),
        ({k: v for k, v in BOUNDS.items() if not k.endswith("height")}, (0, 0)),  # QuPath wants all four
        (BOUNDS | {"openslide.bounds-x": "40.5"}, (0, 0)),
    ],
)
def test_qupath_counts_from_the_bounds_that_openslide_tells(stated, properties, corner):
    with open_slide(stated) as slide:
        slide.properties = dict(slide.properties) | properties
        assert slide.shown_from_px == corner


@pytest.mark.parametrize(
    ("suffix", "reader"), [(".tif", "tiled-tiff"), (".tiff", "tiled-tiff"), (".ndpi", "openslide")]
)
def test_a_slide_of_another_suffix_is_read_all_the_same(stated, tmp_path, suffix, reader):
    shutil.copy2(stated, tmp_path / f"a{suffix}")
    with open_slide(stated) as right, open_slide(tmp_path / f"a{suffix}") as slide:
        assert slide.reader == reader
        assert slide.mpp == 0.5
        assert slide.level_sizes_px == right.level_sizes_px
        np.testing.assert_array_equal(slide.read(0, 0, 0, (900, 600)), right.read(0, 0, 0, (900, 600)))


def test_a_picture_that_calls_itself_a_slide_is_refused(tmp_path, pixels):
    Image.fromarray(pixels).save(tmp_path / "a.svs", format="PNG")
    with pytest.raises(SlideError, match=r"a: cannot be opened.*a\.svs is a complete slide file"):
        open_slide(tmp_path / "a.svs")


def test_tiles_without_their_tables_are_told(stated, tmp_path):
    content = stated.read_bytes()
    # what held tables is now a segment that decoders pass over
    (tmp_path / "a.svs").write_bytes(
        content.replace(b"\xff\xdb", b"\xff\xe5").replace(b"\xff\xc4", b"\xff\xe6")
    )
    with pytest.raises(SlideError, match="a: "), open_slide(tmp_path / "a.svs") as slide:
        slide.read(0, 0, 0, (256, 256))


def test_a_corrupt_tile_costs_itself_and_not_its_neighbours(stated, tmp_path):
    path = tmp_path / "a.svs"
    shutil.copy2(stated, path)
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        side, columns = page.tilewidth, -(-page.imagewidth // page.tilewidth)
        middle = columns + 1  # the second of the second row
        start, n_bytes = page.dataoffsets[middle], page.databytecounts[middle]
    content = bytearray(path.read_bytes())
    content[start : start + n_bytes] = bytes(n_bytes)
    path.write_bytes(content)
    corners = np.array([[x, y] for y in (0, side) for x in (0, side, 2 * side)])
    with open_slide(stated) as right, open_slide(path) as slide:
        out, whole = (np.zeros((6, side, side, 3), np.uint8) for _ in range(2))
        assert slide.read_batch(corners, 0, out).tolist() == [False, False, False, False, True, False]
        assert not right.read_batch(corners, 0, whole).any()
        np.testing.assert_array_equal(out[[0, 1, 2, 3, 5]], whole[[0, 1, 2, 3, 5]])


@pytest.mark.parametrize("absurd", ["1e300", "-0.5", "nan", "0.0", "inf", "1e-9", "half"])
def test_an_absurd_resolution_in_the_file_is_not_believed(stated, tmp_path, absurd):
    content = stated.read_bytes()
    assert b"MPP = 0.5" in content
    path = tmp_path / "a.svs"
    with tifffile.TiffFile(stated) as file:
        told = file.pages[0].description
    shutil.copy2(stated, path)
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages[0].tags["ImageDescription"].overwrite(told.replace("MPP = 0.5", f"MPP = {absurd}"))
    with open_slide(path) as slide, pytest.raises(ResolutionError, match="a: "):
        _ = slide.mpp
    with open_slide(path, fallback_mpp=0.25) as slide:
        assert (slide.mpp, slide.resolution.source) == (0.25, "--mpp")


def test_a_slide_that_is_cut_short_is_told_by_us_alone(stated, tmp_path):
    (tmp_path / "a.svs").write_bytes(stated.read_bytes()[:9000])
    code = "import sys, tiling\ntry: tiling.open_slide(sys.argv[1])\nexcept tiling.SlideError as e: print(e)"
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "a.svs"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("a: cannot be opened")
    assert done.stderr == ""  # tifffile's log has lines without the slide's name


def test_a_header_larger_than_memory_is_told(stated, tmp_path, monkeypatch):
    def absurd(*_, **__):
        raise MemoryError

    shutil.copy2(stated, tmp_path / "a.tif")
    monkeypatch.setattr(tifffile, "TiffFile", absurd)  # as of an NDPI file that lies about its first MCU
    with pytest.raises(SlideError, match="more bytes in its header than there is memory for"):
        open_slide(stated)
    with open_slide(tmp_path / "a.tif") as slide:
        assert slide.reader == "picture"  # the next that may take it
