from itertools import count
from pathlib import Path
from xml.etree import ElementTree

import imagecodecs
import numpy as np
import pytest
import tifffile

from tiling import ArraySlide, open_slide, paint, write_slide
from tiling.blended import write_blended
from tiling.heatmap import Heatmap
from tiling.ome_metadata import ome_fingerprint
from tiling.overlay import tint
from tiling.tile_bytes import TileBytes

OPACITY = 0.65


def picture(height, width):
    """Smooth colours, so that JPEG loses little."""
    y, x = np.mgrid[:height, :width] / 400
    waves = [180 + 60 * np.sin(x * a + y * b) for a, b in ((1, 2), (2, 0.5), (0.3, 1.5))]
    return np.stack(waves, axis=2).astype(np.uint8)


def streams_of(path, level=0):
    """The compressed tiles of a level, and the page."""
    with tifffile.TiffFile(path) as file:
        pages = file.series[0].levels[level].pages
        page = pages[0]
        handle = file.filehandle
        found = []
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
            handle.seek(offset)
            found.append(handle.read(count))
        return found, page.jpegtables


@pytest.fixture
def corner_grid(make_lattice):
    """Tiles over the left third of a slide, of growing probability."""

    def make(size_px, mpp):
        grid = make_lattice(size_px, mpp=mpp)
        scores = np.where(grid.coords[:, 0] < size_px[0] / 3, np.linspace(0, 1, len(grid)), np.nan)
        return paint(grid, scores)

    return make


def blended(path, slide, heatmap, **options):
    write_blended(path, slide, heatmap, **{"opacity": OPACITY, "fingerprint": "f00", **options})
    return path


