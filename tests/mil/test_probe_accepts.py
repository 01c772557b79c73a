"""What a probe takes: few patients in any mixture, weights of one file name in several folders."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from features import ENCODERS, Encoder, EncoderCard, EncoderConfig, EncoderEntry, TileFolder
from mil import ProbeConfig, probe
from mil.probe.parts import group_folds
from mil.probe.tiles import load_tiles
from tiling import ConfigError

UNEVEN = {"p0": (41, 34), "p1": (57, 33), "p2": (46, 0), "p3": (9, 21)}  # tiles of each class


def draw(folder, plan=UNEVEN, shrink=1):
    """Noise of two classes in patients, as `plan` says. A table."""
    rng, rows = np.random.default_rng(0), []
    for patient, told in plan.items():
        for label, n in zip(("tumour", "healthy"), told, strict=True):
            for k in range(-(-n // shrink)):
                name = f"{patient}-{label}-{k}.png"
                folder.mkdir(exist_ok=True)
                Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(folder / name)
                rows.append((name, label, patient))
    pd.DataFrame(rows, columns=["file", "label", "patient"]).to_csv(folder / "tiles.csv", index=False)
    return folder / "tiles.csv"


def rows_of(counts):
    """Labels and groups of tiles, from counts (G, C)."""
    groups, labels = np.indices(np.shape(counts))
    return np.repeat(labels.ravel(), np.ravel(counts)), np.repeat(groups.ravel(), np.ravel(counts))


def is_sound(folds, labels, groups, least):
    """Each row is held once, no group is on both sides, `least` groups of each class teach."""
    for learned, held in folds:
        assert len(held)
        assert not set(groups[learned]) & set(groups[held])
        assert min(len(set(groups[learned][labels[learned] == c])) for c in set(labels)) >= least
    return sorted(np.concatenate([held for _, held in folds]).tolist()) == list(range(len(labels)))


def test_patients_of_one_class_are_put_together_so_that_each_part_has_both():
    labels, groups = rows_of([(19, 44), (0, 38), (34, 0), (13, 13)])
    folds = group_folds(labels, groups, 5, seed=0, least_groups=2)
    assert is_sound(folds, labels, groups, 2)
    assert sorted(sorted(set(groups[held].tolist())) for _, held in folds) == [[0], [1, 2], [3]]


def test_what_is_held_is_even_where_large_patients_are_of_one_class():
    labels, groups = rows_of([(24, 0), (40, 40), (25, 23), (0, 44), (32, 0)])
    folds = group_folds(labels, groups, 5, seed=0, least_groups=2)
    assert is_sound(folds, labels, groups, 2)
    shares = np.array([np.bincount(labels[held], minlength=2) for _, held in folds]) / np.bincount(labels)
    assert shares.shape == (3, 2)
    assert shares.min() > 0.2
    assert shares.max() < 0.45


def test_three_groups_of_each_class_suffice_in_any_mixture_also_for_the_inner_split():
    rng, n_parted = np.random.default_rng(0), 0
    while n_parted < 30:
        n_groups, n_classes = rng.integers(3, 9), rng.integers(2, 8)
        counts = rng.integers(5, 60, (n_groups, n_classes)) * (rng.random((n_groups, n_classes)) < 0.6)
        counts = counts[counts.any(axis=1)]
        if (np.count_nonzero(counts, axis=0) < 3).any():
            continue
        labels, groups = rows_of(counts)
        folds = group_folds(labels, groups, int(rng.integers(2, 6)), seed=0, least_groups=2)
        assert is_sound(folds, labels, groups, 2)
        for rows, _ in folds:
            assert is_sound(group_folds(labels[rows], groups[rows], 3, seed=0), labels[rows], groups[rows], 1)
        n_parted += 1


@pytest.mark.parametrize(("asked", "than_asked"), [(5, "more"), (2, "fewer")])
def test_other_numbers_of_folds_than_asked_are_told(tmp_path, asked, than_asked):
    known = load_tiles(TileFolder.open(draw(tmp_path / "tiles", shrink=3)), ProbeConfig(folds=asked))
    assert len(known.folds) == known.told()["n_folds"] == 3
    assert f"3 folds, not {asked}: a class has too few groups for {than_asked}" in known.warnings


class MeanColour(Encoder):
    """The mean colour, by whatever weights."""

    def __init__(self, card, weights):
        self.card, self.fingerprint = card, f"mean-{weights.replace('/', '-')}"

    def encode(self, patches):
        return patches.mean(axis=(1, 2), dtype=np.float32)


@pytest.fixture
def mean_colour(tmp_path, monkeypatch):
    """The name of an encoder that is registered for this test alone, and weights to give it."""
    monkeypatch.chdir(tmp_path)
    for name in ("n.pt", "a/m.pt", "b/m.pt", "b/n.pt", "x/a/m.pt", "y/a/m.pt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    monkeypatch.setattr(ENCODERS, "_items", {name: ENCODERS[name] for name in ENCODERS})
    card = EncoderCard(name="mean", dim=3, input_px=8, mpp=None, licence="none", source="tests")
    load = lambda card, config, device: MeanColour(card, str(config.weights))  # noqa: E731
    ENCODERS.register("mean")(EncoderEntry(card, load))
    return "mean"


@pytest.mark.parametrize(
    ("weights", "named"),
    [
        (["a/m.pt", "b/n.pt"], ["mean (m.pt)", "mean (n.pt)"]),
        (["a/m.pt", None], ["mean (m.pt)", "mean (published weights)"]),
        (["a/m.pt", "b/m.pt"], ["mean (a/m.pt)", "mean (b/m.pt)"]),
        (["x/a/m.pt", "y/a/m.pt", "n.pt"], ["mean (x/a/m.pt)", "mean (y/a/m.pt)", "mean (n.pt)"]),
    ],
)
def test_weights_of_one_file_name_are_told_apart_by_their_folders(tmp_path, mean_colour, weights, named):
    encoders = [EncoderConfig(encoder=mean_colour, weights=each) for each in weights]
    found = probe(draw(tmp_path / "tiles", shrink=5), tmp_path / "out", encoders, ProbeConfig(device="cpu"))
    assert list(dict.fromkeys(found.figures["encoder"])) == named
    assert found.failed == {}


def test_the_same_weights_twice_are_refused(tmp_path, mean_colour):
    encoders = [EncoderConfig(encoder=mean_colour, weights=each) for each in ("a/m.pt", "./a/m.pt", "n.pt")]
    with pytest.raises(ConfigError, match=r"encoder mean \(m\.pt\) is named twice; name each once"):
        probe(tmp_path / "tiles", tmp_path / "out", encoders)
