"""The learner `slidebag` as a whole: rare and common positives, and what it says when it collapses."""

import numpy as np
import pytest
import torch

import mil.instance.learner
from mil import Bag, Classes, load_learner
from mil.instance import PUBLISHED, InstanceConfig, SlidebagLearner
from mil.instance.config import KINDS
from mil.instance.context import summary
from mil.metrics import instance_auc
from mil.training import new_learner
from tiling import ConfigError

CLASSES = Classes(("negative", "tumour"), has_negative=True)


def gaussian_bags(share, seed, n_bags=40, n_tiles=100, dim=16, shift=4.0):
    """Bags of standard normal instances; in odd ones `share`, moved by `shift`, are positive."""
    direction = np.random.default_rng(99).normal(size=dim)
    direction /= np.linalg.norm(direction)
    draw = np.random.default_rng(seed)
    bags, truth = [], []
    for i in range(n_bags):
        positive = np.arange(n_tiles) < (max(1, round(share * n_tiles)) if i % 2 else 0)
        features = draw.normal(size=(n_tiles, dim)) + shift * direction * positive[:, None]
        bags.append(Bag(str(i), features.astype(np.float32)))
        truth.append(positive)
    return bags, [i % 2 for i in range(n_bags)], np.concatenate(truth)


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.02, 0.1, 0.5])
def test_it_does_not_collapse_however_rare_the_positives(share):
    bags, labels, _ = gaussian_bags(share, seed=0)
    learner, told = SlidebagLearner(InstanceConfig(members=1, witnesses="linear")), []
    learner.fit(bags, labels, CLASSES, seed=0, report=lambda figures: told.append(dict(figures)))
    assert learner.warnings == []
    assert 0.01 < told[-1]["share_positive"] < 0.9
    tests, _, truth = gaussian_bags(share, seed=1)
    score = np.concatenate([learner.predict(bag).tile_probability[:, 1] for bag in tests])
    assert instance_auc(score, truth) >= 0.97


def test_guards_are_reported_every_epoch():
    bags, labels, _ = gaussian_bags(0.3, seed=0, n_bags=8, n_tiles=10)
    told = []
    config = InstanceConfig(members=2, witness_epochs=2, epochs=3, steps_per_epoch=2)
    SlidebagLearner(config).fit(
        bags, labels, CLASSES, seed=0, report=lambda figures: told.append(dict(figures))
    )
    assert all(figures["bag_loss"] > 0 for figures in told)
    wanted = {"contrast_loss", "pseudo_loss", "share_positive", "mean_confidence", "prototype_angle_deg"}
    rehearsals = 3 * [False] * 2  # linear witnesses, three times on two thirds of the bags
    assert [figures.keys() >= wanted for figures in told] == rehearsals + 2 * ([False] * 2 + [True] * 3)
    assert [(figures["epoch"], figures["epochs"]) for figures in told] == [(i, 16) for i in range(16)]


def test_bags_of_one_tile_are_no_collapse():
    bags, labels, _ = gaussian_bags(0.3, seed=0, n_bags=16, n_tiles=1)
    learner = SlidebagLearner(InstanceConfig(members=1, witness_epochs=5, epochs=3))
    learner.fit(bags, labels, CLASSES, seed=0)
    assert learner.warnings == []


def test_bags_whose_every_tile_is_annotated_are_no_collapse():
    draw = np.random.default_rng(0)
    is_tumour = np.arange(6) < 6  # of positive bags every tile, and known
    bags = [
        Bag(
            f"b{i}",
            draw.normal(size=(6, 4)).astype(np.float32),
            candidates=np.eye(2, dtype=bool)[(is_tumour & (i % 2 == 1)).astype(int)],
        )
        for i in range(12)
    ]
    learner = SlidebagLearner(InstanceConfig(members=1, witness_epochs=1, epochs=1))
    learner.fit(bags, [i % 2 for i in range(12)], CLASSES, seed=0)
    assert not [warning for warning in learner.warnings if "pseudo labels" in warning]


def test_a_collapse_is_told_with_what_to_change():
    bags, labels, _ = gaussian_bags(0.3, seed=0, n_bags=8, n_tiles=10)
    # whatever known negatives look like, nearly everything else is called positive
    learner = SlidebagLearner(
        InstanceConfig(epochs=1, steps_per_epoch=1, false_share=1.0, most_positive=0.99)
    )
    learner.fit(bags, labels, CLASSES, seed=0)
    assert any("most_positive" in warning for warning in learner.warnings)


