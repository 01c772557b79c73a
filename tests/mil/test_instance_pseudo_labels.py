"""Candidates and soft pseudo labels: the numbers, what never changes, and that shares do not collapse."""

import pytest
import torch

from mil.bag_term import candidates_of
from mil.instance.pseudo_labels import PseudoLabels, ShareKeeper
from mil.learner import Classes

BINARY = Classes(("negative", "tumour"), has_negative=True)


def test_candidates_with_a_negative_class():
    classes = Classes(("normal", "a", "b"), has_negative=True)
    found = candidates_of(torch.tensor([0, 1, 2]), classes)
    assert found.int().tolist() == [[1, 0, 0], [1, 1, 0], [1, 0, 1]]


def test_candidates_in_subtyping():
    classes = Classes(("a", "b"), has_negative=False)
    assert candidates_of(torch.tensor([0, 1]), classes).int().tolist() == [[1, 1, 0], [1, 0, 1]]


def test_moving_average():
    labels = PseudoLabels(candidates_of(torch.tensor([1]), BINARY))
    found = []
    for _ in range(3):
        labels.update(torch.tensor([0]), torch.tensor([1]), phi=0.95)
        found.append(labels.soft[0].tolist())
    wanted = [[0.475, 0.525], [0.45125, 0.54875], [0.4286875, 0.5713125]]
    assert found == [pytest.approx(each, abs=1e-6) for each in wanted]


def test_instances_of_negative_bags_stay_exactly_negative_and_rows_sum_to_one():
    generator = torch.Generator().manual_seed(0)
    candidates = candidates_of(torch.randint(2, (200,), generator=generator), BINARY)
    labels, keeper = PseudoLabels(candidates), ShareKeeper(0.05, 0.5)
    for step in range(50):
        rows = torch.randint(200, (64,), generator=generator)
        chosen = keeper.choose(torch.randn(64, 1, generator=generator) + 5, candidates[rows])
        labels.update(rows, chosen, phi=0.95 - 0.003 * step)
    negative = ~candidates[:, 1]
    assert bool((labels.soft[negative] == torch.tensor([1.0, 0.0])).all())
    torch.testing.assert_close(labels.soft.sum(1), torch.ones(200))
    assert bool((labels.soft[~candidates] == 0).all())


@pytest.mark.parametrize("shift", [-100.0, 100.0])
def test_the_share_of_positives_stays_within_its_bounds(shift):
    candidates = candidates_of(torch.ones(1000, dtype=torch.int64), BINARY)
    evidence = torch.randn(1000, 1, generator=torch.Generator().manual_seed(0)) + shift
    share = float((ShareKeeper(0.05, 0.5).choose(evidence, candidates) == 1).float().mean())
    assert share == pytest.approx(0.05 if shift < 0 else 0.5, abs=0.002)


def test_within_the_bounds_evidence_decides():
    candidates = candidates_of(torch.ones(4, dtype=torch.int64), BINARY)
    chosen = ShareKeeper(0.05, 0.9).choose(torch.tensor([[-1.0], [0.1], [-0.1], [2.0]]), candidates)
    assert chosen.tolist() == [0, 1, 0, 1]


def test_labels_begin_where_evidence_is_rare_among_known_negatives():
    draw = torch.Generator().manual_seed(0)
    counts, bag_labels = torch.tensor([400, 400, 400, 400]), torch.tensor([0, 1, 0, 1])
    candidates = candidates_of(bag_labels, BINARY).repeat_interleave(400, 0)
    truth = torch.zeros(1600, dtype=torch.bool)
    truth[400:440] = truth[1200:1204] = True
    evidence = torch.randn(1600, 1, generator=draw) + 6 * truth[:, None]
    labels = PseudoLabels(candidates)
    labels.begin(evidence, counts, ShareKeeper(0.005, 0.05), 0.01)
    positive = labels.soft[:, 1] == 1
    assert bool(truth[400:800][positive[400:800]].all())
    assert positive.view(4, 400).sum(1).tolist()[0::2] == [0, 0]
    assert int(positive[400:800].sum()) == 20  # the most that may be
    assert bool((positive[1200:1204]).all())
    assert int(positive[1200:].sum()) <= 4 + 12
    torch.testing.assert_close(labels.soft.sum(1), torch.ones(1600))


def test_a_positive_bag_has_a_positive_instance_whatever_the_evidence():
    counts = torch.tensor([3, 1, 2])
    candidates = candidates_of(torch.tensor([0, 1, 1]), BINARY).repeat_interleave(counts, 0)
    labels = PseudoLabels(candidates)
    labels.begin(
        torch.tensor([[9.0], [8.0], [7.0], [-5.0], [-9.0], [-8.0]]), counts, ShareKeeper(0.01, 0.5), 0.01
    )
    assert labels.soft[:, 1].tolist() == [0, 0, 0, 1, 0, 1]


@pytest.mark.parametrize(("anchor", "least"), [(0.75, 0.75), (0.6, 0.6), (0.0, 0.0)])
def test_what_has_begun_is_made_unsure_and_is_made_another_only_without_an_anchor(anchor, least):
    counts = torch.tensor([2, 4])
    candidates = candidates_of(torch.tensor([0, 1]), BINARY).repeat_interleave(counts, 0)
    labels, keeper = PseudoLabels(candidates, anchor), ShareKeeper(0.01, 0.5)
    evidence = torch.tensor([[-1.0], [-1.0], [5.0], [4.0], [-3.0], [-4.0]])
    labels.begin(evidence, counts, keeper, 0.01)
    begun = labels.soft.clone()
    assert begun[:, 1].tolist() == [0, 0, 1, 1, 0, 0]
    for _ in range(60):
        labels.update(torch.arange(6), torch.tensor([0, 0, 1, 0, 1, 0]), phi=0.5)
    assert labels.soft[:, 1].tolist() == pytest.approx([0, 0, 1, least, 1 - least, 0], abs=1e-6)
    if anchor > 0.5:
        assert torch.equal(labels.soft.argmax(1), labels.began.long())
    assert labels.soft[:2].tolist() == [[1, 0], [1, 0]]  # what is certain stays exactly so
    torch.testing.assert_close(labels.soft.sum(1), torch.ones(6))


def test_an_anchor_holds_of_several_classes_too():
    classes = Classes(("normal", "a", "b"), has_negative=True, is_exclusive=False)
    candidates = candidates_of(torch.tensor([[0, 1, 1], [1, 0, 0]]).bool(), classes).repeat_interleave(2, 0)
    labels = PseudoLabels(candidates, anchor=0.6)
    evidence = torch.tensor([[9.0, -9.0], [-9.0, 9.0], [0.0, 0.0], [0.0, 0.0]])
    labels.begin(evidence, torch.tensor([2, 2]), ShareKeeper(0.01, 0.5), 0.01)
    assert labels.began.tolist() == [1, 2, 0, 0]
    for _ in range(60):
        labels.update(torch.arange(4), torch.tensor([2, 0, 0, 0]), phi=0.5)
    wanted = torch.tensor([[0, 0.6, 0.4], [0.4, 0, 0.6], [1, 0, 0], [1, 0, 0]])
    torch.testing.assert_close(labels.soft, wanted)
