"""Prototypes against numbers worked out by hand."""

import pytest
import torch

from mil.instance.prototypes import Prototypes, matching, shared_out

QUERIES = torch.tensor([[0.6, 0.8], [0.8, 0.6], [0.0, 1.0]])


def test_update_in_batch_order():
    prototypes = Prototypes(torch.eye(2), momentum=0.9)
    prototypes.update(QUERIES, torch.tensor([0, 0, 1]))
    torch.testing.assert_close(
        prototypes.vectors, torch.tensor([[0.990365, 0.138483], [0.0, 1.0]]), atol=1e-6, rtol=0
    )


def test_vectorised_update_equals_one_by_one():
    generator = torch.Generator().manual_seed(0)
    queries = torch.nn.functional.normalize(torch.randn(40, 8, generator=generator), dim=1)
    classes = torch.randint(3, (40,), generator=generator)
    start = torch.nn.functional.normalize(torch.randn(3, 8, generator=generator), dim=1)
    prototypes = Prototypes(start, momentum=0.95)
    prototypes.update(queries, classes)
    slow = start.clone()
    for query, c in zip(queries, classes.tolist(), strict=True):
        slow[c] = 0.95 * slow[c] + 0.05 * query
    torch.testing.assert_close(prototypes.vectors, torch.nn.functional.normalize(slow, dim=1))


def test_a_class_without_instances_stays():
    prototypes = Prototypes(torch.eye(2), momentum=0.9)
    prototypes.update(QUERIES[:2], torch.tensor([0, 0]))
    assert prototypes.vectors[1].tolist() == [0.0, 1.0]


def test_scores():
    assert Prototypes(torch.eye(2), 0.9).scores(QUERIES[:1])[0].tolist() == pytest.approx(
        [0.450166, 0.549834], abs=1e-6
    )


def test_angle():
    assert Prototypes(torch.eye(2), 0.9).angle_deg() == pytest.approx(90)
    assert Prototypes(torch.ones(2, 2), 0.9).angle_deg() == pytest.approx(0, abs=0.1)


def directions(n, spread, generator, towards):
    """Unit vectors around the axes `towards`, `n` of each, in turn."""
    axes = torch.eye(16)[list(towards)].repeat(n, 1)
    drawn = axes + spread * torch.randn(len(axes), 16, generator=generator)
    return torch.nn.functional.normalize(drawn, dim=1)


def test_several_prototypes_find_the_kinds_within_a_class_and_none_is_left_without():
    generator = torch.Generator().manual_seed(0)
    # all begin near the first kind of their class: by the nearest, one would take everything
    begin = torch.eye(16)[[0, 0, 0, 5, 5, 5]] + 0.1 * torch.randn(6, 16, generator=generator)
    prototypes = Prototypes(begin, momentum=0.95, per_class=3)
    for _ in range(60):
        queries = torch.cat([directions(8, 0.1, generator, (k, k + 1, k + 2)) for k in (0, 5)])
        prototypes.update(queries, torch.arange(2).repeat_interleave(24))
    nearest = prototypes.vectors.argmax(1).tolist()
    assert sorted(nearest[:3]) == [0, 1, 2]
    assert sorted(nearest[3:]) == [5, 6, 7]


def test_a_class_scores_by_its_nearest_prototype():
    one = Prototypes(torch.eye(4)[:2], 0.9)
    two = Prototypes(
        torch.stack([-torch.eye(4)[0], torch.eye(4)[0], torch.eye(4)[1], torch.eye(4)[3]]), 0.9, 2
    )
    queries = torch.tensor([[0.6, 0.8, 0.0, 0.0], [0.8, 0.6, 0.0, 0.0]])
    torch.testing.assert_close(two.scores(queries), one.scores(queries))


def test_instances_are_shared_out_evenly():
    generator = torch.Generator().manual_seed(0)
    similar = 0.9 + 0.05 * torch.rand(300, 4, generator=generator) + torch.tensor([0.05, 0, 0, 0])
    assert similar.argmax(1).bincount(minlength=4).max() > 150
    counts = shared_out(similar).bincount(minlength=4)
    assert counts.min() > 50
    assert counts.max() < 100
    assert shared_out(similar[:1]).shape == (1,)


def test_prototypes_of_two_models_are_paired_within_their_class():
    first = torch.tensor([0, 0, 1, 1, 2, 3, 3])
    renamed = torch.tensor([1, 0, 2, 3])[first]
    assert matching(first, renamed, 2, 2).tolist() == [1, 0, 2, 3]


def test_the_angle_is_between_classes():
    vectors = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    assert Prototypes(vectors, 0.9, per_class=2).angle_deg() == pytest.approx(90)


def test_two_prototypes_of_many_that_come_close_are_no_collapse():
    vectors = torch.eye(8)
    vectors[4] = vectors[0] + 0.01
    assert Prototypes(vectors, 0.9, per_class=4).angle_deg() > 60
    assert Prototypes(vectors[[0, 1, 2, 3, 0, 1, 2, 3]], 0.9, per_class=4).angle_deg() == pytest.approx(
        0, abs=0.1
    )
