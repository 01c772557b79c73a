import numpy as np
import pytest

from tiling import GridConfig, TileGrid
from tiling.heatmap import Heatmap, exact_corners, paint, side_level0_px


def make_grid(coords, *, size_px, mpp=0.5, tile_px=100, tile_mpp=0.5, overlap_px=0):
    coords = np.asarray(coords, dtype=np.int64).reshape(-1, 2)
    side = tile_px * tile_mpp / mpp
    return TileGrid(
        slide_id="slide",
        slide_path="slide.svs",
        slide_fingerprint="0",
        coords=coords,
        tissue_fraction=np.ones(len(coords), np.float32),
        mpp=mpp,
        mpp_source="test",
        size_level0_px=size_px,
        config=GridConfig(tile_px=tile_px, tile_mpp=tile_mpp, overlap_px=overlap_px),
        level=0,
        read_px=round(side),
        tile_px_level0=round(side),
        tissue_polygons={"type": "MultiPolygon", "coordinates": []},
    )


def lattice(n_x, n_y, step):
    """Corners as tile_slide makes them: multiples of the exact step, rounded, row by row."""
    xs, ys = (np.rint(np.arange(n) * step).astype(np.int64) for n in (n_x, n_y))
    return np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2)


def slow_paint(grid, scores, px):
    """The definition, pixel by pixel: the mean over the tiles whose square holds its centre."""
    width, height = (int(np.ceil(side / px)) for side in grid.size_level0_px)
    values = np.full((height, width), np.nan, np.float32)
    side, begins = side_level0_px(grid), exact_corners(grid)
    for row in range(height):
        for column in range(width):
            x, y = (column + 0.5) * px, (row + 0.5) * px
            covers = ((begins <= (x, y)) & ((x, y) < begins + side)).all(axis=1) & ~np.isnan(scores)
            if covers.any():
                values[row, column] = scores[covers].astype(np.float64).mean()
    return values


@pytest.mark.parametrize("overlap_px", [0, 30, 75])
@pytest.mark.parametrize("px", [5.0, 8.0, 11.3])
def test_each_pixel_is_the_mean_of_the_tiles_over_its_centre(overlap_px, px):
    step = (100 - overlap_px) * 0.5 / 0.2628
    grid = make_grid(lattice(4, 3, step), size_px=(830, 641), mpp=0.2628, overlap_px=overlap_px)
    scores = np.random.default_rng(0).random(len(grid)).astype(np.float32)
    scores[[2, 7]] = np.nan
    heatmap = paint(grid, scores, px_level0=px)
    np.testing.assert_allclose(heatmap.values, slow_paint(grid, scores, px), atol=1e-6)


@pytest.mark.parametrize("mpp", [0.2628, 0.2431, 0.4991, 0.5, 0.2278])
@pytest.mark.parametrize("px", [None, 1.0, 2.0, 13.0])
def test_neighbours_meet_without_seam_or_shared_pixel(mpp, px):
    side = 100 * 0.5 / mpp
    n = 10
    size = round(n * side) + 1
    grid = make_grid(lattice(n, n, side), size_px=(size, size), mpp=mpp)
    scores = np.arange(n * n, dtype=np.float32)
    heatmap = paint(grid, scores, px_level0=px)
    end = int(n * side / heatmap.px_level0 - 1)
    assert not np.isnan(heatmap.values[:end, :end]).any()
    seen = heatmap.values[~np.isnan(heatmap.values)]
    assert set(seen) == set(scores)  # a shared pixel would hold a mean, which is no whole score


def test_default_scale_divides_a_tile_exactly():
    side = 224 * 0.5 / 0.2628
    grid = make_grid(lattice(235, 3, side), size_px=(100_283, 1500), mpp=0.2628, tile_px=224)
    scores = np.random.default_rng(1).random(len(grid)).astype(np.float32)
    heatmap = paint(grid, scores)
    share = round(side / heatmap.px_level0)
    assert share >= 8
    assert heatmap.px_level0 == pytest.approx(side / share, rel=1e-12)
    assert max(heatmap.values.shape) <= 3072
    tiles = heatmap.values[: 3 * share, : 235 * share].reshape(3, share, 235, share)
    np.testing.assert_array_equal(tiles, np.broadcast_to(scores.reshape(3, 1, 235, 1), tiles.shape))
    assert np.isnan(heatmap.values[3 * share :]).all()


