"""Batches, views, the queue and the momentum copy."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from mil.instance.network import InstanceNet, MomentumCopy
from mil.instance.queue import KeyQueue
from mil.instance.sampler import InstanceSampler
from mil.instance.views import NearNeighbours, thinned, view
from mil.learner import Bag
from mil.packed import PackedBags


@dataclass(frozen=True)
class Given:
    """Features that are all there."""

    features: torch.Tensor

    def rows(self, rows):
        return self.features[rows]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def packed(sizes=(5, 400, 20, 3), labels=(0, 1, 0, 0)):
    bags = [Bag(str(i), np.full((n, 2), i, np.float32)) for i, n in enumerate(sizes)]
    return PackedBags.of(bags, labels)


def neighbours_of(features, sets, k):
    """Return those of all rows, asked for in two parts that have rows in common."""
    found = NearNeighbours(k)
    found.begin(sets, generator())
    every = torch.arange(len(sets))
    parts = every.flip(0)[: 2 * len(every) // 3], every[: 2 * len(every) // 3]
    told = torch.empty(len(sets), k, dtype=torch.int64)
    for part in parts:
        told[part] = found.of(part, Given(features))
    return told


def undecided(bags):
    return torch.tensor([[1.0, 0.0]]).expand(len(bags.features), 2)


def test_batches_mix_bags_and_balance_classes():
    bags = packed()
    rows = InstanceSampler(bags, generator()).draw(256, undecided(bags))
    counts = torch.bincount(bags.bag_of[rows], minlength=4)
    assert bool((counts > 20).all())
    assert counts[1] == 128


def test_a_quarter_of_a_batch_is_called_positive_however_few_are():
    bags = packed()
    soft = undecided(bags).clone()
    soft[[17, 300]] = torch.tensor([0.4, 0.6])
    rows = InstanceSampler(bags, generator()).draw(256, soft)
    assert 64 <= int(torch.isin(rows, torch.tensor([17, 300])).sum()) < 70


def test_batches_follow_the_seed():
    bags = packed()
    first, again, other = (InstanceSampler(bags, generator(s)).draw(64, undecided(bags)) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_neighbours_are_near_and_of_the_same_candidate_set():
    features = torch.randn(300, 4, generator=generator())
    groups = torch.arange(300) % 2
    found = neighbours_of(features, groups, 3)
    assert bool((groups[found] == groups[:, None]).all())
    assert bool((found != torch.arange(300)[:, None]).all())
    distance = (features[:, None] - features[None]).square().sum(2)
    distance[groups[:, None] != groups[None]] = torch.inf
    nearest = distance.fill_diagonal_(torch.inf).argsort(1)[:, :3]
    assert torch.equal(found.sort(1).values, nearest.sort(1).values)


def test_an_instance_that_is_alone_is_its_own_neighbour():
    found = neighbours_of(torch.zeros(3, 2), torch.tensor([0, 1, 1]), 2)
    assert found.tolist()[0] == [0, 0]


def test_views_lie_between_the_instance_and_its_neighbour_and_differ():
    features, neighbours, draw = torch.zeros(50, 3), torch.ones(50, 3), generator()
    first, second = (view(features, neighbours, 0.5, 0.0, draw) for _ in range(2))
    assert bool(((first >= 0) & (first <= 0.5)).all())
    assert not torch.equal(first, second)


def test_views_leave_out_features_and_keep_their_mean():
    features = torch.ones(400, 50)
    found = view(features, features, 0.5, 0.2, generator())
    assert set(found.unique().tolist()) == {0.0, 1.25}
    assert float(found.mean()) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.37, 1.0])
def test_the_share_that_is_left_out_is_the_one_asked_for(share):
    chance = generator()
    # many draws: a single one has the share that its sequence happens to have
    left_out = torch.stack([thinned(torch.ones(501, 499), share, chance) == 0 for _ in range(40)]).float()
    assert float(left_out.mean()) == pytest.approx(share, abs=0.002)
    if 0 < share < 1:
        # neighbours know nothing of each other, in a row and in a column, and no row is that of another
        in_row = left_out[..., 1:] * left_out[..., :-1]
        in_column = left_out[:, 1:] * left_out[:, :-1]
        assert float(in_row.mean()) == pytest.approx(share**2, abs=0.002)
        assert float(in_column.mean()) == pytest.approx(share**2, abs=0.002)
        assert len(left_out[0].unique(dim=0)) > 490


def test_queue_has_unit_rows_from_the_start_and_forgets_the_oldest():
    queue = KeyQueue(6, 4, generator())
    torch.testing.assert_close(queue.keys.norm(dim=1), torch.ones(6))
    assert queue.classes.tolist() == [-1] * 6
    for c in range(4):
        queue.push(torch.eye(4)[:2], torch.tensor([c, c]))
    assert sorted(queue.classes.tolist()) == [1, 1, 2, 2, 3, 3]


def test_the_momentum_copy_follows_and_has_no_gradient():
    net = InstanceNet(3, 8, 1, generator())
    copy = MomentumCopy(net, momentum=0.9)
    before = copy.net.trunk.weight.clone()
    with torch.no_grad():
        net.trunk.weight += 1
    copy.follow(net)
    torch.testing.assert_close(copy.net.trunk.weight, before + 0.1)
    keys = copy.keys(torch.randn(5, 3, generator=generator()))
    assert not keys.requires_grad
    assert not any(p.requires_grad for p in copy.net.parameters())
    torch.testing.assert_close(keys.norm(dim=1), torch.ones(5))
