import cv2
import numpy as np
import pytest
import shapely
from shapely.geometry import shape

from tiling import (
    ConfigError,
    PhantomConfig,
    TissueConfig,
    TissueMask,
    open_slide,
    render_phantom,
    segment_tissue,
    write_slide,
)

STAIN, GLASS = (190, 110, 170), (244, 243, 244)


def iou(found, truth):
    """Overlap of a mask with a level-0 truth of any size."""
    truth = cv2.resize(truth.astype(np.float32), found.shape[::-1], interpolation=cv2.INTER_AREA) > 0.5
    return (found & truth).sum() / (found | truth).sum()


def picture(height, width, colour=GLASS, *, seed=0):
    noise = np.random.default_rng(seed).integers(-3, 4, (height, width, 3))
    return np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)


def stained(mask, colour=STAIN, *, ground=GLASS):
    return np.where(mask[..., None], picture(*mask.shape, colour, seed=1), picture(*mask.shape, ground))


def ellipse(height, width, centre, axes):
    drawn = np.zeros((height, width), np.uint8)
    cv2.ellipse(drawn, (centre, (2 * axes[0], 2 * axes[1]), 0), 1, -1)
    return drawn.astype(bool)


def polygon_points(mask):
    """How many polygons of a TissueMask hold the centre of each of its pixels."""
    height, width = mask.mask.shape
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    scale = np.array(mask.size_level0_px) / (width, height)
    return sum(shapely.contains_xy(p, x * scale[0], y * scale[1]) for p in shape(mask.polygons()).geoms)


def test_the_phantoms_tissue_is_found(phantom):
    with open_slide(phantom.path) as slide:
        found = segment_tissue(slide)
    assert found.mask.shape == (75, 100)  # 1203 × 1600 px of 0.5 µm at 8 µm
    assert found.thumbnail.shape == (75, 100, 3)
    assert found.size_level0_px == phantom.size_px
    assert iou(found.mask, phantom.tissue) >= 0.9


@pytest.mark.parametrize("tissue_mpp", [4.0, 8.0])
def test_tissue_is_found_at_any_scale_and_pen_is_not_tissue(tmp_path, tissue_mpp):
    for seed in (0, 5):
        plain = render_phantom(PhantomConfig(size_px=(1600, 1200), seed=seed, has_pen=False))
        marked = render_phantom(PhantomConfig(size_px=(1600, 1200), seed=seed, has_pen=True))
        write_slide(tmp_path / "a.svs", marked.pixels, mpp=0.5)
        with open_slide(tmp_path / "a.svs") as slide:
            found = segment_tissue(slide, TissueConfig(tissue_mpp=tissue_mpp)).mask
        pen = np.abs(plain.pixels.astype(int) - marked.pixels).max(axis=2) > 40
        at_pen = cv2.resize(pen.astype(np.float32), found.shape[::-1], interpolation=cv2.INTER_AREA) > 0.5
        assert at_pen.sum() > 20
        assert found[at_pen].mean() < 0.06
        # tissue right beside a stroke is given up with it
        away = cv2.distanceTransform((~at_pen).astype(np.uint8), cv2.DIST_L2, 5) * tissue_mpp > 80
        truth = cv2.resize(marked.tissue.astype(np.float32), found.shape[::-1], interpolation=cv2.INTER_AREA)
        assert iou(found[away][None], truth[away][None] > 0.5) >= 0.9


@pytest.mark.parametrize("pen", [(30, 120, 60), (40, 90, 170), (210, 20, 30), (25, 25, 25)])
def test_a_stroke_of_ink_alone_is_no_tissue(fake_slide, pen):
    strokes = np.zeros((1200, 1600), np.uint8)
    cv2.line(strokes, (100, 200), (1500, 900), 1, 80)
    assert not segment_tissue(fake_slide(stained(strokes.astype(bool), pen))).mask.any()


def test_an_empty_slide_has_no_tissue(fake_slide):
    for colour in [(255, 255, 255), GLASS, (225, 225, 222)]:
        found = segment_tissue(fake_slide(picture(1000, 1300, colour)))
        assert not found.mask.any()
        assert found.polygons() == {"type": "MultiPolygon", "coordinates": []}


def test_the_same_slide_gives_the_same_mask(phantom):
    with open_slide(phantom.path) as slide:
        one, two = segment_tissue(slide), segment_tissue(slide)
    np.testing.assert_array_equal(one.mask, two.mask)
    assert one.polygons() == two.polygons()