def test_the_far_corner_of_a_large_slide_is_exact():
    size = 100_000
    corner = (size - 256, size - 256)
    grid = make_grid([corner], size_px=(size, size), mpp=0.25, tile_px=128)
    heatmap = paint(grid, np.array([0.75]), px_level0=32.0)
    assert heatmap.values.shape == (3125, 3125)
    rows, columns = np.nonzero(heatmap.values == np.float32(0.75))
    first = (size - 256) // 32
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (first, 3124, first, 3124)
    assert len(rows) == (256 // 32) ** 2


def test_corners_off_any_lattice_are_painted_where_they_are():
    grid = make_grid([(17, 5), (240, 131)], size_px=(400, 300))
    heatmap = paint(grid, np.array([0.2, 0.9]), px_level0=1.0)
    for (x, y), score in zip(grid.coords, (0.2, 0.9), strict=True):
        assert (heatmap.values[y : y + 100, x : x + 100] == np.float32(score)).all()
    assert np.isnan(heatmap.values).sum() == 400 * 300 - 2 * 100 * 100


def test_overlapping_tiles_are_averaged_and_a_missing_score_does_not_count():
    grid = make_grid([(0, 0), (50, 0), (100, 0)], size_px=(200, 100), overlap_px=50)
    heatmap = paint(grid, np.array([0.2, np.nan, 0.6]), px_level0=50.0)
    np.testing.assert_allclose(heatmap.values, np.array([[0.2, 0.2, 0.6, 0.6]] * 2, np.float32))
    heatmap = paint(grid, np.array([0.2, 0.5, 0.6]), px_level0=50.0)
    np.testing.assert_allclose(heatmap.values, np.array([[0.2, 0.35, 0.55, 0.6]] * 2, np.float32))


def test_rounding_never_leaves_the_range_of_the_scores(make_lattice):
    grid = make_lattice((4000, 3000), mpp=0.5, overlap_px=37)
    rng = np.random.default_rng(0)
    scores = np.where(rng.random(len(grid)) < 0.5, 0, rng.random(len(grid)))
    assert np.nanmin(paint(grid, scores).values) == 0


@pytest.mark.parametrize(("mpp", "overlap_px"), [(0.2628, 0), (0.4991, 25)])
def test_a_disc_of_tumour_is_painted_to_within_a_tile_everywhere(mpp, overlap_px):
    side, step = 100 * 0.5 / mpp, (100 - overlap_px) * 0.5 / mpp
    size, centre, radius = 8000, np.array([4100.0, 3900.0]), 2500.0
    n = int((size - side) // step) + 1
    grid = make_grid(lattice(n, n, step), size_px=(size, size), mpp=mpp, overlap_px=overlap_px)
    middles = grid.coords + side / 2
    is_tumour = np.hypot(*(middles - centre).T) < radius
    heatmap = paint(grid, is_tumour.astype(np.float32))
    px = heatmap.px_level0
    y, x = (np.indices(heatmap.values.shape) + 0.5) * px
    distance = np.hypot(x - centre[0], y - centre[1])
    covered = ~np.isnan(heatmap.values)
    assert (heatmap.values[covered & (distance < radius - side)] == 1).all()
    assert (heatmap.values[covered & (distance > radius + side)] == 0).all()
    area = np.nansum(heatmap.values) * px**2
    assert area == pytest.approx(np.pi * radius**2, rel=0.01)


def test_resampled_to_a_picture_keeps_every_tile_in_its_place():
    side = 100 * 0.5 / 0.2628
    grid = make_grid(lattice(20, 10, side), size_px=(3900, 2000), mpp=0.2628)
    scores = np.arange(200, dtype=np.float32) / 200
    values = paint(grid, scores).resampled((780, 400))
    assert values.shape == (400, 780)
    y, x = (np.indices(values.shape) + 0.5) * 5.0
    column, row = (x / side).astype(int), (y / side).astype(int)
    inside = (column < 20) & (row < 10)
    off_edge = np.minimum(x / side % 1, y / side % 1) * side > 6.1  # a heatmap pixel from an edge
    off_edge &= np.maximum(x / side % 1, y / side % 1) * side < side - 6.1
    told = inside & off_edge
    np.testing.assert_array_equal(values[told], scores[(row * 20 + column)[told]])


def test_no_tiles_and_no_scores_paint_nothing():
    empty = paint(make_grid([], size_px=(1000, 800)), np.zeros(0))
    assert np.isnan(empty.values).all()
    unread = paint(make_grid([(0, 0)], size_px=(1000, 800)), np.array([np.nan]))
    assert np.isnan(unread.values).all()
    assert "0% covered" in repr(unread)


def test_a_tile_between_pixel_centres_paints_nothing():
    heatmap = paint(make_grid([(0, 0)], size_px=(1000, 800)), np.ones(1), px_level0=400.0)
    assert np.isnan(heatmap.values).all()


@pytest.mark.parametrize(
    ("scores", "px"),
    [(np.zeros(3), None), (np.zeros((2, 2)), None), (np.array([0.1, np.inf]), None), (np.zeros(2), 0.0)],
)
def test_what_cannot_be_painted_is_refused(scores, px):
    grid = make_grid([(0, 0), (100, 0)], size_px=(300, 300))
    with pytest.raises(ValueError, match="slide: "):
        paint(grid, scores, px_level0=px)


def test_repr_says_units():
    assert "level-0 px" in repr(Heatmap(np.zeros((2, 3), np.float32), 10.0, (30, 20)))
