"""Witnesses: what they learn from bag labels, and that they speak on one scale."""

import numpy as np
import torch

from mil.bag_term import POOLINGS, Balance
from mil.instance.pseudo_labels import candidates_of
from mil.instance.witness import WITNESSES, Witnesses
from mil.learner import Bag, Classes
from mil.packed import PackedBags

BINARY = Classes(("negative", "tumour"), has_negative=True)


def bags_of(n_bags=20, n=50, dim=6, seed=0):
    draw = np.random.default_rng(seed)
    bags, labels = [], [i % 2 for i in range(n_bags)]
    for i, label in enumerate(labels):
        features = draw.normal(size=(n, dim)).astype(np.float32)
        features[: 5 * label, 0] += 4
        bags.append(Bag(str(i), features))
    return PackedBags.of(bags, labels)


def test_each_learns_the_instances_from_bag_labels():
    packed, generator = bags_of(), torch.Generator().manual_seed(0)
    witnesses = Witnesses(6, 1, generator)
    witnesses.start_low(packed)
    optimizer = torch.optim.Adam(witnesses.parameters(), lr=0.03)
    for _ in range(150):
        balance = Balance.of(packed.labels.tolist(), 2)
        loss = witnesses.loss(witnesses(packed.features), packed.counts, packed.labels, BINARY, balance)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    truth = (torch.arange(1000) % 50 < 5) & (packed.bag_of % 2 == 1)
    candidates = candidates_of(packed.labels, BINARY)[packed.bag_of]
    witnesses.settle(packed.features, candidates)
    margins = witnesses(packed.features).detach()
    for each in margins[..., 0]:
        assert each[truth].median() > each[~truth].quantile(0.98)
    known = witnesses.evidence(margins)[~candidates[:, 1]]
    assert abs(float(known.mean())) < 1e-5
    read = witnesses.read_bags(margins, packed.counts)[:, 0]
    assert read[1::2].min() > read[0::2].max()


def test_poolings_of_one_instance_are_its_margin():
    margins, counts = torch.tensor([[0.7], [-2.0]]), torch.tensor([1, 1])
    for name in WITNESSES:
        torch.testing.assert_close(POOLINGS[name](margins, counts), margins)


def test_poolings_do_not_mix_bags_and_lie_between_mean_and_maximum():
    margins = torch.randn(60, 2, generator=torch.Generator().manual_seed(1))
    counts = torch.tensor([40, 20])
    for name in ("log_mean_exp", "top"):
        both = POOLINGS[name](margins, counts)
        torch.testing.assert_close(both[1:], POOLINGS[name](margins[40:], counts[1:]))
        assert bool((both[0] <= margins[:40].amax(0)).all())
        assert bool((both[0] >= margins[:40].mean(0)).all())


def test_large_margins_do_not_overflow():
    margins = torch.tensor([[1000.0], [999.0]])
    found = POOLINGS["log_mean_exp"](margins, torch.tensor([2]))
    torch.testing.assert_close(
        found, torch.tensor([[1000 + np.log((1 + np.exp(-1)) / 2)]], dtype=torch.float32)
    )
