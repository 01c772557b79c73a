"""The fast path against OpenSlide, bit for bit, on slides as scanners and converters write them."""

import itertools

import imagecodecs
import numpy as np
import pytest
import tifffile

from tiling import (
    GridConfig,
    OpenSlideSlide,
    TiledTiffSlide,
    TissueMask,
    open_slide,
    read_patches,
    tile_slide,
)

REAL = [
    ("CMU-1-Small-Region.svs", None),  # RGB JPEG, shared tables, tiles of 240 px
    ("CMU-1-Small-Region.jpeg.tiff", 0.5),
    ("C3L-00601-26_from_dzi.tif", 0.5),
    ("idc_14082_4mpp.tif", None),
    ("tcga-cr-7395-01a-01-ts1.svs", 0.5),  # JPEG 2000
]


def picture(height, width, seed=0):
    """Smooth blobs with fine texture: every block of the JPEG has something in it."""
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / a + b) * np.cos(y / b + a) for a, b in draw.uniform(5, 60, (3, 2))]
    noise = draw.normal(0, 6, (height, width, 3))
    return np.clip(np.stack(waves, 2) * 60 + 160 + noise, 0, 255).astype(np.uint8)


def encoded(tile, *, subsampling="420", is_rgb=False):
    if is_rgb:
        return imagecodecs.jpeg8_encode(tile, 85, colorspace="RGB", outcolorspace="RGB")
    return imagecodecs.jpeg8_encode(
        tile, 85, colorspace="RGB", outcolorspace="YCBCR", subsampling=subsampling
    )


def abbreviated(stream):
    """Split a JPEG into its tables and the rest, each with start and end of image, as Aperio does."""
    tables, rest, at = b"", b"", 2
    while True:
        marker, size = stream[at + 1], int.from_bytes(stream[at + 2 : at + 4], "big")
        if marker == 0xDA:
            break
        segment = stream[at : at + 2 + size]
        if marker in (0xDB, 0xC4):
            tables += segment
        elif not 0xE0 <= marker <= 0xEF:
            rest += segment
        at += 2 + size
    return b"\xff\xd8" + tables + b"\xff\xd9", b"\xff\xd8" + rest + stream[at:]


def write(path, levels, *, tile=256, missing=(), broken=(), has_shared_tables=False, is_rgb=False, **kind):
    """Write pictures as the levels of a generic tiled TIFF; `missing` and `broken` are tiles of level 0."""
    beyond = kind.pop("beyond", "edge")  # the border
    with tifffile.TiffWriter(path) as file:
        for number, level in enumerate(levels):
            streams, tables = [], b""
            for k, (y, x) in enumerate(
                itertools.product(range(0, level.shape[0], tile), range(0, level.shape[1], tile))
            ):
                part = level[y : y + tile, x : x + tile]
                part = np.pad(part, ((0, tile - len(part)), (0, tile - part.shape[1]), (0, 0)), mode=beyond)
                stream = encoded(part, is_rgb=is_rgb, **kind)
                if has_shared_tables:
                    tables, stream = abbreviated(stream)
                if number == 0 and k in broken:
                    stream = stream[:200] + bytes(len(stream) - 200)
                streams.append(b"" if number == 0 and k in missing else stream)
            file.write(
                iter(streams),
                shape=level.shape,
                dtype=np.uint8,
                tile=(tile, tile),
                photometric="rgb" if is_rgb else "ycbcr",
                compression="jpeg",
                subsampling=None if is_rgb else (1, 1) if kind.get("subsampling") == "444" else (2, 2),
                extratags=[(347, 7, len(tables), tables, True)] if tables else [],
                metadata=None,
                resolution=(20000, 20000),
                resolutionunit="CENTIMETER",
            )
    if is_rgb:  # tifffile takes every JPEG for YCbCr
        with tifffile.TiffFile(path, mode="r+b") as file:
            for page in file.pages:
                page.tags[262].overwrite(2)
    return path


