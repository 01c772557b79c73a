from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tiling import ConfigError, ResolutionError, Slide
from tiling.heatmap import Heatmap
from tiling.legend import Legend
from tiling.overlay import (
    OverlayConfig,
    overlay,
    slide_picture,
    tint,
)
from tiling.picture_file import picture_fingerprint, write_picture

GLASS, TISSUE = (243, 243, 244), (205, 140, 180)
TUMOUR = Legend(class_name="tumour", threshold=0.5)
SQUARE = {  # level-0 pixels
    "type": "MultiPolygon",
    "coordinates": [[[[400, 400], [1200, 400], [1200, 1000], [400, 1000], [400, 400]]]],
}


class ArraySlide(Slide):
    """A slide in memory, with a pyramid of halves."""

    def __init__(self, pixels, *, id="slide", mpp=0.5):
        super().__init__(Path("slide.svs"), id=id, mpp=mpp, fallback_mpp=None)
        self.reader, self.properties = "array", {}
        self._levels = [
            pixels,
            np.ascontiguousarray(pixels[::2, ::2]),
            np.ascontiguousarray(pixels[::4, ::4]),
        ]
        self.level_sizes_px = tuple(level.shape[1::-1] for level in self._levels)

    def _read(self, x, y, level, size_px):
        assert (x, y) == (0, 0)
        return self._levels[level][: size_px[1], : size_px[0]]

    def _file_resolutions(self):
        return []

    def close(self):
        pass


def make_slide(size_px=(1600, 1200), **options):
    pixels = np.empty((size_px[1], size_px[0], 3), np.uint8)
    pixels[:] = GLASS
    pixels[400:1000, 400:1200] = TISSUE
    return ArraySlide(pixels, **options)


def make_heatmap(size_px=(1600, 1200), px=50.0):
    """Scores 0.1 left and 0.9 right in the square of tissue, but for one hole."""
    values = np.full((round(size_px[1] / px), round(size_px[0] / px)), np.nan, np.float32)
    values[8:20, 8:16], values[8:20, 16:24] = 0.1, 0.9
    values[10, 10] = np.nan
    return Heatmap(values, px, size_px)