def test_tissue_shines_on_a_dark_slide(fake_slide):
    truth = ellipse(1200, 1600, (900, 500), (400, 250))
    slide = fake_slide(stained(truth, (20, 40, 180), ground=(4, 4, 6)))
    assert iou(segment_tissue(slide).mask, truth) >= 0.95
    assert not segment_tissue(fake_slide(picture(800, 800, (4, 4, 6)))).mask.any()


def test_pale_tissue_is_found_too(fake_slide):
    truth = ellipse(1200, 1600, (900, 500), (400, 250))
    assert iou(segment_tissue(fake_slide(stained(truth, (232, 205, 225)))).mask, truth) >= 0.95


def test_small_pieces_and_holes_go_and_large_ones_stay(fake_slide):
    # at 4 µm/px a disc of radius r px has an area of r² × 5.03e-5 mm²
    truth = ellipse(1500, 1500, (750, 750), (500, 500))
    truth &= ~ellipse(1500, 1500, (600, 750), (60, 60))  # a hole of 0.18 mm²
    truth &= ~ellipse(1500, 1500, (950, 750), (25, 25))  # one of 0.03 mm²
    truth |= ellipse(1500, 1500, (120, 120), (45, 45))  # a piece of 0.10 mm²
    truth |= ellipse(1500, 1500, (1380, 120), (25, 25))  # one of 0.03 mm²
    slide = fake_slide(stained(truth), mpp=4.0)

    def told(**config):
        geometry = shape(segment_tissue(slide, TissueConfig(**config)).polygons())
        return len(geometry.geoms), sum(len(p.interiors) for p in geometry.geoms)

    assert told(min_area_mm2=0.06, min_hole_mm2=0.06) == (2, 1)
    assert told(min_area_mm2=0.01, min_hole_mm2=0.01) == (3, 2)
    assert told(min_area_mm2=0.2, min_hole_mm2=0.3) == (1, 0)
    assert told(min_area_mm2=100) == (0, 0)  # what is asked for holds, also where nothing is left


def test_a_picture_smaller_than_the_least_piece_keeps_its_tissue(fake_slide):
    truth = ellipse(512, 512, (250, 250), (130, 110))  # 0.01 of 0.07 mm²
    truth |= ellipse(512, 512, (460, 460), (30, 30))  # and a speck of 1 % of the picture
    found = segment_tissue(fake_slide(stained(truth), mpp=0.5)).mask
    assert found[:24, :24].sum() > 150
    assert not found[26:, 26:].any()
    asked = TissueConfig(min_area_mm2=0.05)
    assert not segment_tissue(fake_slide(stained(truth), mpp=0.5), asked).mask.any()


def test_polygons_are_in_level0_pixels_with_holes_as_inner_rings(fake_slide):
    truth = ellipse(1203, 1600, (800, 600), (600, 400)) & ~ellipse(1203, 1600, (700, 550), (150, 120))
    found = segment_tissue(fake_slide(stained(truth), mpp=1.0))
    geometry = shape(found.polygons())
    assert geometry.is_valid
    (piece,) = geometry.geoms
    assert len(piece.interiors) == 1
    assert piece.area == pytest.approx(truth.sum(), rel=0.05)
    assert (piece.centroid.x, piece.centroid.y) == pytest.approx(np.argwhere(truth).mean(axis=0)[::-1], abs=8)
    assert not piece.contains(shapely.Point(700, 550))
    assert all(type(value) is int for ring in found.polygons()["coordinates"][0] for value in ring[0])


@pytest.mark.parametrize("seed", range(40))
def test_polygons_cover_exactly_the_mask_whatever_it_looks_like(seed):
    rng = np.random.default_rng(seed)
    pixels = rng.random(rng.integers(1, 14, 2)) < rng.uniform(0.2, 0.9)
    height, width = pixels.shape
    mask = TissueMask(pixels, np.zeros((height, width, 3), np.uint8), (16 * width, 12 * height))
    geometry = shape(mask.polygons())
    assert all(piece.is_valid for piece in geometry.geoms)
    assert geometry.area == pixels.sum() * 16 * 12
    np.testing.assert_array_equal(polygon_points(mask), pixels)