def write_jpeg2000(path, levels, *, tile=256, is_ycbcr=False, broken=()):
    """Write pictures as an Aperio slide of JPEG 2000 tiles; their samples are taken for YCbCr if told so."""
    with tifffile.TiffWriter(path) as file:
        for number, level in enumerate(levels):
            height, width = level.shape[:2]
            streams = []
            for k, (y, x) in enumerate(itertools.product(range(0, height, tile), range(0, width, tile))):
                part = level[y : y + tile, x : x + tile]
                part = np.pad(part, ((0, tile - len(part)), (0, tile - part.shape[1]), (0, 0)), mode="edge")
                stream = imagecodecs.jpeg2k_encode(part, level=40, codecformat="j2k", mct=not is_ycbcr)
                is_broken = number == 0 and k in broken
                streams.append(stream[:30] + bytes(len(stream) - 30) if is_broken else stream)
            file.write(
                iter(streams),
                shape=level.shape,
                dtype=np.uint8,
                tile=(tile, tile),
                photometric="rgb",
                compression=33003 if is_ycbcr else 33005,
                description=f"Aperio Image Library slidebag\r\n{width}x{height}|AppMag = 20|MPP = 0.5",
                metadata=None,
                software=False,
            )
    return path


def both(path, mpp=None):
    options = {"id": "a", "mpp": mpp, "fallback_mpp": None}
    return TiledTiffSlide(path, **options), OpenSlideSlide(path, **options)


def assert_same(path, mpp=None, *, seed=0, n=40):
    """Regions of all sizes, wherever a level has a pixel just where OpenSlide is asked, and over borders."""
    draw = np.random.default_rng(seed)
    fast, slow = both(path, mpp)
    with fast, slow:
        assert fast.level_sizes_px == slow.level_sizes_px
        for level, down in enumerate(fast.downsamples):
            step = round(down) if abs(down - round(down)) < 1e-9 else None
            for _ in range(n):
                width, height = draw.integers(1, 600, 2).tolist()
                x, y = (int(draw.integers(-300, side + 100)) for side in fast.size_px)
                if step is None:
                    x = y = 0  # no other place falls on a pixel of this level
                else:
                    x, y = x // step * step, y // step * step
                ours, theirs = (s.read(x, y, level, (width, height)) for s in (fast, slow))
                np.testing.assert_array_equal(ours, theirs, err_msg=f"{x, y, level, width, height}")


@pytest.mark.parametrize("size", [(256, 256), (700, 515), (1000, 1), (33, 900)])
@pytest.mark.parametrize(
    "kind",
    [
        {"subsampling": "420"},
        {"subsampling": "444"},
        {"subsampling": "422"},
        {"is_rgb": True},
        {"has_shared_tables": True},
        {"has_shared_tables": True, "is_rgb": True},
    ],
    ids=str,
)
def test_pixels_are_openslides(tmp_path, size, kind):
    assert_same(write(tmp_path / "a.tif", [picture(*size)], **kind))


def test_levels_and_tile_sizes(tmp_path):
    whole = picture(1024, 1536)
    assert_same(write(tmp_path / "a.tif", [whole, whole[::2, ::2], whole[::4, ::4]], tile=128))


@pytest.mark.parametrize("is_ycbcr", [False, True])
def test_jpeg_2000_is_openslides(tmp_path, is_ycbcr):
    whole = picture(700, 1000) if not is_ycbcr else np.random.default_rng(0).integers(0, 256, (700, 1000, 3))
    whole = whole.astype(np.uint8)  # all colours, also those that no RGB has
    path = write_jpeg2000(tmp_path / "a.svs", [whole, whole[::2, ::2]], is_ycbcr=is_ycbcr)
    with open_slide(path) as slide:
        assert slide.reader == "tiled-tiff"
        assert slide.scales == (1,)
        assert slide.compressed_tile(0, 0, 0, 256) is None  # is no JPEG
    assert_same(path)


def test_a_broken_jpeg_2000_tile_costs_no_other(tmp_path):
    fast, slow = both(write_jpeg2000(tmp_path / "a.svs", [picture(1024, 1024)], broken=(5,)))
    with fast, slow:
        corners = np.array(list(itertools.product(range(0, 801, 200), repeat=2)))
        ours, theirs = (np.zeros((len(corners), 200, 200, 3), np.uint8) for _ in range(2))
        lost = fast.read_batch(corners, 0, ours)
        np.testing.assert_array_equal(lost, slow.read_batch(corners, 0, theirs))
        np.testing.assert_array_equal(ours[~lost], theirs[~lost])
        assert 0 < lost.sum() < 10


def test_a_slide_written_by_slidebag(phantom):
    assert_same(phantom.path)


@pytest.mark.data
@pytest.mark.parametrize(("name", "mpp"), REAL)
def test_real_slides(data_dir, name, mpp):
    assert_same(data_dir / "slides" / name, mpp)


