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
    measure_quality,
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
    assert told(min_area_mm2=100) == (0, 0)


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
    "wrong", [{"tissue_mpp": 0.1}, {"tissue_mpp": 101}, {"min_area_mm2": -1}, {"min_hole_mm2": -1}]
)
def test_what_makes_no_sense_is_refused(wrong):
    with pytest.raises(ConfigError, match=r"give .*\d"):
        TissueConfig(**wrong)


def textured(mask, colour=STAIN, *, seed=0, ground=GLASS):
    """Tissue at 8 µm/px as a scanner sees it: its stain varies from pixel to pixel."""
    noise = np.random.default_rng(seed).standard_normal(mask.shape).astype(np.float32)
    noise = 0.25 * noise + 0.5 * cv2.GaussianBlur(noise, (0, 0), 4) * 4
    density = -np.log(np.array(colour) / 255) * np.clip(1 + noise, 0.2, None)[..., None]
    pixels = np.array(ground) * np.exp(-density * mask[..., None])
    return np.clip(pixels + np.random.default_rng(1).normal(0, 0.7, pixels.shape), 0, 255).astype(np.uint8)


def dice(found, truth):
    return 2 * (found & truth).sum() / (found.sum() + truth.sum())


DISC = ellipse(500, 700, (350, 250), (220, 160))


@pytest.mark.parametrize("colour", [(240, 222, 236), STAIN, (120, 40, 110), (120, 80, 45), (165, 175, 205)])
@pytest.mark.parametrize("ground", [GLASS, (243, 238, 226), (235, 240, 244)])
def test_pale_strong_and_brown_stain_on_glass_of_any_tint(fake_slide, colour, ground):
    found = segment_tissue(fake_slide(textured(DISC, colour, ground=ground), mpp=8.0))
    assert dice(found.mask, DISC) >= 0.98
    assert found.quality.background == "bright"
    assert found.quality.pen_fraction == 0


@pytest.mark.parametrize("pen", [(30, 120, 60), (40, 90, 170), (210, 20, 30), (25, 25, 25)])
def test_ink_over_tissue_costs_little_but_the_tissue_under_it(fake_slide, pen):
    stroke = np.zeros(DISC.shape, np.uint8)
    cv2.line(stroke, (60, 60), (500, 300), 255, 40)
    cover = cv2.GaussianBlur(stroke, (0, 0), 1.5)[..., None] / 255
    pixels = textured(DISC) * (np.array(pen) / 245) ** cover
    found = segment_tissue(fake_slide(pixels.astype(np.uint8), mpp=8.0))
    ink = cover[..., 0] > 0.5
    assert found.mask[ink].mean() < 0.02
    assert (~found.mask[DISC & ~ink]).mean() < 0.02
    assert found.quality.pen_fraction == pytest.approx(ink.mean(), rel=0.15)


def test_coverslip_edges_dust_and_shadows_are_no_tissue(fake_slide):
    light = textured(DISC).astype(np.float32)
    lines, dust, shadow = (np.zeros(DISC.shape, np.float32) for _ in range(3))
    cv2.line(lines, (0, 40), (700, 60), 1, 4)
    rng = np.random.default_rng(0)
    for x, y in rng.integers(0, 500, (60, 2)):
        cv2.circle(dust, (int(x), int(y)), 3, 1, -1)
    cv2.circle(shadow, (620, 420), 50, 1, -1)
    shadow = cv2.GaussianBlur(shadow, (0, 0), 20)
    for layer, absorbs in ((lines, (0.9, 0.8, 0.6)), (dust, (1.5, 1.6, 1.7)), (shadow, (0.3, 0.3, 0.3))):
        light *= np.exp(-layer[..., None] * np.array(absorbs))
    found = segment_tissue(fake_slide(light.astype(np.uint8), mpp=8.0))
    away = ~cv2.dilate(DISC.astype(np.uint8), np.ones((11, 11))).astype(bool)
    assert not found.mask[away].any()
    assert dice(found.mask, DISC) >= 0.97


def test_the_blurred_part_of_a_sharp_slide_goes(fake_slide):
    pixels = textured(DISC)
    left = np.arange(700) < 300
    pixels[:, left] = cv2.GaussianBlur(pixels, (0, 0), 4)[:, left]
    found = segment_tissue(fake_slide(pixels, mpp=8.0)).mask
    assert dice(found, DISC & ~left) >= 0.95


@pytest.mark.parametrize("blur_px", [2, 4])
def test_a_slide_blurred_all_over_keeps_its_tissue_and_its_quality_tells(fake_slide, blur_px):
    sharp = textured(DISC)
    told = [
        segment_tissue(fake_slide(pixels, mpp=8.0))
        for pixels in (sharp, cv2.GaussianBlur(sharp, (0, 0), blur_px))
    ]
    assert dice(told[1].mask, DISC) >= 0.95
    assert told[0].quality.focus > 0.08
    assert told[1].quality.focus < 0.03


def test_black_padding_is_neither_tissue_nor_ink_nor_a_dark_slide(fake_slide):
    pixels = np.zeros((1400, 1500, 3), np.uint8)
    pixels[900:, 800:] = textured(DISC)
    found = segment_tissue(fake_slide(pixels, mpp=8.0))
    truth = np.zeros((1400, 1500), bool)
    truth[900:, 800:] = DISC
    assert found.quality.background == "bright"
    assert found.quality.pen_fraction == 0
    assert dice(found.mask, truth) >= 0.98


def test_the_background_can_be_told(fake_slide):
    slide = fake_slide(textured(DISC), mpp=8.0)
    assert segment_tissue(slide, TissueConfig(background="bright")).quality.background == "bright"
    dark = segment_tissue(slide, TissueConfig(background="dark"))
    assert dark.quality.background == "dark"
    assert dark.mask[~DISC].mean() > 0.9  # the glass is what shines
    with pytest.raises(ConfigError, match="choose from auto, bright, dark"):
        TissueConfig(background="black")


def test_sparse_nuclei_on_dim_tissue_are_one_piece(fake_slide):
    rng = np.random.default_rng(0)
    nuclei = cv2.GaussianBlur((rng.random(DISC.shape) < 0.05).astype(np.float32), (0, 0), 0.8) * 600
    pixels = (DISC * (12 + nuclei) + rng.uniform(0, 4, DISC.shape))[..., None] * np.array([0.1, 0.2, 1.0])
    found = segment_tissue(fake_slide(np.clip(pixels, 0, 255).astype(np.uint8), mpp=8.0))
    assert found.quality.background == "dark"
    assert dice(found.mask, DISC) >= 0.97
    assert len(found.polygons()["coordinates"]) == 1


def test_quality_has_units(fake_slide):
    slide = fake_slide(textured(DISC), mpp=8.0)
    found = segment_tissue(slide)
    assert found.quality.tissue_mm2 == pytest.approx(DISC.sum() * 64e-6, rel=0.03)
    density = -np.log10(np.array(STAIN) / 255).mean()
    assert found.quality.stain_strength == pytest.approx(density, rel=0.1)
    assert measure_quality(found.mask, found.thumbnail, 8.0) == found.quality
    assert TissueMask(found.mask, found.thumbnail, slide.size_px).quality is None
    empty = segment_tissue(fake_slide(picture(500, 500), mpp=8.0)).quality
    assert (empty.tissue_mm2, empty.focus, empty.stain_strength) == (0, 0, 0)


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
