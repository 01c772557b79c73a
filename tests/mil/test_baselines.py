"""The parts of the baselines, against answers that are known."""

import importlib
import sys

import numpy as np
import pytest
import torch
from torchmil.nn import NystromAttention

from mil import LEARNERS, Bag, Classes
from mil.bag_term import Balance
from mil.baselines.attention import attended_probability, drawn_from, padded
from mil.baselines.clam import ClamConfig, ClamNet
from mil.baselines.dtfd import DtfdConfig, DtfdNet
from mil.baselines.transmil import TransmilConfig, TransmilNet, class_attention
from mil.net_learner import NetConfig, Step
from tiling import ConfigError

BINARY = Classes(("negative", "tumour"), has_negative=True)
THREE = Classes(("normal", "a", "b"), has_negative=True)
NETS = ("abmil", "gated_abmil", "clam_sb", "clam_mb", "dsmil", "dtfd", "transmil")
# one pseudo-bag, and no clustering, whose mean is over tiles and not over bags
ALONE = {"dtfd": {"pseudo_bags": 1}, "clam_sb": {"clustering_weight": 0}, "clam_mb": {"clustering_weight": 0}}


def test_a_noisy_or_does_not_call_a_slide_positive_for_its_size():
    draw = np.random.default_rng(0)

    def bag(n_tiles, is_positive):
        features = draw.normal(size=(n_tiles, 6))
        features[: n_tiles // 5 if is_positive else 0, 0] += 4
        return Bag(f"{n_tiles} {is_positive}", features.astype(np.float32))

    learner = LEARNERS["noisy_or"](NetConfig(tiles_per_bag=50, epochs=100))
    learner.fit([bag(200, i % 2) for i in range(40)], [i % 2 for i in range(40)], BINARY, seed=0)
    for n_tiles in (50, 400, 4000):
        negative, positive = (
            [learner.predict(bag(n_tiles, is_positive)).probability[1] for _ in range(6)]
            for is_positive in (False, True)
        )
        assert max(negative) < 0.5 < min(positive), n_tiles


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def step(counts, labels, classes=THREE):
    even = Balance(torch.ones(len(classes.names)), torch.zeros(len(classes.names)))
    return Step(torch.tensor(counts), torch.tensor(labels), classes, even, generator())


def test_bags_side_by_side_are_filled_with_their_own():
    values = torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    bags, is_real = padded(values, torch.tensor([1, 3]))
    assert bags[..., 0].tolist() == [[1, 1, 1], [2, 3, 4]]
    assert is_real.tolist() == [[True, False, False], [True, True, True]]


@pytest.mark.parametrize("name", NETS)
def test_bags_of_several_sizes_in_one_step_are_read_as_each_alone(name):
    kind = LEARNERS[name].config_class
    learner = LEARNERS[name](kind(**ALONE.get(name, {}), hidden=8))
    learner.dim, learner.classes = 3, THREE
    net, draw = learner._new_net(generator()), generator(2)
    for parameter in net.parameters():
        parameter.data.normal_(generator=draw)
    counts, labels = [2, 30, 7, 1], [1, 0, 2, 1]
    embedded = net.embed(5 * torch.randn(sum(counts), 3, generator=generator(1)))
    together = net.loss(embedded, step(counts, labels))
    parts = zip(embedded.split(counts), counts, labels, strict=True)
    alone = [net.loss(part, step([count], [label])) for part, count, label in parts]
    torch.testing.assert_close(together, torch.stack(alone).mean())


def test_an_average_tile_has_half_of_the_slides_evidence():
    found = attended_probability(torch.full((5, 1), 0.2), torch.tensor([[2.0]]))
    torch.testing.assert_close(found[:, 1], torch.sigmoid(torch.tensor(2.0)).expand(5) / 2)


def test_tiles_are_in_the_order_of_their_attention_and_below_the_slide():
    weights = torch.randn(50, 2, generator=generator()).softmax(0)
    pooled = torch.tensor([[3.0, 1.0]])
    found = attended_probability(weights, pooled)
    torch.testing.assert_close(found.sum(1), torch.ones(50))
    assert torch.equal(found[:, 1].argsort(), weights[:, 0].argsort())
    slide = torch.tensor([[0.0, 3.0, 1.0]]).softmax(1)
    assert bool((found[:, 1:] < slide[:, 1:]).all())
    assert bool((found >= 0).all())


def test_attention_of_none_is_no_evidence():
    found = attended_probability(torch.zeros(3, 1), torch.tensor([[4.0]]))
    assert found.tolist() == [[1, 0]] * 3


def test_the_library_draws_from_the_generator():
    def draw(seed):
        with drawn_from(generator(seed)):
            return torch.randn(3)

    torch.manual_seed(0)
    first = draw(1)
    torch.manual_seed(5)
    assert torch.equal(draw(1), first)
    assert not torch.equal(draw(2), first)


@pytest.mark.parametrize("n", [1, 7, 8, 9, 40])
def test_the_class_token_attends_as_the_librarys_matrix_says(n):
    with drawn_from(generator()):
        attention = NystromAttention(16, att_dim=16, n_heads=4, n_landmarks=8)
        tokens = torch.randn(1, n, 16)
    matrix = attention(tokens, return_att=True)[1]
    torch.testing.assert_close(class_attention(attention, tokens), matrix[0, :, 0].mean(0))


def test_reading_a_bag_leaves_no_hook_behind():
    net = TransmilNet(3, 2, TransmilConfig(hidden=8, landmarks=4), generator())
    features = torch.randn(11, 3, generator=generator(1))
    with torch.inference_mode():
        first, second = (net.read(net.embed(features)) for _ in range(2))
    assert torch.equal(first[1], second[1])
    assert not net.transformer.layers[-1].att_module._forward_pre_hooks


def test_clustering_calls_the_most_and_least_attended_by_their_bag():
    net = ClamNet(3, 1, 1, ClamConfig(hidden=4, clustered=2), generator())
    margins = torch.tensor([[2.0, -1.0, 0.5, 7.0], [3.0, 0.0, -2.0, 9.0]])[..., None].requires_grad_()
    attention = torch.tensor([[4.0, 3.0, 2.0, 1.0], [3.0, 2.0, 1.0, 0.0]])[..., None]
    is_real = torch.tensor([[True] * 4, [True, True, True, False]])
    found = net._clustering(margins, attention, is_real, torch.tensor([[True], [False]]))
    # of the first bag two are called positive and two negative, of the second two negative
    softplus = torch.nn.functional.softplus
    expected = softplus(torch.tensor([1 - 2.0, 1 + 1.0, 1 + 0.5, 1 + 7.0, 1 + 3.0, 1 + 0.0])).mean()
    torch.testing.assert_close(found, expected)
    found.backward()
    assert margins.grad is not None
    assert margins.grad[1, 2:].tolist() == [[0], [0]]


def test_one_margin_is_the_smooth_svm_of_two_classes():
    logits, truth = torch.randn(6, 2, generator=generator()), torch.tensor([1, 0, 1, 1, 0, 0])
    raised = logits + (1 - torch.nn.functional.one_hot(truth, 2))
    expected = torch.nn.functional.cross_entropy(raised, truth)
    margin = logits[:, 1] - logits[:, 0]
    torch.testing.assert_close(torch.nn.functional.softplus(1 - (2 * truth - 1) * margin).mean(), expected)


def test_with_one_positive_class_both_branchings_of_clam_are_one():
    def weights(name, classes):
        learner = LEARNERS[name]()
        learner.dim, learner.classes = 3, classes
        return learner._new_net(generator()).state_dict()

    single, several = weights("clam_sb", BINARY), weights("clam_mb", BINARY)
    assert all(torch.equal(single[key], several[key]) for key in single.keys() | several.keys())
    assert weights("clam_mb", THREE).keys() - weights("clam_sb", THREE).keys()


def test_pseudo_bags_are_near_equal_and_of_one_tile_at_least():
    net = DtfdNet(3, 1, DtfdConfig(hidden=4, pseudo_bags=4), generator())
    n_parts, sizes = net._parts(torch.tensor([11, 2, 4]))
    assert n_parts.tolist() == [4, 2, 4]
    assert sizes.tolist() == [3, 3, 3, 2, 1, 1, 1, 1, 1, 1]


def test_what_tiles_add_is_the_first_tiers_margin():
    net = DtfdNet(3, 1, DtfdConfig(hidden=4), generator())
    embedded = net.embed(torch.randn(12, 3, generator=generator(1)))
    tiles = net.read(embedded)[1]
    _, whole = net.first(embedded, torch.tensor([12]))
    torch.testing.assert_close(torch.logit(tiles[:, 1]).mean(), whole[0, 0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("abmil", {"attention": 0}),
        ("clam_sb", {"clustered": 0}),
        ("clam_mb", {"clustering_weight": 1.0}),
        ("dtfd", {"pseudo_bags": 0}),
        ("transmil", {"heads": 3}),
        ("transmil", {"landmarks": 0}),
        ("dsmil", {"epochs": 0}),
        ("mix", {"learning_rate": 0.0}),
        ("mix", {"learning_rate": float("nan")}),
        ("mix", {"learning_rate": float("inf")}),
        ("mix", {"weight_decay": float("nan")}),
    ],
)
def test_options_that_cannot_be_are_refused(name, options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        LEARNERS[name].config_class(**options)


def test_tiles_per_bag_bounds_what_a_step_sees():
    draw = np.random.default_rng(0)
    bags = [Bag(str(i), draw.normal(size=(50, 3)).astype(np.float32)) for i in range(4)]
    learner = LEARNERS["abmil"](LEARNERS["abmil"].config_class(epochs=1, tiles_per_bag=5))
    learner.dim, learner.classes = 3, BINARY
    seen = []
    new_net = learner._new_net

    def watched(told):
        net = new_net(told)
        loss = net.loss
        net.loss = lambda embedded, step: seen.append(step.counts.tolist()) or loss(embedded, step)
        return net

    learner._new_net = watched
    learner.fit(bags, [0, 1, 0, 1], BINARY, seed=0)
    assert seen == [[5, 5, 5, 5]]


def test_without_the_library_the_way_out_is_told(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.delitem(sys.modules, "mil.baselines")
    with pytest.raises(ConfigError, match="torchmil") as told:
        importlib.import_module("mil.baselines")
    assert "slidebag[baselines]" in told.value.hint
