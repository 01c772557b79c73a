"""What every encoder keeps to: those of the registry, and the families behind a prefix."""

import warnings

import numpy as np
import pytest
import timm
import torch

from features import ENCODERS, EncoderCard, EncoderConfig, find_encoder, load_encoder
from tiling import ConfigError

WEIGHTLESS = "stain-stats"
SHIPPED = "embedded"
# what needs no weights or brings its own; with random ones: timm's tiny test models, a named one, and an
# exported file
SMALL = [
    WEIGHTLESS,
    SHIPPED,
    "timm:test_vit",
    "timm:test_resnet",
    "timm:test_efficientnet",
    "lunit-vits16",
    "torchscript",
]


def patches(n, side, seed=0):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(40, 240, (n, 8, 8, 3))
    fine = coarse.repeat(side // 8, axis=1).repeat(side // 8, axis=2) + rng.integers(
        -15, 16, (n, side, side, 3)
    )
    return fine.astype(np.uint8)


def random_model(name):
    # named by seed alone, and kept from every other test's numbers
    with torch.random.fork_rng():
        torch.manual_seed(4)
        return timm.create_model(name, num_classes=0).eval()


@pytest.fixture(scope="module", params=SMALL)
def encoder(request, tmp_path_factory):
    name, folder = request.param, tmp_path_factory.mktemp("weights")
    if name == WEIGHTLESS:
        return load_encoder(EncoderConfig(encoder=name))
    if name == SHIPPED:
        return load_encoder(EncoderConfig(encoder=name, token_side=2))
    if name == "torchscript":
        path = folder / "a.pt"
        with warnings.catch_warnings():  # torch would rather have another format
            warnings.simplefilter("ignore")
            torch.jit.trace(random_model("test_resnet"), torch.zeros(2, 3, 224, 224)).save(path)
        return load_encoder(EncoderConfig(encoder=f"torchscript:{path}"))
    timm_name = {"lunit-vits16": "vit_small_patch16_224"}.get(name, name.removeprefix("timm:"))
    torch.save(random_model(timm_name).state_dict(), folder / "a.pth")
    side = 2 if find_encoder(name).card.token_dim else 0
    return load_encoder(EncoderConfig(encoder=name, weights=str(folder / "a.pth"), token_side=side))


@pytest.fixture(scope="module")
def tokens_of(encoder):
    if encoder.card.token_dim is None:
        pytest.skip("no tokens on a raster")
    return encoder.encode_tokens


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


def test_tokens_come_with_the_vector_and_have_the_stated_size(encoder, tokens_of):
    given = patches(3, encoder.card.input_px)
    features, tokens = tokens_of(given)
    assert tokens.shape == (3, 2, 2, encoder.card.token_dim)
    assert tokens.dtype == np.float32
    assert np.isfinite(tokens).all()
    np.testing.assert_allclose(features, encoder.encode(given), rtol=1e-4, atol=1e-5)


def test_the_tokens_of_a_patch_in_a_batch_are_those_of_the_patch_alone(encoder, tokens_of):
    given = patches(3, encoder.card.input_px)
    alone = np.concatenate([tokens_of(given[k : k + 1])[1] for k in range(3)])
    np.testing.assert_allclose(tokens_of(given)[1], alone, rtol=1e-4, atol=1e-4)


def test_no_patch_has_no_tokens(encoder, tokens_of):
    side = encoder.card.input_px
    features, tokens = tokens_of(np.zeros((0, side, side, 3), np.uint8))
    assert features.shape == (0, encoder.card.dim)
    assert tokens.shape == (0, 2, 2, encoder.card.token_dim)


def test_where_there_are_no_tokens_that_is_told(encoder):
    if encoder.card.token_dim is not None:
        pytest.skip("it has tokens")
    with pytest.raises(ConfigError, match="gives no tokens"):
        encoder.encode_tokens(patches(1, encoder.card.input_px))


def test_only_what_has_weights_tells_their_digest(encoder):
    assert (encoder.weights_digest == "") == (encoder.card.name == WEIGHTLESS)


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
