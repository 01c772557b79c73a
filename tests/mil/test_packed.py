"""Packed bags: which rows are of which bag, and what is drawn of a huge one."""

import numpy as np
import torch

from mil.learner import Bag
from mil.packed import PackedBags


def packed(*sizes, dim=2):
    draw = np.random.default_rng(0)
    bags = [Bag(str(i), draw.normal(size=(n, dim)).astype(np.float32)) for i, n in enumerate(sizes)]
    return PackedBags.of(bags, [i % 2 for i in range(len(bags))])


def test_rows_of_bags_come_bag_after_bag_in_the_order_asked_for():
    rows, counts = packed(3, 1, 4).rows_of(torch.tensor([2, 0, 1]), 10, torch.Generator())
    assert rows.tolist() == [4, 5, 6, 7, 0, 1, 2, 3]
    assert counts.tolist() == [4, 3, 1]


def test_of_a_huge_bag_some_rows_are_drawn_each_as_often_as_the_others():
    bags, generator, seen = packed(3, 50, 2), torch.Generator().manual_seed(0), torch.zeros(55)
    for _ in range(2000):
        rows, counts = bags.rows_of(torch.tensor([1, 0]), 15, generator)
        assert counts.tolist() == [15, 3]
        assert len(rows.unique()) == 18
        seen[rows] += 1
    assert seen[:3].tolist() == [2000] * 3
    assert seen[53:].tolist() == [0, 0]
    # 600 on average, with a standard deviation of 20
    assert 500 < float(seen[3:53].min())
    assert float(seen[3:53].max()) < 700
