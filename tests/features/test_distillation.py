"""Pretraining with teachers: what they make of views is learned, wherever it is stopped."""

import collections

import numpy as np
import pytest
import torch
from pretrainings import AS_IT_IS, Stopped, assert_same, config, stop_after

from features import ENCODERS, Encoder, EncoderCard, EncoderConfig, EncoderEntry, load_encoder, pretrain
from features.encoder_folder import read_card
from features.neural_encoder import NeuralEncoder
from features.pretraining.batches import Batch
from features.pretraining.distillation import Headed, Taught
from features.pretraining.moments import Moments
from features.pretraining.views import Views, turned, turned_back
from features.stain_stats import StainStats
from tiling import ConfigError, WriteError


def test_of_teachers_there_are_few_views_of_a_tile():
    tile = np.random.default_rng(0).integers(60, 200, (60, 60, 3)).astype(np.uint8)
    views = Views(config(teacher=("stain-stats",), teacher_px=48, teacher_views=2))
    [[first], [second], [third]] = [views(tile, epoch, 5) for epoch in range(3)]
    assert first.shape == (3, 48, 48)
    assert torch.equal(first, third)
    assert not torch.equal(first, second)


def losses(steps, name):
    return [step.losses[name] for step in steps if step.part == "pretrain"]


@pytest.fixture
def asked(monkeypatch):
    """What `stain-stats` is asked to encode from now on, batch by batch."""
    found = []
    encode = StainStats.encode
    monkeypatch.setattr(
        StainStats, "encode", lambda self, patches: found.append(patches) or encode(self, patches)
    )
    return found


def moments_of(seen, taught, n_parts=1):
    moments = Moments(seen.shape[1], taught.shape[1])
    for rows in np.array_split(np.arange(len(seen)), n_parts):
        moments.add(torch.from_numpy(seen[rows]), torch.from_numpy(taught[rows]))
    return moments


def wanted_and_error(found, seen, taught):
    """The mean square of what is wanted of rows, and that of what a head lacks of it."""
    wanted = (torch.from_numpy(taught) - found.centre) @ found.matrix
    told = torch.from_numpy(seen) @ found.weight.T + found.bias
    return float(wanted.square().mean()), float((told - wanted).square().mean())


def test_moments_are_those_of_all_rows_and_heads_begin_at_least_squares():
    rng = np.random.default_rng(0)
    seen = rng.normal(3.0, 2.0, (5000, 6))
    taught = seen @ rng.normal(size=(6, 4)) * [4.0, 2.0, 1.0, 0.5] + rng.normal(0, 0.05, (5000, 4)) + 7
    moments = moments_of(seen, taught, n_parts=7)
    half, none, whole = (moments.regression(share, 5000) for share in (0.5, 0.0, 1.0))
    for found in (half, none, whole):
        np.testing.assert_allclose(taught.mean(axis=0), found.centre)
        wanted, error = wanted_and_error(found, seen, taught)
        np.testing.assert_allclose(wanted, 1)
        assert error < 0.02
    spreads = [
        np.sort(((taught - f.centre.numpy()) @ f.matrix.numpy()).std(axis=0)) for f in (none, half, whole)
    ]
    np.testing.assert_allclose(spreads[2], 1, rtol=0.25)  # but for the floor
    ratios = [spread[-1] / spread[0] for spread in spreads]
    np.testing.assert_allclose(ratios[1], ratios[0] ** 0.5, rtol=0.2)


def test_what_is_wanted_does_not_hang_on_the_signs_of_directions():
    rng = np.random.default_rng(0)
    seen, taught = rng.normal(size=(60, 3)), rng.normal(size=(60, 5))
    turned = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    found, other = (moments_of(seen, each).regression(0.5, 60) for each in (taught, taught @ turned))
    np.testing.assert_allclose(turned.T @ found.matrix.numpy() @ turned, other.matrix, atol=1e-9)


def test_what_does_not_vary_is_wanted_as_zero():
    found = moments_of(np.ones((5, 2)), np.full((5, 3), 4.0)).regression(0.5, 5)
    assert all(each.isfinite().all() for each in (found.centre, found.matrix, found.weight, found.bias))
    np.testing.assert_allclose((torch.full((5, 3), 4.0) - found.centre) @ found.matrix, 0, atol=1e-6)