def test_untouched_tiles_are_taken_over_byte_for_byte_and_others_coloured(tmp_path, corner_grid):
    mpp, whole = 0.4991, picture(2100, 3000)
    write_slide(tmp_path / "s.svs", whole, mpp=mpp, quality=95)
    with open_slide(tmp_path / "s.svs") as slide:
        heatmap = corner_grid(slide.size_px, mpp)
        path = blended(tmp_path / "b.ome.tiff", slide, heatmap)
        plain = slide.read(0, 0, 0, slide.size_px)
    theirs, ours = streams_of(tmp_path / "s.svs")[0], streams_of(path)[0]
    assert len(theirs) == len(ours)
    n_columns = -(-3000 // 256)
    is_left = np.arange(len(ours)) % n_columns < 4
    is_same = np.array([a == b for a, b in zip(theirs, ours, strict=True)])
    assert is_same[~is_left].all()
    assert not is_same[is_left][: 4 * 3].any()
    with tifffile.TiffFile(path) as file:
        found = file.series[0].levels[0].asarray()
    expected = tint(plain, heatmap.resampled(slide.size_px), OPACITY)
    difference = np.abs(found.astype(int) - expected)
    assert difference.mean() < 2
    right = np.s_[:, 4 * 256 :]
    np.testing.assert_array_equal(found[right], plain[right])


def test_the_pyramid_is_the_slides_and_says_its_size(tmp_path, corner_grid):
    write_slide(tmp_path / "s.svs", picture(1700, 4099), mpp=0.2628)
    with open_slide(tmp_path / "s.svs") as slide:
        path = blended(tmp_path / "b.ome.tiff", slide, corner_grid(slide.size_px, 0.2628))
        sizes = slide.level_sizes_px
    assert ome_fingerprint(path) == "f00"
    with tifffile.TiffFile(path) as file:
        levels = file.series[0].levels
        pixels = next(e for e in ElementTree.fromstring(file.ome_metadata).iter() if e.tag.endswith("Pixels"))
    assert [(level.shape[1], level.shape[0]) for level in levels] == list(sizes)
    assert float(pixels.get("PhysicalSizeX")) == 0.2628
    with open_slide(path) as again:
        assert again.mpp == 0.2628
        assert again.size_px == (4099, 1700)
        level = len(again.level_sizes_px) - 1
        seen = again.read(0, 0, level, again.level_sizes_px[level])
    assert seen.shape[:2] == again.level_sizes_px[level][::-1]


class InMemory(ArraySlide):
    """A slide of one level whose file holds no tiles."""

    reader = "in memory"

    def __init__(self, pixels, mpp):
        self._pixels = pixels
        super().__init__(Path("s.png"), id="slide", mpp=mpp, fallback_mpp=None)

    def _open_arrays(self):
        self._axes, self._arrays = "YXS", [self._pixels]


def test_a_slide_without_tiles_or_levels_gets_them(tmp_path, corner_grid):
    whole = picture(1300, 2600)
    slide = InMemory(whole, 0.5)
    heatmap = corner_grid(slide.size_px, 0.5)
    path = blended(tmp_path / "b.ome.tiff", slide, heatmap)
    with tifffile.TiffFile(path) as file:
        levels = [level.asarray() for level in file.series[0].levels]
    assert [level.shape[:2] for level in levels] == [(1300, 2600), (325, 650)]
    for level in levels:
        height, width = level.shape[:2]
        step = 2600 // width
        small = whole.reshape(height, step, width, step, 3).mean(axis=(1, 3)).astype(np.uint8)
        expected = tint(small, heatmap.resampled((width, height)), OPACITY)
        assert np.abs(level.astype(int) - expected).mean() < 2.5


def test_added_levels_read_the_slide_once_each_and_in_blocks(tmp_path):
    asked = []

    class Watched(InMemory):
        def _read(self, x, y, level, size_px):
            asked.append(size_px)
            return super()._read(x, y, level, size_px)

    slide = Watched(np.broadcast_to(np.uint8(99), (260, 18_000, 3)), 0.5)
    nothing = Heatmap(np.full((1, 70), np.nan, np.float32), 260.0, slide.size_px)
    path = blended(tmp_path / "b.ome.tiff", slide, nothing)
    with tifffile.TiffFile(path) as file:
        levels = file.series[0].levels
        assert [level.shape[:2] for level in levels] == [(260, 18_000), (65, 4500), (16, 1125), (4, 281)]
        assert all(np.abs(level.asarray().astype(int) - 99).max() < 3 for level in levels)
    assert max(max(size) for size in asked) <= 4096
    assert sum(width * height for width, height in asked) <= len(levels) * 260 * 18_000


def test_tiles_that_cannot_be_read_at_once_are_read_another_way(tmp_path, corner_grid, monkeypatch):
    write_slide(tmp_path / "s.svs", picture(600, 1500), mpp=0.5)
    with open_slide(tmp_path / "s.svs") as slide:
        plain = slide.read(0, 0, 0, slide.size_px)
        read, calls, n_probes = TileBytes._read_span, count(), len(slide.level_sizes_px)
        monkeypatch.setattr(
            TileBytes, "_read_span", lambda *args: read(*args) if next(calls) < n_probes else b""
        )
        path = blended(tmp_path / "b.ome.tiff", slide, corner_grid(slide.size_px, 0.5))
    assert all(streams_of(path)[0])
    with tifffile.TiffFile(path) as file:
        found = file.series[0].levels[0].asarray()
    assert np.abs(found[:, 768:].astype(int) - plain[:, 768:]).mean() < 2


@pytest.mark.parametrize("is_rgb", [False, True])
def test_shared_tables_and_plain_rgb_are_understood(tmp_path, corner_grid, is_rgb):
    """As Aperio writes them: tables once, and colours that are not transformed."""
    whole = picture(512, 1280)
    out = "RGB" if is_rgb else "YCBCR"
    tiles = [
        imagecodecs.jpeg8_encode(
            whole[y : y + 256, x : x + 256], 92, colorspace="RGB", outcolorspace=out, subsampling="444"
        )
        for y in (0, 256)
        for x in range(0, 1280, 256)
    ]
    with tifffile.TiffWriter(tmp_path / "s.svs") as file:
        file.write(
            iter(tiles), shape=whole.shape, dtype=np.uint8, tile=(256, 256), photometric="rgb",
            subsampling=(1, 1), compression="jpeg", compressionargs={"outcolorspace": out},
            description="Aperio Image Library\r\n1280x512|AppMag = 20|MPP = 0.5", metadata=None,
            software=False,
        )  # fmt: skip
    with open_slide(tmp_path / "s.svs") as slide:
        assert slide.jpeg_tiles(0) is not None
        heatmap = corner_grid(slide.size_px, 0.5)
        path = blended(tmp_path / "b.ome.tiff", slide, heatmap)
        plain = slide.read(0, 0, 0, slide.size_px)
    with tifffile.TiffFile(path) as file:
        found = file.series[0].levels[0].asarray()
    expected = tint(plain, heatmap.resampled(slide.size_px), OPACITY)
    assert np.abs(found.astype(int) - expected).mean() < 2
    np.testing.assert_array_equal(found[:, 512:], plain[:, 512:])
    assert sum(a == b for a, b in zip(streams_of(path)[0], tiles, strict=True)) == 6


@pytest.mark.data
def test_a_real_slide_keeps_its_own_tiles(tmp_path, data_dir, corner_grid):
    source = data_dir / "slides" / "CMU-1-Small-Region.svs"
    with open_slide(source) as slide:
        heatmap = corner_grid(slide.size_px, slide.mpp)
        path = blended(tmp_path / "b.ome.tiff", slide, heatmap)
        plain = slide.read(0, 0, 0, slide.size_px)
    (theirs, tables), (ours, same_tables) = streams_of(source), streams_of(path)
    assert tables == same_tables
    assert sum(a == b for a, b in zip(theirs, ours, strict=True)) > len(theirs) / 2
    with tifffile.TiffFile(path) as file:
        found = file.series[0].levels[0].asarray()
    np.testing.assert_array_equal(found[:, 1500:], plain[:, 1500:])
    expected = tint(plain, heatmap.resampled(slide.size_px), OPACITY)
    assert np.abs(found.astype(int) - expected).mean() < 3


def test_a_heatmap_of_another_slide_is_refused(tmp_path, corner_grid):
    slide = InMemory(picture(300, 400), 0.5)
    with pytest.raises(ValueError, match="slide: the heatmap is of a slide of"):
        blended(tmp_path / "b.ome.tiff", slide, corner_grid((400, 301), 0.5))