def picture_in(sheet, longest_px, slide):
    """Cut the slide's picture out of the sheet: it stands a margin from the upper left corner."""
    picture = slide_picture(slide, longest_px)
    height, width = picture.shape[:2]
    margin = next(i for i in range(200) if sheet.getpixel((i, height // 2)) != (255, 255, 255)) + 1
    return np.asarray(sheet.crop((margin, margin, margin + width, margin + height))), picture


def in_scores(size_px):
    return make_heatmap().resampled(size_px)


@pytest.mark.parametrize("longest_px", [400, 800, 1600])
def test_only_scored_pixels_differ_from_the_slide(longest_px):
    slide = make_slide()
    sheet = overlay(slide, make_heatmap(), TUMOUR, config=OverlayConfig(longest_px=longest_px))
    found, plain = picture_in(sheet, longest_px, slide)
    values = in_scores((plain.shape[1], plain.shape[0]))
    differs = (found != plain).any(axis=2)
    np.testing.assert_array_equal(differs, ~np.isnan(values))


def test_the_outline_lies_on_the_border_of_the_tissue():
    slide = make_slide()
    sheet = overlay(
        slide, make_heatmap(), TUMOUR, tissue_polygons=SQUARE, config=OverlayConfig(longest_px=800)
    )
    found, plain = picture_in(sheet, 800, slide)
    values = in_scores((800, 600))
    drawn = (found != plain).any(axis=2) & np.isnan(values)
    y, x = np.nonzero(drawn)
    to_edge = np.minimum.reduce([abs(x - 199.5), abs(x - 599.5), abs(y - 199.5), abs(y - 499.5)])
    assert drawn.any()
    assert (to_edge <= 2).all()


def test_the_framed_region_is_the_one_at_or_above_the_threshold():
    slide = make_slide()
    sheet = overlay(slide, make_heatmap(), TUMOUR, config=OverlayConfig(longest_px=1600))
    found, _ = picture_in(sheet, 1600, slide)
    y, x = np.nonzero((found == 0).all(axis=2))
    assert (x.min(), x.max(), y.min(), y.max()) == (800, 1199, 400, 999)
    inside = (x > 810) & (x < 1190) & (y > 410) & (y < 990)
    assert not inside.any()
    unframed = overlay(
        slide, make_heatmap(), Legend(class_name="tumour"), config=OverlayConfig(longest_px=1600)
    )
    assert not (picture_in(unframed, 1600, slide)[0] == 0).all(axis=2).any()


def test_tint_grows_with_the_score_and_keeps_the_tissue_visible():
    picture = np.full((1, 101, 3), TISSUE, np.uint8)
    picture[0, ::2] = (120, 60, 130)
    values = np.linspace(0, 1, 101, dtype=np.float32)[None]
    painted = tint(picture, values, 0.65).astype(int)
    away = np.abs(painted - picture).sum(axis=2)[0]
    assert away[99] > away[51] > away[1] > 0
    contrast = np.abs(painted[0, :-1] - painted[0, 1:]).sum(axis=1)
    assert contrast.min() > 30
    assert (tint(picture, np.full_like(values, np.nan), 0.65) == picture).all()


def test_tint_can_be_ordered_without_seeing_hue():
    glass = np.full((1, 256, 3), GLASS, np.uint8)
    colours = tint(glass, np.linspace(0, 1, 256, dtype=np.float32)[None], 1.0)[0].astype(float)
    weights = np.array([0.2126, 0.7152, 0.0722])
    opaque = (colours @ weights)[80:]
    assert (np.diff(opaque) > -1).all()
    assert opaque[-1] - opaque[0] > 60


def test_scores_beyond_zero_to_one_do_not_wrap_round():
    picture = np.full((1, 4, 3), TISSUE, np.uint8)
    painted = tint(picture, np.array([[-0.2, 0, 1, 1.2]], np.float32), 0.65)
    np.testing.assert_array_equal(painted[0, [0, 3]], painted[0, [1, 2]])


def panel_of(sheet, slide, longest_px):
    width = slide_picture(slide, longest_px).shape[1]
    return np.asarray(sheet)[:, width + 60 :]


def test_the_legend_names_the_class_and_its_threshold():
    slide, config = make_slide(), OverlayConfig(longest_px=800)

    def panel(**legend):
        return panel_of(overlay(slide, make_heatmap(), Legend(**legend), config=config), slide, 800)

    plain = panel(class_name="tumour")
    assert (plain < 60).all(axis=2).sum() > 200  # letters
    for other in ({"class_name": "stroma"}, {"class_name": "tumour", "threshold": 0.4}):
        assert panel(**other).shape != plain.shape or (panel(**other) != plain).any()
    low, high = (panel(class_name="tumour", threshold=t) for t in (0.2, 0.8))
    assert (low != high).any()


def test_the_prediction_of_the_slide_claims_no_certainty():
    slide, config = make_slide(), OverlayConfig(longest_px=400)

    def panel(probability):
        legend = Legend(class_name="tumour", prediction=("tumour", probability))
        return np.asarray(overlay(slide, make_heatmap(), legend, config=config))

    np.testing.assert_array_equal(panel(0.9999), panel(1.0))
    assert (panel(0.99) != panel(0.9999)).any()


def test_the_scale_bar_has_its_length():
    slide = make_slide(mpp=2.0)  # at 800 px a pixel is 4 µm
    sheet = np.asarray(overlay(slide, make_heatmap(), TUMOUR, config=OverlayConfig(longest_px=800)))
    foot = (sheet[-60:] == (28, 28, 30)).all(axis=2)
    longest = max(foot.sum(axis=1))
    assert longest * 4.0 == pytest.approx(500, abs=4)


@pytest.mark.parametrize("size_px", [(60, 1600), (1600, 60), (40, 40)])
def test_slides_of_any_shape_keep_their_legend_whole(size_px):
    pixels = np.full((size_px[1], size_px[0], 3), GLASS, np.uint8)
    heatmap = Heatmap(np.full((2, 2), 0.7, np.float32), max(size_px) / 2, size_px)
    sheet = np.asarray(overlay(ArraySlide(pixels), heatmap, TUMOUR))
    ink = np.asarray((sheet < 60).all(axis=2))
    assert not ink[:10].any()
    assert not ink[-8:].any()
    assert not ink[:, -8:].any()


@pytest.mark.parametrize(
    "name",
    [
        "x" * 5000,
        "a/" * 60 + "end",
        "žluťoučký kůň",
        "肺癌\n\t1",
        "\udcff\u202e\x00",
        "",
        "  ",
        "🔬" * 40,
        "%s{0}",
    ],
)
def test_hostile_names_are_drawn_within_the_panel(tmp_path, name):
    legend = Legend(class_name=name, threshold=0.5, prediction=(name, 0.7))
    path = tmp_path / "o.png"
    config = OverlayConfig(longest_px=400)
    write_picture(
        path,
        overlay(make_slide(id=name), make_heatmap(), legend, config=config),
        fingerprint="f00",
        about="slide",
    )
    sheet = np.asarray(Image.open(path))
    assert not (sheet[:, -8:] < 60).all(axis=2).any()
    assert not (sheet[-8:] < 60).all(axis=2).any()
    assert picture_fingerprint(path) == "f00"


def test_the_fingerprint_round_trips(tmp_path):
    path = tmp_path / "deep" / "o.png"
    assert picture_fingerprint(path) is None
    write_picture(
        path,
        overlay(make_slide(), make_heatmap(), TUMOUR, tissue_polygons=SQUARE),
        fingerprint="abc123",
        about="slide",
    )
    assert picture_fingerprint(path) == "abc123"
    assert list(path.parent.iterdir()) == [path]
    other = tmp_path / "other.png"
    Image.new("RGB", (9, 9)).save(other)
    assert picture_fingerprint(other) is None


def test_a_damaged_picture_has_no_fingerprint(tmp_path):
    path = tmp_path / "o.png"
    write_picture(path, overlay(make_slide(), make_heatmap(), TUMOUR), fingerprint="abc123", about="slide")
    whole = path.read_bytes()
    for damaged in (b"", whole[:20], whole[:60], b"not a picture", whole[:8] + bytes(60)):
        path.write_bytes(damaged)
        assert picture_fingerprint(path) is None


def test_a_slide_without_scores_or_tissue_is_drawn():
    slide = make_slide()
    nothing = Heatmap(np.full((24, 32), np.nan, np.float32), 50.0, (1600, 1200))
    none = {"type": "MultiPolygon", "coordinates": []}
    sheet = overlay(slide, nothing, TUMOUR, tissue_polygons=none, config=OverlayConfig(longest_px=800))
    found, plain = picture_in(sheet, 800, slide)
    np.testing.assert_array_equal(found, plain)


def test_a_heatmap_of_another_slide_is_refused():
    with pytest.raises(ValueError, match="of a slide of"):
        overlay(make_slide(), make_heatmap((1600, 1000)), TUMOUR)


def test_a_slide_without_resolution_is_refused():
    with pytest.raises(ResolutionError):
        overlay(make_slide(mpp=None), make_heatmap(), TUMOUR)


@pytest.mark.parametrize("wrong", [{"longest_px": 0}, {"opacity": 0.0}, {"opacity": 1.5}])
def test_options_are_checked(wrong):
    with pytest.raises(ConfigError):
        OverlayConfig(**wrong)


def test_framed_is_where_all_classes_together_reach_the_threshold():
    slide, config = make_slide(), OverlayConfig(longest_px=1600)
    one = make_heatmap()
    together = Heatmap(one.values + 0.45, one.px_level0, one.size_level0_px)  # 0.55 left, 1.35 right
    legend = Legend(class_name="tumour", threshold=0.5, is_threshold_of_all=True)
    sheet = overlay(slide, one, legend, together=together, config=config)
    y, x = np.nonzero((picture_in(sheet, 1600, slide)[0] == 0).all(axis=2))
    assert (x.min(), x.max(), y.min(), y.max()) == (400, 1199, 400, 999)
    with pytest.raises(ValueError, match="of a slide of"):
        overlay(slide, one, legend, together=make_heatmap((1600, 1000)), config=config)


def test_the_legend_says_what_the_threshold_is_of_and_that_scores_were_smoothed():
    slide, config = make_slide(), OverlayConfig(longest_px=800)
    assert Legend(class_name="a", threshold=0.5).threshold_text == "p at least 0.5"
    of_all = Legend(class_name="a", threshold=0.5, is_threshold_of_all=True)
    assert of_all.threshold_text == "any class at least 0.5"
    plain, smoothed = (
        panel_of(
            overlay(slide, make_heatmap(), Legend(class_name="a", smooth_um=um), config=config), slide, 800
        )
        for um in (0.0, 50.0)
    )
    assert plain.shape != smoothed.shape or (plain != smoothed).any()