def test_the_published_rule_collapses_on_rare_positives_and_says_so():
    bags, labels, _ = gaussian_bags(0.05, seed=0, n_bags=20)
    learner = new_learner("slidebag", PUBLISHED | {"epochs": "8", "queue": "512"})
    told = []
    learner.fit(bags, labels, CLASSES, seed=0, report=lambda figures: told.append(dict(figures)))
    assert told[-1]["share_positive"] < 0.001 or told[-1]["share_positive"] > 0.95
    assert any("collapsed" in warning for warning in learner.warnings)


@pytest.mark.parametrize(
    "options",
    [
        {"epochs": 0},
        {"instances_per_step": 1},
        {"least_positive": 0.6},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"learning_rate": float("inf")},
        {"contrast_weight": float("inf")},
        {"queue": 0},
        {"prototypes": 0},
        {"bag_weight": -0.5},
        {"key_momentum": 1.5},
        {"anchor": -0.1},
        {"steps_per_epoch": -1},
    ],
)
def test_options_outside_their_range_are_refused(options):
    with pytest.raises(ConfigError):
        InstanceConfig(**options)


def test_an_epoch_of_many_bags_or_views_has_more_steps_but_not_without_end():
    config = InstanceConfig()
    steps = [config.steps(n, n_views=0) for n in (1, 100, 440, 1024, 3000, 100_000)]
    assert steps == [20, 20, 20, 48, 100, 100]
    assert [config.steps(n, n_views=12) for n in (1, 440, 1024, 3000)] == [32, 32, 48, 100]
    assert config.steps(1, n_views=500) == 100
    assert InstanceConfig(steps_per_epoch=7).steps(100_000, n_views=3) == 7


def test_witnesses_and_the_net_learn_longer_from_more_bags():
    bags, labels, _ = gaussian_bags(0.3, seed=0, n_bags=30, n_tiles=2)
    short = {"members": 1, "witnesses": "linear", "witness_epochs": 1, "epochs": 1, "bags_per_step": 2}
    learner = SlidebagLearner(InstanceConfig(**short, instances_per_step=8))
    learner.fit(bags, labels, CLASSES, seed=0)
    # three comparisons on two thirds of the bags, 30 steps each; then 45 on all of them, and 45 of the net
    assert [row["instances"] for row in learner.history] == [30 * 4] * 3 + [45 * 4, 45 * 8]


def test_several_prototypes_keep_their_class_and_come_back_from_the_disk(tmp_path):
    bags, labels, truth = gaussian_bags(0.3, seed=0, n_bags=16, n_tiles=40)
    short = {"witness_epochs": 8, "epochs": 6, "steps_per_epoch": 10, "instances_per_step": 128, "queue": 128}
    learner = SlidebagLearner(InstanceConfig(witnesses="linear", members=2, prototypes=3, **short))
    learner.fit(bags, labels, CLASSES, seed=0)
    learner.save(tmp_path)
    again = SlidebagLearner.load(tmp_path)
    assert again.n_prototypes == 3
    told = [again.predict(bag) for bag in bags]
    numbers = np.concatenate([each.prototype for each in told])
    assert np.array_equal(numbers, np.concatenate([learner.predict(bag).prototype for bag in bags]))
    assert np.mean((numbers // 3) == truth) > 0.9
    assert set(numbers) == set(range(6))


def test_members_of_several_kinds_read_slides_together(tmp_path, monkeypatch):
    def seat_all(reading, *told):
        assert choose_kinds(reading, *told)
        reading.trust(KINDS[1:])
        return ["hidden", "context", "context"]

    choose_kinds = mil.instance.learner.choose_kinds
    monkeypatch.setattr("mil.instance.learner.choose_kinds", seat_all)
    bags, labels, _ = gaussian_bags(0.3, seed=0, n_bags=36, n_tiles=12)
    short = {"witness_epochs": 2, "epochs": 2, "steps_per_epoch": 4}
    learner = SlidebagLearner(InstanceConfig(**short))
    learner.fit(bags, labels, CLASSES, seed=0)
    learner.save(tmp_path / "model")
    one, again = (model.predict(bags[1]) for model in (learner, load_learner(tmp_path / "model")))
    assert np.array_equal(one.probability, again.probability)
    assert np.array_equal(one.tile_probability, again.tile_probability)
    features = learner._standardise(torch.from_numpy(bags[1].features))
    each = {kind: [] for kind in KINDS}
    for member in learner._committee.members:
        margins = member.look_at(features)[3].detach()
        told = member.witnesses.read_each(margins, torch.tensor([12]), summary(features)[None]).detach()
        each[member.witnesses.kind].append(told)
    assert [len(told) for told in each.values()] == [0, 1, 2]
    margin = learner._committee.reading({k: torch.stack(v).mean(0) for k, v in each.items() if v})
    np.testing.assert_allclose(one.probability[1], margin.sigmoid().item(), rtol=1e-4)  # classes are even