def test_missing_and_broken_tiles_are_as_openslide_has_them(tmp_path):
    path = write(tmp_path / "a.tif", [picture(1000, 1000)], missing=(5,), broken=(10,))
    fast, slow = both(path)
    with fast, slow:
        corners = np.array([[x, y] for y in range(0, 800, 100) for x in range(0, 800, 100)])
        ours, theirs = (np.zeros((len(corners), 200, 200, 3), np.uint8) for _ in range(2))
        lost = fast.read_batch(corners, 0, ours)
        np.testing.assert_array_equal(lost, slow.read_batch(corners, 0, theirs))
        assert 0 < lost.sum() < 20
        np.testing.assert_array_equal(ours[~lost], theirs[~lost])


def everywhere(slide, **config):
    mask = TissueMask(np.ones((8, 8), bool), np.zeros((8, 8, 3), np.uint8), slide.size_px)
    return tile_slide(slide, mask, GridConfig(**{"min_tissue": 0, "tile_mpp": slide.mpp, **config}))


def patches_of(slide, grid, batch=16):
    return np.concatenate([p.pixels for p in read_patches(slide, grid, batch=batch)])


@pytest.mark.parametrize("config", [{"tile_px": 256}, {"tile_px": 224}, {"tile_px": 240, "overlap_px": 100}])
def test_patches_of_a_grid_are_openslides(tmp_path, config):
    fast, slow = both(write(tmp_path / "a.tif", [picture(1300, 1100)]))
    with fast, slow:
        grid = everywhere(fast, **config)
        np.testing.assert_array_equal(patches_of(fast, grid), patches_of(slow, grid))


@pytest.mark.parametrize("tile_mpp", [1.0, 1.05, 2.0, 4.3])
def test_scaled_decoding_is_close_and_can_be_left(tmp_path, tile_mpp):
    fast, slow = both(write(tmp_path / "a.tif", [picture(2200, 2100)]))
    with fast, slow:
        grid = everywhere(fast, tile_px=100, tile_mpp=tile_mpp)
        exact = everywhere(fast, tile_px=100, tile_mpp=tile_mpp, exact_pixels=True)
        right = patches_of(slow, exact)
        np.testing.assert_array_equal(patches_of(fast, exact), right)
        error = patches_of(fast, grid).astype(float) - right
        assert 10 * np.log10(255**2 / (error**2).mean()) > 35  # dB
        assert abs(error.mean()) < 0.5


def test_each_tile_is_decoded_once(tmp_path, monkeypatch):
    import tiling.tile_codec as module

    decoded = []
    real = module.simplejpeg.decode_jpeg
    with open_slide(write(tmp_path / "a.tif", [picture(2048, 2048)])) as slide:
        monkeypatch.setattr(
            module.simplejpeg,
            "decode_jpeg",
            lambda data, *a, **k: decoded.append(data) or real(data, *a, **k),
        )
        for _ in read_patches(slide, everywhere(slide, tile_px=200), batch=7):
            pass
    assert len(decoded) == len(set(decoded)) == 64


class CountedFile:
    """A file that keeps where it was read."""

    def __init__(self, file):
        self._file, self.offsets = file, []

    def __getattr__(self, name):
        return getattr(self._file, name)

    def read(self, count):
        self.offsets.append(self._file.tell())
        return self._file.read(count)


@pytest.mark.parametrize(("config", "most"), [({"tile_px": 256}, 10), ({"tile_px": 200}, 20)])
def test_a_grid_is_read_forward_by_few_large_reads(tmp_path, config, most):
    with open_slide(write(tmp_path / "a.tif", [picture(2048, 2048)])) as slide:
        grid = everywhere(slide, **config)
        file = slide._tiles._bytes._file = CountedFile(slide._tiles._bytes._file)
        n_read = sum(len(p) for p in read_patches(slide, grid, batch=16))
    assert n_read == len(grid)
    assert 1 < len(file.offsets) <= most  # of 64 tiles
    assert file.offsets == sorted(set(file.offsets))


