import json

import numpy as np
import pytest
import torch

from features import EncoderConfig, find_encoder, load_encoder
from tiling import ConfigError

# torch would rather have another format than the one read here
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*torch.jit:FutureWarning", "ignore:.*torch.jit:DeprecationWarning"
)


class Colour(torch.nn.Module):
    """The mean of each channel, times a parameter."""

    def __init__(self, factor=1.0):
        super().__init__()
        self.factor = torch.nn.Parameter(torch.tensor(factor))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean((2, 3)) * self.factor


class Map(torch.nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images


def saved(network, path, *, frozen=False):
    script = torch.jit.script(network.eval())
    (torch.jit.freeze(script) if frozen else script).save(path)
    return f"torchscript:{path}"


def patches(side=32):
    return np.random.default_rng(0).integers(0, 256, (3, side, side, 3)).astype(np.uint8)


def test_it_computes_what_was_exported_with_the_norm_beside_it(tmp_path):
    name = saved(Colour(2.0), tmp_path / "a.pt")
    told = {"input_px": 32, "mpp": 0.5, "mean": [0.1, 0.2, 0.3], "std": [0.5, 0.5, 1], "licence": "mine"}
    (tmp_path / "a.json").write_text(json.dumps(told))
    encoder = load_encoder(EncoderConfig(encoder=name))
    assert (encoder.card.dim, encoder.card.input_px, encoder.card.mpp) == (3, 32, 0.5)
    assert encoder.card.name == name
    expected = 2 * (patches().mean(axis=(1, 2)) / 255 - (0.1, 0.2, 0.3)) / (0.5, 0.5, 1)
    np.testing.assert_allclose(encoder.encode(patches()), expected, atol=1e-5)
    with pytest.raises(ConfigError, match="wants 32 px"):
        encoder.card.check_patch(224, 0.5)


def test_what_is_not_told_is_imagenets_and_the_card_says_so(tmp_path):
    card = find_encoder(saved(Colour(), tmp_path / "a.pt")).card
    assert card.input_px == 224
    assert card.mean == (0.485, 0.456, 0.406)
    assert "ImageNet" in card.pooling


@pytest.mark.parametrize("frozen", [False, True])
def test_its_fingerprint_follows_the_file(tmp_path, frozen):
    paths = [tmp_path / "one.pt", tmp_path / "two.pt"]
    names = [saved(Colour(float(k)), path, frozen=frozen) for k, path in enumerate(paths, start=1)]
    one, two, again = (load_encoder(EncoderConfig(encoder=name)) for name in (*names, names[0]))
    assert one.fingerprint == again.fingerprint != two.fingerprint
    assert len({one.weights_digest, two.weights_digest}) == 2
    assert len(one.weights_digest) == 64


@pytest.mark.parametrize(
    ("told", "match"),
    [
        ("{", "is no JSON object"),
        ("[1]", "is no JSON object"),
        ('{"dim": 3}', "tells 'dim'"),
    ],
)
def test_a_json_that_says_what_no_card_has_is_refused(tmp_path, told, match):
    name = saved(Colour(), tmp_path / "a.pt")
    (tmp_path / "a.json").write_text(told)
    with pytest.raises(ConfigError, match=match):
        find_encoder(name)


def test_what_is_no_encoder_is_refused(tmp_path):
    (tmp_path / "text.pt").write_text("hello")
    torch.save({"a": torch.zeros(1)}, tmp_path / "weights.pt")
    for path in (tmp_path / "text.pt", tmp_path / "weights.pt"):
        with pytest.raises(ConfigError, match="is no TorchScript"):
            find_encoder(f"torchscript:{path}")
    with pytest.raises(ConfigError, match="no such file"):
        find_encoder(f"torchscript:{tmp_path / 'none.pt'}")
    with pytest.raises(ConfigError, match=r"yields \(1, 3, 224, 224\), wanted \(n, dim\)"):
        find_encoder(saved(Map(), tmp_path / "map.pt"))
    linear = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 2))
    with pytest.raises(
        ConfigError, match=r"takes no float images \(1, 3, 224, 224\).*input_px in linear.json"
    ):
        find_encoder(saved(linear, tmp_path / "linear.pt"))


def test_weights_beside_it_are_refused(tmp_path):
    name = saved(Colour(), tmp_path / "a.pt")
    with pytest.raises(ConfigError, match="leave out --weights"):
        load_encoder(EncoderConfig(encoder=name, weights=str(tmp_path / "a.pt")))
