"""A slide in memory: any size, any pixels, any tile of it broken."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tiling import GridConfig, Slide, SlideError, TileGrid


class FakeSlide(Slide):
    """Painted by a function of level-0 places, so that a huge one takes no memory.

    `paint(xs, ys, downsample)` gives (len(ys), len(xs), 3) uint8 for pixel centres xs, ys at level 0.
    """

    reader = "fake"
    fingerprint = "fake"  # pyright: ignore[reportAssignmentType]

    def __init__(self, size_px, paint, *, mpp=0.5, downsamples=(1,), broken_px=()):
        super().__init__(Path("fake.svs"), id="fake", mpp=mpp, fallback_mpp=None)
        self.level_sizes_px = tuple((round(size_px[0] / d), round(size_px[1] / d)) for d in downsamples)
        self.properties = {}
        self._paint, self._broken_px = paint, broken_px

    def _read(self, x, y, level, size_px):
        down = self.downsamples[level]
        width, height = size_px
        for broken_x, broken_y in self._broken_px:
            if x <= broken_x < x + width * down and y <= broken_y < y + height * down:
                raise SlideError(f"{self.id}: cannot be read at ({x}, {y})")
        xs, ys = x + (np.arange(width) + 0.5) * down, y + (np.arange(height) + 0.5) * down
        return self._paint(xs, ys, down)

    def _file_resolutions(self):
        return []

    def close(self):
        pass


@pytest.fixture(scope="session")
def fake_slide() -> Callable[..., Slide]:
    """Make a FakeSlide of a size and a paint function, or of (H, W, 3) pixels."""

    def make(pixels=None, *, size_px=None, paint=None, **options):
        if pixels is not None:
            size_px = pixels.shape[1::-1]

            def paint(xs, ys, _down):
                rows, columns = np.floor(ys).astype(int), np.floor(xs).astype(int)
                inside = (
                    ((rows >= 0) & (rows < len(pixels)))[:, None]
                    & (columns >= 0)
                    & (columns < pixels.shape[1])
                )
                found = pixels[
                    np.minimum(rows, len(pixels) - 1)[:, None], np.minimum(columns, size_px[0] - 1)
                ]
                return np.where(inside[..., None], found, 255).astype(np.uint8)

        if paint is None:

            def paint(xs, ys, _down):
                return np.full((len(ys), len(xs), 3), 255, np.uint8)

        return FakeSlide(size_px, paint, **options)

    return make


@pytest.fixture(scope="session")
def make_lattice() -> Callable[..., TileGrid]:
    """Make the grid of all whole tiles of a slide that is not there, as `tile_slide` would cut it."""

    def make(size_px, *, mpp, tile_px=100, tile_mpp=0.5, overlap_px=0, slide_id="slide"):
        side, step = tile_px * tile_mpp / mpp, (tile_px - overlap_px) * tile_mpp / mpp
        corners = [np.rint(np.arange(int(n // step) + 1) * step).astype(np.int64) for n in size_px]
        xs, ys = (c[c + round(side) <= n] for c, n in zip(corners, size_px, strict=True))
        coords = np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2)
        return TileGrid(
            slide_id=slide_id, slide_path="slide.svs", slide_fingerprint="0", coords=coords,
            tissue_fraction=np.ones(len(coords), np.float32), mpp=mpp, mpp_source="test",
            size_level0_px=size_px,
            config=GridConfig(tile_px=tile_px, tile_mpp=tile_mpp, overlap_px=overlap_px),
            level=0, read_px=round(side), tile_px_level0=round(side),
            tissue_polygons={"type": "MultiPolygon", "coordinates": []},
        )  # fmt: skip

    return make