def test_the_phantoms_polygons_are_its_mask(phantom):
    with open_slide(phantom.path) as slide:
        found = segment_tissue(slide)
    geometry = shape(found.polygons())
    width, height = phantom.size_px
    assert geometry.is_valid
    assert geometry.area / (width * height) == pytest.approx(found.mask.mean(), rel=1e-3)
    np.testing.assert_array_equal(polygon_points(found), found.mask)


@pytest.mark.parametrize("size_px", [(1, 1), (40, 3000), (300, 17)])
def test_slides_of_any_size_are_segmented(fake_slide, size_px):
    slide = fake_slide(picture(size_px[1], size_px[0], STAIN), mpp=4.0)
    found = segment_tissue(slide, TissueConfig(min_area_mm2=0))
    assert found.size_level0_px == size_px
    assert found.mask.shape == (max(1, round(size_px[1] / 2)), max(1, round(size_px[0] / 2)))


@pytest.mark.parametrize(
    "wrong",
    [
        {"tissue_mpp": 0.1},
        {"tissue_mpp": 101},
        *({name: area} for name in ("min_area_mm2", "min_hole_mm2") for area in (-1, np.nan, np.inf)),
    ],
)
def test_what_makes_no_sense_is_refused(wrong):
    with pytest.raises(ConfigError, match=r"give .*\d"):
        TissueConfig(**wrong)


@pytest.mark.data
class TestRealSlides:
    @pytest.mark.parametrize(
        ("name", "mpp", "share"),
        [
            ("CMU-1-Small-Region.svs", None, (0.3, 0.7)),
            ("tcga-cr-7395-01a-01-ts1.svs", 0.5, (0.5, 0.9)),
            ("C3L-00601-26_from_dzi.tif", 0.5, (0.2, 0.5)),
        ],
    )
    def test_stained_slides(self, data_dir, name, mpp, share):
        with open_slide(data_dir / "slides" / name, mpp=mpp) as slide:
            found = segment_tissue(slide)
        assert share[0] < found.mask.mean() < share[1]
        # darker than glass all over, and the glass is as good as white
        grey = found.thumbnail.mean(axis=2)
        assert grey[found.mask].mean() < grey[~found.mask].mean() - 20
        assert shape(found.polygons()).is_valid

    def test_fluorescence(self, data_dir):
        with open_slide(data_dir / "slides" / "test3-DAPI-2-387.ndpi") as slide:
            found = segment_tissue(slide)
        grey = found.thumbnail.max(axis=2).astype(float)
        assert 0.8 < found.mask.mean() < 0.92  # all of the section, not its nuclei alone
        assert grey[found.mask].mean() > 2 * grey[~found.mask].mean()
        assert shape(found.polygons()).is_valid

    @pytest.mark.parametrize("name", ["idc_14082", "idc_14306"])
    def test_all_annotated_tissue_is_found(self, data_dir, name):
        (truth_path,) = (data_dir / "slides").glob(f"{name}_grid50_*.png")
        truth = cv2.imread(str(truth_path), cv2.IMREAD_UNCHANGED)
        with open_slide(data_dir / "slides" / f"{name}_4mpp.tif") as slide:
            found = segment_tissue(slide)
        share = cv2.resize(found.mask.astype(np.float32), truth.shape[1::-1], interpolation=cv2.INTER_AREA)
        # both lattices begin at the slide's corner; a truth pixel is 50 level-0 pixels, a mask pixel 2
        share = np.zeros((truth.shape[0] * 25, truth.shape[1] * 25))
        share[: found.mask.shape[0], : found.mask.shape[1]] = found.mask
        share = share.reshape(truth.shape[0], 25, truth.shape[1], 25).mean(axis=(1, 3))
        assert (share[truth == 254] > 0.1).mean() > 0.98
        assert (share[truth > 0] > 0.1).mean() > 0.85


@pytest.mark.parametrize("seed", range(6))
def test_pale_small_slides_keep_their_tissue(tmp_path, seed):
    drawn = render_phantom(PhantomConfig(size_px=(1000, 800), seed=seed))
    pale = 255 - (255 - drawn.pixels.astype(float)) * 0.4
    write_slide(tmp_path / "a.svs", pale.astype(np.uint8), mpp=0.5)
    with open_slide(tmp_path / "a.svs") as slide:
        share = segment_tissue(slide).mask.mean()
    assert 0.85 * drawn.tissue.mean() < share < 1.45 * drawn.tissue.mean()  # its border is soft at 8 µm/px