@pytest.mark.parametrize("tile_px", [200, 256])  # across the file's tiles, and one by one
@pytest.mark.parametrize("order", ["columns", "any"])
def test_the_file_is_read_forward_whatever_order_the_tiles_have(tmp_path, tile_px, order):
    with open_slide(write(tmp_path / "a.tif", [picture(1024, 1024)])) as slide:
        coords = everywhere(slide, tile_px=tile_px).coords
        draw = np.random.default_rng(0)
        coords = coords[np.lexsort(coords.T[::-1]) if order == "columns" else draw.permutation(len(coords))]
        file = slide._tiles._bytes._file = CountedFile(slide._tiles._bytes._file)
        out = np.empty((len(coords), tile_px, tile_px, 3), np.uint8)
        assert not slide.read_batch(coords, 0, out).any()
        assert file.offsets == sorted(set(file.offsets))
        for each, (x, y) in zip(out, coords.tolist(), strict=True):
            np.testing.assert_array_equal(each, slide.read(x, y, 0, (tile_px, tile_px)))


def test_a_grid_to_the_end_keeps_few_tiles(tmp_path):
    with open_slide(write(tmp_path / "a.tif", [picture(4096, 512)])) as slide:
        for _ in read_patches(slide, everywhere(slide, tile_px=200), batch=7):
            pass
        assert len(slide._tiles._tiles) <= 6  # two columns in two rows, and one below


@pytest.mark.parametrize("scale", [1, 2, 4, 8])
def test_nothing_of_what_lies_beyond_the_border_is_seen(tmp_path, scale):
    white = np.full((1203, 1413, 3), 240, np.uint8)
    path = write(tmp_path / "a.svs", [white], beyond="constant")  # black
    with open_slide(path, fallback_mpp=0.5) as slide:
        corners = np.array([[1413, 0], [0, 1203], [1413, 1203]]) - (20 * scale, 20 * scale)
        out = np.empty((3, 40, 40, 3), np.uint8)
        assert not slide.read_batch(corners, 0, out, scale=scale).any()
        assert out.min() > 180  # but for the waves of the edge
        assert slide.thumbnail(0.5 * scale).min() > 180


def test_room_for_tiles_of_one_size_is_not_kept_for_another(tmp_path):
    write(tmp_path / "a.svs", [picture(900, 1000)])
    out = np.empty((2, 100, 100, 3), np.uint8)
    with open_slide(tmp_path / "a.svs", fallback_mpp=0.5) as slide:
        for scale in (1, 2, 1, 4):
            slide.read_batch(np.array([[10, 10], [300, 300]]), 0, out, scale=scale)
            assert {tile.shape for tile in slide._tiles._spare} <= {(256 // scale, 256 // scale, 3)}


@pytest.mark.parametrize("mpp", [0.5, 4.0, 8.0, 40.0])
def test_a_thumbnail_shows_the_slide(tmp_path, mpp):
    whole = np.kron(picture(20, 30), np.ones((64, 64, 1), np.uint8))
    fast, slow = both(write(tmp_path / "a.tif", [whole]))
    with fast, slow:
        ours, theirs = fast.thumbnail(mpp), slow.thumbnail(mpp)
        assert min(ours.shape[:2]) >= 1280 * 0.5 / mpp * 0.99
        assert abs(ours.mean((0, 1)) - theirs.mean((0, 1))).max() < 1.5


def test_colours_that_contradict_each_other_are_openslides_case(tmp_path):
    path = write(tmp_path / "a.tif", [picture(600, 600)], is_rgb=True)
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages[0].tags[262].overwrite(6)  # the tiles say RGB
    with open_slide(path) as slide:
        assert slide.reader == "openslide"
        assert any("other pixels" in why for why in slide.passed_over)


def test_other_files_go_to_openslide_and_it_says_why(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, picture(600, 600), tile=(128, 128), compression="zlib", photometric="rgb")
    with open_slide(path, mpp=0.5) as slide:
        assert slide.reader == "openslide"
        assert any("JPEG" in why for why in slide.passed_over)


@pytest.mark.parametrize(("tag", "value"), [(322, 1 << 20), (323, 8), (256, 1 << 30), (325, 1 << 28)])
def test_a_hostile_header_is_no_case_for_the_fast_path(tmp_path, tag, value):
    path = write(tmp_path / "a.tif", [picture(600, 600)])
    with tifffile.TiffFile(path, mode="r+b") as file:
        found = file.pages[0].tags[tag]
        found.overwrite(value if found.count == 1 else [value] * found.count)
    with pytest.raises(OSError, match="a:"):  # OpenSlide may open it, but reads nothing
        open_slide(path, mpp=0.5).read(0, 0, 0, (600, 600))
