"""What every encoder keeps to: those of the registry, and the families behind a prefix."""

import numpy as np
import pytest
import timm
import torch

from features import ENCODERS, EncoderCard, EncoderConfig, find_encoder, load_encoder

WEIGHTLESS = "stain-stats"
SMALL = [WEIGHTLESS, "timm:test_vit", "timm:test_resnet", "timm:test_efficientnet"]  # tiny, random weights


def patches(n, side, seed=0):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(40, 240, (n, 8, 8, 3))
    fine = coarse.repeat(side // 8, axis=1).repeat(side // 8, axis=2) + rng.integers(
        -15, 16, (n, side, side, 3)
    )
    return fine.astype(np.uint8)


@pytest.fixture(scope="module", params=SMALL)
def encoder(request, tmp_path_factory):
    name = request.param
    if name == WEIGHTLESS:
        return load_encoder(EncoderConfig(encoder=name))
    path = tmp_path_factory.mktemp("weights") / "a.pth"
    # named by seed alone, and kept from every other test's numbers
    with torch.random.fork_rng():
        torch.manual_seed(4)
        torch.save(timm.create_model(name.removeprefix("timm:"), num_classes=0).state_dict(), path)
    return load_encoder(EncoderConfig(encoder=name, weights=str(path)))


def test_a_row_is_a_finite_float32_vector_of_the_stated_size(encoder):
    found = encoder.encode(patches(3, encoder.card.input_px))
    assert found.shape == (3, encoder.card.dim)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert np.ptp(found, axis=0).max() > 0  # different patches, different rows


def test_a_patch_in_a_batch_is_the_patch_alone(encoder):
    given = patches(5, encoder.card.input_px)
    together = encoder.encode(given)
    alone = np.concatenate([encoder.encode(given[k : k + 1]) for k in range(5)])
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)


def test_order_does_not_matter(encoder):
    given, order = patches(5, encoder.card.input_px), np.array([3, 0, 4, 2, 1])
    np.testing.assert_allclose(
        encoder.encode(given[order]), encoder.encode(given)[order], rtol=1e-4, atol=1e-5
    )


def test_the_same_patch_gives_the_same_vector(encoder):
    given = patches(2, encoder.card.input_px)
    np.testing.assert_array_equal(encoder.encode(given), encoder.encode(given.copy()))


def test_no_patch_gives_no_row(encoder):
    side = encoder.card.input_px
    found = encoder.encode(np.zeros((0, side, side, 3), np.uint8))
    assert found.shape == (0, encoder.card.dim)
    assert found.dtype == np.float32


def test_patches_are_not_changed(encoder):
    given = patches(2, encoder.card.input_px)
    before = given.copy()
    encoder.encode(given)
    np.testing.assert_array_equal(given, before)


@pytest.mark.parametrize("shade", [0, 255])
def test_a_flat_patch_is_nothing_special(encoder, shade):
    side = encoder.card.input_px
    assert np.isfinite(encoder.encode(np.full((1, side, side, 3), shade, np.uint8))).all()


def test_all_channels_count(encoder):
    given = patches(1, encoder.card.input_px)
    for channel in range(3):
        other = given.copy()
        other[..., channel] //= 2
        assert np.abs(encoder.encode(other) - encoder.encode(given)).max() > 1e-4


def test_it_does_not_touch_the_global_seed(encoder):
    np.random.seed(1)
    torch.manual_seed(1)
    expected = np.random.random(), torch.rand(()).item()
    np.random.seed(1)
    torch.manual_seed(1)
    encoder.encode(patches(1, encoder.card.input_px))
    assert (np.random.random(), torch.rand(()).item()) == expected


@pytest.mark.parametrize("name", list(ENCODERS))
def test_a_card_says_what_one_must_know(name):
    card = ENCODERS[name].card
    assert isinstance(card, EncoderCard)
    assert card.name == name
    assert card.dim > 0
    assert card.input_px % (card.px_multiple or card.input_px) == 0
    assert card.licence
    assert card.source
    assert card.pooling
    assert card.is_gated == card.access.startswith("https://")
    card.check_patch(card.input_px, card.mpp or 0.5)


@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        "convnext_atto",
        "swin_tiny_patch4_window7_224",
        "mobilenetv3_small_050",
        "efficientvit_b0",
        "eva02_tiny_patch14_224",
        "vit_base_patch16_siglip_224",
    ],
)
def test_any_card_by_prefix_knows_its_models_size(name):
    card = find_encoder(f"timm:{name}").card
    assert card.name == f"timm:{name}"
    with torch.device("meta"), torch.inference_mode():
        model = timm.create_model(name, num_classes=0).eval()
        assert model(torch.empty(2, 3, card.input_px, card.input_px)).shape == (2, card.dim)