@pytest.mark.parametrize("n_tiles", [24, 128])
def test_of_few_tiles_no_more_is_believed_than_holds_for_others(n_tiles):
    rng = np.random.default_rng(n_tiles)
    scales = 0.97 ** np.arange(200)
    to_seen, to_taught = rng.normal(size=(20, 100)), rng.normal(size=(20, 200))
    tissue = rng.normal(size=(n_tiles + 2000, 20))
    seen, taught = (
        tissue @ each + 2 * rng.normal(size=(len(tissue), each.shape[1])) for each in (to_seen, to_taught)
    )
    taught *= scales
    learned, others = slice(0, n_tiles), slice(n_tiles, None)
    views = [seen[learned] + 0.1 * rng.normal(size=(n_tiles, 100)) for _ in range(4)]
    moments = moments_of(np.concatenate(views), np.concatenate([taught[learned]] * 4))
    wanted, error = wanted_and_error(moments.regression(0.5, n_tiles), seen[others], taught[others])
    assert 0.7 < wanted < 2.5  # 1 is what it is by the learned ones
    assert error < 0.95 * wanted


def test_a_teacher_sees_more_of_the_same_view_than_the_student(tiles, tmp_path, asked):
    pretrain([tiles], tmp_path / "mine", config(teacher=("stain-stats",), teacher_px=48, epochs=1))
    assert {patches.shape[1] for patches in asked} == {48}
    assert read_card(tmp_path / "mine")["input_px"] == 32


def test_student_and_teachers_see_the_same_view_in_the_same_colours(tiles, tmp_path, asked, monkeypatch):
    read, of_student = Headed.seen, []
    monkeypatch.setattr(Headed, "seen", lambda self, images: of_student.append(images) or read(self, images))
    pretrain(
        [tiles], tmp_path / "mine", config(teacher=("stain-stats",), teacher_views=0, epochs=1, stain=0.5)
    )
    card = read_card(tmp_path / "mine")
    by_teacher = asked[1:]  # the first is the grey picture of the check
    assert len(by_teacher) == len(of_student)
    for patches, images in zip(by_teacher, of_student, strict=True):
        pixels = images.permute(0, 2, 3, 1).numpy() * card["std"] + card["mean"]
        np.testing.assert_array_equal((255 * pixels).round().astype(np.uint8), patches)


def test_a_teacher_that_takes_any_size_is_shown_what_there_is(trained, tiles, tmp_path, monkeypatch):
    done, _ = trained
    any_size = tmp_path / "any size"
    pretrain([tiles], any_size, config(**AS_IT_IS | {"init": str(done.folder), "epochs": 0, "resize": True}))
    shown = []
    encode = NeuralEncoder.encode
    monkeypatch.setattr(
        NeuralEncoder, "encode", lambda self, patches: shown.append(patches.shape[1]) or encode(self, patches)
    )
    pretrain([tiles], tmp_path / "mine", config(teacher=(str(any_size),), teacher_px=44, epochs=1))
    assert set(shown) == {44}  # no multiple of a token's side


def test_teachers_are_learned_from_and_asked_once_for_each_view(trained, tiles, tmp_path, asked):
    done, _ = trained
    told = {
        "teacher": ("stain-stats", str(done.folder)),
        "epochs": 8,
        "teacher_views": 2,
        "lr": 3e-2,
        "held_out": 0.0,
    }
    steps = []
    pretrain([tiles], tmp_path / "mine", config(**told), report=steps.append)
    found = losses(steps, "vectors")
    first, last = np.mean(found[:5]), np.mean(found[-5:])
    assert last < min(0.75 * first, 0.9)  # single batches are uneven; 1 is to tell nothing
    with pytest.raises(Stopped):
        pretrain([tiles], tmp_path / "again", config(**told), report=stop_after(14))
    asked.clear()
    pretrain([tiles], tmp_path / "again", config(**told))
    assert [len(patches) for patches in asked] == [1]  # all others were there
    assert_same(tmp_path / "again", tmp_path / "mine")
    assert not (tmp_path / "mine" / "taught").exists()


