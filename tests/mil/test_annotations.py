"""Annotations of few training tiles: what a learner makes of them, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mil import LEARNERS, Bag, Classes
from mil.bag_term import Balance, annotation_loss, candidates_of
from mil.course import Course, Stage
from mil.instance import InstanceConfig
from mil.instance.hearing import hear
from mil.instance.material import Material
from mil.instance.network import InstanceNet
from mil.instance.pseudo_labels import PseudoLabels, ShareKeeper
from mil.instance.teaching import Teaching
from mil.instance.views import NearNeighbours
from mil.instance.witness import Witnesses
from mil.metrics import instance_auc
from mil.packed import PackedBags, Standardiser
from tiling import SlidebagError

BINARY = Classes(("normal", "tumour"), has_negative=True)


def bags_of(seed, n_bags=24, n_tiles=60, n_positive=6, dim=8):
    """Bags whose positives are moved along axis 0; axis 1 tells the label as well, in all tiles alike."""
    draw = np.random.default_rng(seed)
    bags, truth = [], []
    for i in range(n_bags):
        is_positive = np.arange(n_tiles) < n_positive * (i % 2)
        features = draw.normal(size=(n_tiles, dim))
        features[:, 0] += 1.5 * is_positive
        features[:, 1] += 3.0 * (i % 2) * (draw.random(n_tiles) < 0.3)  # a stain, say, not the tumour
        bags.append(Bag(str(i), features.astype(np.float32)))
        truth.append(is_positive)
    return bags, [i % 2 for i in range(n_bags)], truth


def annotated(bag, truth):
    return replace(bag, candidates=np.stack([~truth, truth], axis=1))


def tile_auc(bags, labels):
    quick = {"members": 1, "epochs": 6, "witness_epochs": 6, "steps_per_epoch": 10}
    learner = LEARNERS["slidebag"](InstanceConfig(**quick, instances_per_step=128, queue=256))
    learner.fit(bags, labels, BINARY, seed=0)
    tests, _, truth = bags_of(seed=1)
    score = np.concatenate([learner.predict(bag).tile_probability[:, 1] for bag in tests])
    return instance_auc(score, np.concatenate(truth))


def test_few_annotated_slides_make_the_tiles_better():
    bags, labels, truth = bags_of(seed=0)
    some = [annotated(b, t) if i < 8 else b for i, (b, t) in enumerate(zip(bags, truth, strict=True))]
    assert tile_auc(some, labels) > tile_auc(bags, labels) + 0.05


def test_pseudo_labels_of_annotated_tiles_are_exact_from_the_start_and_stay():
    bags, labels, truth = bags_of(seed=0, n_bags=8)
    bags[1] = annotated(bags[1], truth[1])
    config = InstanceConfig(epochs=2, witness_epochs=2, steps_per_epoch=3, refine=0.5)
    generator = torch.Generator().manual_seed(0)
    material = Material(
        PackedBags.of(bags, labels), Standardiser.of(bags), BINARY, Balance.of(labels, 2), generator
    )
    neighbours = NearNeighbours(4)
    neighbours.begin(material.sets, generator)
    teaching = Teaching(InstanceNet(8, 16, 1, generator), material, neighbours, config)
    rows = slice(60, 120)
    wanted = torch.from_numpy(bags[1].candidates).float()
    assert torch.equal(teaching.pseudo_labels.soft[rows], wanted)
    witnesses = Witnesses(8, 1, "linear", 16, config.tiles_per_bag, generator)
    hear(witnesses, material, config, Stage(Course()), torch.arange(len(bags)))
    teaching.begin(witnesses.settle(material))
    assert torch.equal(teaching.pseudo_labels.soft[rows], wanted)
    teaching.teach(Stage(Course()))
    assert torch.equal(teaching.pseudo_labels.soft[rows], wanted)
    assert not torch.equal(teaching.pseudo_labels.soft[180:240, 1], torch.zeros(60))


def test_annotated_positives_count_among_those_that_a_bag_may_have():
    candidates = candidates_of(torch.tensor([0, 1]), BINARY).repeat_interleave(10, 0)
    candidates[10:13, 0] = False  # three annotated as tumour
    candidates[13, 1] = False  # one as normal
    labels = PseudoLabels(candidates)
    evidence = torch.arange(20.0)[:, None]  # all of the second bag looks like tumour
    labels.begin(evidence, torch.tensor([10, 10]), ShareKeeper(0.1, 0.5), 0.02)
    assert labels.soft[10:, 1].tolist() == [1, 1, 1, 0, 0, 0, 0, 0, 1, 1]  # half of ten, no more


def test_the_annotation_loss_is_the_log_loss_of_the_candidates_each_set_alike():
    margins = torch.tensor([[0.0], [0.0], [2.0], [5.0]])
    candidates = torch.tensor([[1, 0], [1, 0], [0, 1], [1, 1]], dtype=torch.bool)
    wanted = (np.log(2) + np.log1p(np.exp(-2.0)) + 0) / 3
    assert float(annotation_loss(margins, candidates)) == pytest.approx(wanted, rel=1e-5)


def test_predictions_do_not_read_annotations():
    bags, labels, truth = bags_of(seed=0, n_bags=8)
    learner = LEARNERS["slidebag"](InstanceConfig(members=1, epochs=2, witness_epochs=2, steps_per_epoch=3))
    learner.fit(bags, labels, BINARY, seed=0)
    told, plain = learner.predict(annotated(bags[1], truth[1])), learner.predict(bags[1])
    assert np.array_equal(told.tile_probability, plain.tile_probability)
    assert np.array_equal(told.probability, plain.probability)


def test_an_annotation_against_the_label_is_refused_by_number():
    bags, labels, truth = bags_of(seed=0, n_bags=8)
    bags[2] = annotated(bags[2], truth[1])
    with pytest.raises(SlidebagError, match=r"2: 6 tiles are annotated as tumour, but its label is normal"):
        LEARNERS["slidebag"]().fit(bags, labels, BINARY, seed=0)


def test_candidates_that_are_none_are_refused():
    with pytest.raises(SlidebagError, match=r"x: candidates are bool of shape \(3, 2\)"):
        Bag("x", np.zeros((3, 4), np.float32), candidates=np.zeros((3, 2), bool))


def test_a_learner_that_does_not_heed_them_says_so():
    bags, labels, truth = bags_of(seed=0, n_bags=8)
    bags[1] = annotated(bags[1], truth[1])
    learner = LEARNERS["mean"]()
    learner.fit(bags, labels, BINARY, seed=0)
    assert any("does not heed annotations" in warning for warning in learner.warnings)
