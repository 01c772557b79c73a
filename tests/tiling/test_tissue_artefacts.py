"""Tissue on slides as they are: stains and glass of many tints, pens, dirt, blur, padding, the dark."""

import cv2
import numpy as np
import pytest

from tiling import ConfigError, TissueConfig, TissueMask, measure_quality, segment_tissue

STAIN, GLASS = (190, 110, 170), (244, 243, 244)
PENS = [(30, 120, 60), (40, 90, 170), (210, 20, 30), (220, 20, 60), (25, 25, 25)]  # two reds


def textured(mask, colour=STAIN, *, seed=0, ground=GLASS):
    """Tissue at 8 µm/px as a scanner sees it: its stain varies from pixel to pixel."""
    noise = np.random.default_rng(seed).standard_normal(mask.shape).astype(np.float32)
    noise = 0.25 * noise + 0.5 * cv2.GaussianBlur(noise, (0, 0), 4) * 4
    density = -np.log(np.array(colour) / 255) * np.clip(1 + noise, 0.2, None)[..., None]
    pixels = np.array(ground) * np.exp(-density * mask[..., None])
    return np.clip(pixels + np.random.default_rng(1).normal(0, 0.7, pixels.shape), 0, 255).astype(np.uint8)


def dice(found, truth):
    return 2 * (found & truth).sum() / (found.sum() + truth.sum())


DISC = cv2.ellipse(np.zeros((500, 700), np.uint8), ((350, 250), (440, 320), 0), 1, -1).astype(bool)


@pytest.mark.parametrize("colour", [(240, 222, 236), STAIN, (120, 40, 110), (120, 80, 45), (165, 175, 205)])
@pytest.mark.parametrize("ground", [GLASS, (243, 238, 226), (235, 240, 244)])
def test_pale_strong_and_brown_stain_on_glass_of_any_tint(fake_slide, colour, ground):
    found = segment_tissue(fake_slide(textured(DISC, colour, ground=ground), mpp=8.0))
    assert dice(found.mask, DISC) >= 0.98
    assert found.quality.background == "bright"
    assert found.quality.pen_fraction == 0


@pytest.mark.parametrize("pen", PENS)
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


@pytest.mark.parametrize("width_um", [64, 320, 1600])
@pytest.mark.parametrize("pen", PENS)
def test_pens_of_every_colour_are_found_from_a_thin_line_on(fake_slide, pen, width_um):
    stroke = np.zeros(DISC.shape, np.uint8)
    cv2.line(stroke, (0, 120), (700, 300), 255, width_um // 8)
    cover = cv2.GaussianBlur(stroke, (0, 0), 0.7)[..., None] / 255
    found = segment_tissue(
        fake_slide((textured(DISC) * (np.array(pen) / 245) ** cover).astype(np.uint8), mpp=8.0)
    )
    assert found.mask[cover[..., 0] > 0.5].mean() < 0.05  # on the glass as on the tissue
    assert found.quality.pen_fraction == pytest.approx((cover > 0.5).mean(), rel=0.25)


def test_a_hairline_is_no_pen(fake_slide):
    stroke = np.zeros((500, 700), np.uint8)
    cv2.line(stroke, (250, 120), (450, 300), 255, 1)
    pixels = textured(DISC) * (np.array((210, 20, 30)) / 245) ** (0.4 * stroke[..., None] / 255)  # 3 of 8 µm
    found = segment_tissue(fake_slide(pixels.astype(np.uint8), mpp=8.0))
    assert found.quality.pen_fraction == 0
    assert dice(found.mask, DISC) >= 0.98


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
    assert found.mask[away].mean() < 1e-3  # a speck of dust touches the tissue
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
    empty = segment_tissue(fake_slide(textured(np.zeros((500, 500), bool)), mpp=8.0)).quality
    assert (empty.tissue_mm2, empty.focus, empty.stain_strength) == (0, 0, 0)
