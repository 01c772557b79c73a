from types import SimpleNamespace

import pytest
import torch

from features.pooling import AttentionalPooler, token_raster
from tiling import ConfigError


def sequence(side, n_prefix):
    """Tokens that tell their place: (row, column), after prefix tokens of -1."""
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    places = torch.stack([rows, columns], dim=-1).reshape(1, side * side, 2).float()
    return torch.cat([torch.full((1, n_prefix, 2), -1.0), places], dim=1)


@pytest.mark.parametrize("n_prefix", [0, 1, 5])
def test_tokens_lie_where_they_were_cut(n_prefix):
    trunk = SimpleNamespace(num_prefix_tokens=n_prefix)
    raster = token_raster(trunk, sequence(6, n_prefix), 6)
    assert raster.shape == (1, 6, 6, 2)
    assert raster[0, 4, 1].tolist() == [4, 1]


def test_a_coarser_raster_is_the_mean_of_neighbours():
    trunk = SimpleNamespace(num_prefix_tokens=1)
    coarse = token_raster(trunk, sequence(6, 1), 3)
    assert coarse.shape == (1, 3, 3, 2)
    assert coarse[0, 2, 0].tolist() == [4.5, 0.5]
    # 6 in 4: windows of two that overlap where they must
    assert token_raster(trunk, sequence(6, 1), 4)[0, :, 0, 0].tolist() == [0.5, 1.5, 3.5, 4.5]


def test_a_raster_with_channels_last_is_taken_as_it_is():
    tokens = sequence(4, 0).reshape(1, 4, 4, 2)
    torch.testing.assert_close(token_raster(SimpleNamespace(), tokens, 4), tokens)


def test_no_more_tokens_than_there_are():
    with pytest.raises(ConfigError, match=r"7 × 7 tokens.*6 × 6.*--token-side 6"):
        token_raster(SimpleNamespace(num_prefix_tokens=1), sequence(6, 1), 7)


@pytest.mark.filterwarnings("ignore")  # of a tracer, which engines are
@torch.inference_mode()
def test_a_traced_pooler_takes_other_batches():
    pooler = AttentionalPooler(24, 16, heads=4).eval()
    traced = torch.jit.trace(pooler, torch.randn(2, 5, 24))
    tokens = torch.randn(3, 5, 24)
    torch.testing.assert_close(traced(tokens), pooler(tokens))