@pytest.mark.parametrize("begins", [False, True])
def test_stopped_while_first_views_are_looked_at_it_ends_the_same(trained, tiles, tmp_path, begins):
    own = AS_IT_IS | {"init": str(trained[0].folder)} if begins else {}
    told = config(**own | {"teacher": ("stain-stats",), "teacher_views": 2})
    seen = []
    pretrain([tiles], tmp_path / "mine", told, report=seen.append)
    n_first = [step.n_steps for step in seen if step.part == "first views"]
    assert n_first == [n_first[0]] * n_first[0]
    assert n_first[0] == 2 * max(step.n_steps for step in seen if step.part == "pretrain") / told.epochs

    with pytest.raises(Stopped):
        pretrain([tiles], tmp_path / "again", told, report=stop_after(n_first[0] - 2, "first views"))
    assert not (tmp_path / "again" / "checkpoint.safetensors").exists()
    pretrain([tiles], tmp_path / "again", told)
    assert_same(tmp_path / "again", tmp_path / "mine")


@pytest.mark.parametrize(("n_turns", "ways"), [(4, range(4)), (8, range(8))])
def test_what_teachers_tell_over_turns_is_the_same_of_a_turned_view(trained, n_turns, ways):
    teacher = load_encoder(EncoderConfig(encoder=str(trained[0].folder), token_side=4), device="cpu")
    views = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)

    def told(images, n_turns):
        taught = Taught([teacher], config(teacher=("any",), token_side=4, teacher_turns=n_turns), 3, None)
        return taught(Batch(0, [0, 1, 2], [torch.from_numpy(images).permute(0, 3, 1, 2)], {}))

    vectors, tokens = told(views, n_turns)
    alone = np.stack([teacher.encode(turned(views, way)) for way in ways])
    np.testing.assert_allclose(vectors, alone.mean(axis=0), atol=1e-5)
    assert abs(alone - vectors).max() > 1e-2  # one alone tells turns apart
    for way in ways:
        np.testing.assert_array_equal(turned_back(turned(views, way), way), views)
        of_turned, tokens_of_turned = told(turned(views, way), n_turns)
        np.testing.assert_allclose(of_turned, vectors, atol=1e-5)
        np.testing.assert_allclose(turned_back(tokens_of_turned, way), tokens, atol=1e-5)


def test_vectors_that_there_is_no_room_for_are_not_begun(tiles, tmp_path, monkeypatch):
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda folder: usage(10**9, 0, 8 << 20))
    with pytest.raises(
        WriteError, match=r"0.npy: what teachers make of all views needs 0.\d MB, 8.4 MB are free"
    ):
        pretrain([tiles], tmp_path / "mine", config(teacher=("stain-stats",)))
    assert [p for p in (tmp_path / "mine").rglob("*") if p.is_file()] == []


def test_tokens_of_a_teacher_are_learned_too(trained, tiles, tmp_path):
    done, _ = trained
    steps = []
    told = config(teacher=(str(done.folder),), token_side=2, epochs=6, lr=3e-2, pooling="class token + mean")
    pretrain([tiles], tmp_path / "mine", told, report=steps.append)
    first, *_, last = losses(steps, "tokens")
    assert last < 0.8 * min(first, 1)


def test_heads_begin_where_what_is_known_tells_most(trained, tiles, tmp_path):
    done, _ = trained
    steps = []
    own = {"init": str(done.folder), "teacher": (str(done.folder),)}
    told = config(**AS_IT_IS | own | {"epochs": 1, "drop_path": 0.0})
    pretrain([tiles], tmp_path / "mine", told, report=steps.append)
    assert losses(steps, "vectors")[0] < 0.1  # 1 is to tell nothing


class Grey(Encoder):
    """A teacher that takes one channel alone."""

    fingerprint = "grey"
    card = EncoderCard(name="grey", dim=2, input_px=32, px_multiple=1, licence="", source="")

    def encode(self, patches):
        n, _height, _width = patches.shape
        return np.zeros((n, 2), np.float32)


def test_a_teacher_that_takes_no_pictures_of_three_channels_is_refused(tiles, tmp_path, monkeypatch):
    monkeypatch.setattr(ENCODERS, "_items", dict(ENCODERS._items))
    ENCODERS.register("grey")(EncoderEntry(Grey.card, lambda card, config, device: Grey()))
    with pytest.raises(ConfigError, match="teacher grey cannot encode pictures of 3 channels"):
        pretrain([tiles], tmp_path / "mine", config(teacher=("grey",)))
