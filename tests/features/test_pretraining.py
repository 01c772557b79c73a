"""Pretraining: it learns, the same from the same seed, and goes on where it was stopped."""

import json
import shutil

import h5py
import numpy as np
import pytest
import torch
from drawn_tiles import write_tiles
from pretrainings import AS_IT_IS, Stopped, assert_same, config, stop_after, table, weights

from features import (
    BagConfig,
    EncoderConfig,
    extract_features,
    load_encoder,
    pretrain,
)
from features.pretraining import training
from features.pretraining.batches import Order, batches
from features.pretraining.open_slides import closing_slides
from features.pretraining.sources import Tiles
from features.pretraining.views import StainJitter
from tiling import (
    ConfigError,
    FormatError,
    GridConfig,
    SlidebagError,
    TissueMask,
    open_slide,
    save_grid,
    tile_slide,
)


def test_it_writes_an_encoder_that_is_the_teacher(trained, tiles):
    done, steps = trained
    assert [at.step for at in steps] == list(range(1, len(steps) + 1))
    assert steps[0].n_steps == len(steps) == 2 * (done.n_tiles // 16)
    assert done.n_tiles + done.n_held_out == 80
    assert 10 < done.n_held_out < 40
    assert {p.name for p in done.folder.iterdir()} == {"card.json", "weights.safetensors", "metrics.csv"}
    card = json.loads((done.folder / "card.json").read_text())
    assert (card["name"], card["dim"], card["input_px"], card["mpp"]) == ("mine", 32, 32, None)
    assert card["data"]["n_tiles"] == sum(card["data"]["labels"].values()) == done.n_tiles
    assert card["recipe"]["config"]["epochs"] == 2
    assert card["figures"] == done.figures
    rows = table(done.folder)
    assert [row["epoch"] for row in rows] == ["1", "2"]
    encoder = load_encoder(EncoderConfig(encoder=str(done.folder)))
    assert encoder.encode(np.zeros((2, 32, 32, 3), np.uint8)).shape == (2, 32)


def test_called_again_it_is_done_and_another_one_is_refused(trained, tiles):
    done, _ = trained
    before = (done.folder / "weights.safetensors").stat().st_mtime_ns
    assert pretrain([tiles], done.folder, config(device="cpu", probe_every=7)).figures == done.figures
    assert (done.folder / "weights.safetensors").stat().st_mtime_ns == before
    with pytest.raises(ConfigError, match="has an encoder of other tiles, options or weights"):
        pretrain([tiles], done.folder, config(seed=1))


@pytest.mark.parametrize(
    ("step", "every_s", "n_left"), [(4, 300.0, 3), (5, 0.0, 1)], ids=["goes on from an epoch", "within one"]
)
def test_stopped_anywhere_it_ends_the_same(trained, tiles, tmp_path, monkeypatch, step, every_s, n_left):
    monkeypatch.setattr(training, "CHECKPOINT_EVERY_S", every_s)
    done, _ = trained
    with pytest.raises(Stopped):
        pretrain([tiles], tmp_path / "mine", config(), report=stop_after(step))
    torch.manual_seed(123)  # nothing hangs on the global generator
    left = []
    pretrain([tiles], tmp_path / "mine", config(), report=left.append)
    assert_same(tmp_path / "mine", done.folder)
    assert len(left) == n_left


def test_a_checkpoint_of_another_training_is_not_overwritten(tiles, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "CHECKPOINT_EVERY_S", 0)
    with pytest.raises(Stopped):
        pretrain([tiles], tmp_path / "mine", config(), report=stop_after(2))
    with pytest.raises(ConfigError, match="is of another training"):
        pretrain([tiles], tmp_path / "mine", config(seed=3))


def drawn(tiles, n_workers=0, **changes):
    told = config(local_crops=1, epochs=1, **changes)
    trained = np.arange(len(tiles))
    return list(batches(tiles, trained, Order(len(trained), told), n_workers))


def test_views_are_told_by_seed_epoch_and_tile_alone(tiles):
    opened = Tiles.open([tiles])
    one, large = drawn(opened), drawn(opened, batch=40)
    by_place = {place: view[k] for b in large for k, place in enumerate(b.places) for view in b.views[:1]}
    for batch in one:
        for k, place in enumerate(batch.places):
            assert torch.equal(batch.views[0][k], by_place[place])
    assert len({place for b in one for place in b.places}) == 80
    other = drawn(opened, seed=1)
    assert other[0].places != one[0].places
    assert not torch.equal(one[0].views[0][0], one[0].views[1][0])


@pytest.mark.slow
def test_workers_change_nothing(tiles):
    opened = Tiles.open([tiles])
    for one, two in zip(drawn(opened), drawn(opened, n_workers=2), strict=True):
        assert one.places == two.places
        assert all(torch.equal(a, b) for a, b in zip(one.views, two.views, strict=True))


def test_ranks_share_out_each_batch():
    alone = list(Order(50, config()))
    shared = [list(Order(50, config(), rank=rank, world=2)) for rank in range(2)]
    for whole, *parts in zip(alone, *shared, strict=True):
        assert sorted(whole) == sorted(parts[0] + parts[1])
    assert list(Order(50, config(), first_step=4)) == alone[4:]


def test_stains_are_jittered_and_glass_stays_white():
    image = torch.full((3, 4, 4), 255, dtype=torch.uint8)
    image[:, 0] = torch.tensor([120, 80, 160], dtype=torch.uint8)[:, None]
    assert torch.equal(StainJitter(0.0)(image)[:, 1:], image[:, 1:])
    np.testing.assert_allclose(StainJitter(0.0)(image).int(), image.int(), atol=2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        jittered = torch.stack([StainJitter(0.5)(image) for _ in range(20)])
    assert (jittered[:, :, 1:] == 255).all()
    assert (jittered[:, :, 0].float().std(dim=0) > 8).all()


def test_broken_pictures_are_counted_skipped_and_named(tiles, tmp_path, capsys):
    shutil.copytree(tiles, tmp_path / "tiles")
    (tmp_path / "tiles" / "small" / "003.png").write_bytes(b"no picture")
    whole = (tmp_path / "tiles" / "large" / "004.png").read_bytes()
    (tmp_path / "tiles" / "large" / "004.png").write_bytes(whole[: len(whole) // 2])
    done = pretrain([tmp_path / "tiles"], tmp_path / "mine", config(epochs=1))
    assert done.n_tiles + done.n_held_out == 78
    assert sorted(name.rpartition("tiles/")[2] for name in done.broken) == ["large/004.png", "small/003.png"]
    assert "2 broken tiles or files are left out" in capsys.readouterr().err
    told = (tmp_path / "mine" / "broken.csv").read_text()
    assert "small/003.png" in told


def test_too_few_tiles_say_how_many_are_wanted(tiles, tmp_path):
    with pytest.raises(ConfigError, match=r"\d+ tiles to learn from, wanted 500 or more, a batch"):
        pretrain([tiles], tmp_path / "mine", config(batch=500))
    with pytest.raises(FormatError, match="none: is not there"):
        pretrain([tmp_path / "none"], tmp_path / "mine", config())


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"input_px": 36}, "multiple of 8"),
        ({"arch": "vit_none"}, "timm has no model"),
        (AS_IT_IS | {"arch": "resnet18"}, "cannot be built|class token"),
        (AS_IT_IS | {"init": "resnet50"}, "class token|no vision transformer"),
        (AS_IT_IS | {"init": "stain-stats"}, "is no vision transformer that slidebag builds.*--teacher"),
    ],
)
def test_networks_that_cannot_learn_so_are_refused(tiles, tmp_path, changes, match):
    with pytest.raises(SlidebagError, match=match):
        pretrain([tiles], tmp_path / "mine", config(**changes))


@pytest.mark.parametrize(
    "changes",
    [{"epochs": 0}, {"lr": 0.0}, {"held_out": 1.0}, {"precision": "int8"}, {"token_side": 2},
     {"teacher_px": 48}, {"teacher_views": 2}, {"teacher_turns": 4},
     {"teacher": ("uni",), "teacher_turns": 2}, {"teacher": ("uni",), "koleo": 0.2},
     {"teacher": ("uni",), "teacher_px": 24}, {"init": "uni"},
     {"init_weights": "a"}, AS_IT_IS | {"init": "uni", "arch": "vit_tiny_patch16_224"},
     AS_IT_IS | {"init": "uni", "epochs": 0, "teacher": ("uni",)},
     {"teacher": ("uni",), "teacher_weights": ("a", "b")}],
)  # fmt: skip
def test_options_outside_what_they_may_be_are_refused(changes):
    with pytest.raises(ConfigError):
        config(**changes)


def test_it_goes_on_from_an_encoder_of_its_own(trained, tiles, tmp_path):
    done, _ = trained
    pretrain(
        [tiles], tmp_path / "more", config(**AS_IT_IS | {"init": str(done.folder), "lr": 1e-12, "epochs": 1})
    )
    before, after = weights(done.folder), weights(tmp_path / "more")
    assert all(torch.allclose(before[name], after[name], atol=1e-5) for name in before)
    cards = [json.loads((folder / "card.json").read_text()) for folder in (done.folder, tmp_path / "more")]
    assert cards[0]["mean"] == cards[1]["mean"]


@pytest.mark.parametrize("teacher", [(), ("stain-stats",)])
def test_what_it_begins_from_keeps_how_pixels_become_tokens(trained, tiles, tmp_path, teacher):
    done, _ = trained
    told = config(**AS_IT_IS | {"init": str(done.folder), "teacher": teacher, "lr": 3e-2, "epochs": 1})
    pretrain([tiles], tmp_path / "more", told)
    before, after = weights(done.folder), weights(tmp_path / "more")
    kept = {name for name in before if torch.allclose(before[name], after[name], rtol=0, atol=1e-6)}
    assert kept == {name for name in before if name.startswith(("patch_embed.", "pos_embed", "cls_token"))}


def test_it_begins_from_the_first_blocks_of_another(trained, tiles, tmp_path):
    done, _ = trained
    told = AS_IT_IS | {"init": str(done.folder), "depth": 1, "lr": 1e-12, "epochs": 1}
    pretrain([tiles], tmp_path / "short", config(**told))
    before, after = weights(done.folder), weights(tmp_path / "short")
    assert sorted(after) == sorted(name for name in before if not name.startswith("blocks.1."))
    assert all(torch.allclose(before[name], value, atol=1e-5) for name, value in after.items())
    encoder = load_encoder(EncoderConfig(encoder=str(tmp_path / "short")))
    assert encoder.encode(np.full((1, 32, 32, 3), 200, np.uint8)).shape == (1, 32)
    with pytest.raises(ConfigError, match=r"depth is 3, .* has 2 blocks"):
        pretrain([tiles], tmp_path / "long", config(**told | {"depth": 3}))


def test_without_epochs_it_is_what_it_begins_from_in_another_shape(trained, tiles, tmp_path):
    done, _ = trained
    told = AS_IT_IS | {"init": str(done.folder), "epochs": 0, "pooling": "class token + mean"}
    told |= {"local_px": 17, "batch": 500}  # of what is not done
    assert pretrain([tiles], tmp_path / "wide", config(**told)).n_tiles == 0
    card = json.loads((tmp_path / "wide" / "card.json").read_text())
    assert card["data"] == {"about": ""}
    assert str(done.folder.parent) not in json.dumps(card)
    pretrain([tiles], tmp_path / "coarse", config(**told | {"token_px": 16, "licence": "MIT"}))
    patches = np.random.default_rng(0).integers(0, 255, (2, 32, 32, 3)).astype(np.uint8)
    own, wide, coarse = (
        load_encoder(EncoderConfig(encoder=str(folder))).encode(patches)
        for folder in (done.folder, tmp_path / "wide", tmp_path / "coarse")
    )
    np.testing.assert_allclose(wide[:, :32], own, atol=1e-5)
    assert wide.shape == coarse.shape == (2, 64)
    assert json.loads((tmp_path / "coarse" / "card.json").read_text())["px_multiple"] == 16
    again = pretrain(
        [tiles], tmp_path / "again", config(**told | {"init": str(tmp_path / "wide"), "pooling": ""})
    )
    assert json.loads((again.folder / "card.json").read_text())["dim"] == 64
    large = pretrain([tiles], tmp_path / "any", config(**told | {"resize": True})).folder
    one = load_encoder(EncoderConfig(encoder=str(large)))
    assert one.card.takes(50)
    np.testing.assert_allclose(one.encode(patches)[:, :32], own, atol=1e-5)
    third = pretrain(
        [tiles], tmp_path / "third", config(**told | {"init": str(tmp_path / "coarse"), "pooling": ""})
    )
    licences = [
        json.loads((folder / "card.json").read_text())["licence"] for folder in (again.folder, third.folder)
    ]
    assert licences == ["not stated", "MIT"]
    with pytest.raises(ConfigError, match="epochs is 0"):
        config(epochs=0)


def test_other_weights_in_the_folder_it_begins_from_make_another_encoder(trained, tiles, tmp_path):
    done, _ = trained
    first = shutil.copytree(done.folder, tmp_path / "first")
    told = config(**AS_IT_IS | {"init": str(first), "epochs": 0})
    pretrain([tiles], tmp_path / "more", told)
    assert pretrain([tiles], tmp_path / "more", told).folder == tmp_path / "more"
    shutil.rmtree(first)
    pretrain([tiles], first, config(seed=1, epochs=1))
    with pytest.raises(ConfigError, match="other tiles, options or weights"):
        pretrain([tiles], tmp_path / "more", told)


@pytest.fixture(scope="module")
def slide_files(phantom, tmp_path_factory):
    """The grid of a slide, and a bag with its patches."""
    folder = tmp_path_factory.mktemp("slide")
    with open_slide(phantom.path) as slide:
        mask = TissueMask(np.ones((8, 8), bool), np.zeros((8, 8, 3), np.uint8), slide.size_px)
        grid = tile_slide(slide, mask, GridConfig(tile_px=64, min_tissue=0, max_tiles=40))
        save_grid(grid, folder / "grid.h5", reader=slide.reader)
        encoder = load_encoder(EncoderConfig(encoder="stain-stats"))
        extract_features(slide, grid, encoder, folder / "bag.h5", config=BagConfig(save_patches=True))
    return folder


def test_slides_and_bags_give_the_same_tiles(slide_files, tmp_path):
    from_slide, from_bag = (Tiles.open([slide_files / name]) for name in ("grid.h5", "bag.h5"))
    assert len(from_slide) == len(from_bag) == 40
    with closing_slides():
        for k in (0, 17, 39):
            difference = from_slide.take(k).astype(int) - from_bag.take(k)
            assert np.abs(difference).mean() < 4
    assert from_slide.side_um == 64 * 0.5
    both = Tiles.open([slide_files])
    assert len(both) == 80
    done = pretrain([slide_files], tmp_path / "mine", config(epochs=1))
    card = json.loads((done.folder / "card.json").read_text())
    assert card["mpp"] == 1.0  # 64 px at 0.5 are seen as 32 px
    assert card["data"]["n_tiles"] == 80
    assert "knn" not in done.figures


def test_files_that_tiles_cannot_come_from_are_named(slide_files, tmp_path):
    for name in ("grid.h5", "bag.h5"):
        shutil.copy(slide_files / name, tmp_path / name)
    with h5py.File(tmp_path / "bag.h5", "a") as file:
        del file["patches"]
    with h5py.File(tmp_path / "grid.h5", "a") as file:
        file.attrs["slide_path"] = "/gone/slide.svs"
    (tmp_path / "torn.h5").write_bytes(b"torn")
    opened = Tiles.open([tmp_path])
    assert len(opened) == 0
    told = {name.rpartition("/")[2]: why for name, why in opened.broken.items()}
    assert "holds no patches" in told["bag.h5"]
    assert "is gone" in told["grid.h5"]
    assert "not a readable HDF5" in told["torn.h5"]


def test_a_tile_that_cannot_be_read_later_is_replaced_and_named(tiles, tmp_path, monkeypatch):
    shutil.copytree(tiles, tmp_path / "tiles")
    opened = Tiles.open([tmp_path / "tiles"])
    (tmp_path / "tiles" / "large" / "000.png").unlink()
    found = drawn(opened)
    assert [list(b.broken) for b in found if b.broken] == [["large/000.png"]]
    assert sum(len(b.places) for b in found) == 80


@pytest.mark.slow
def test_it_learns_to_tell_apart_what_it_was_not_told(tmp_path):
    tiles = write_tiles(tmp_path / "tiles", 96)
    told = config(
        epochs=30, batch=32, lr=0.016, momentum=0.98, temperature=0.04, held_out=0.25, probe_every=10
    )
    done = pretrain([tiles], tmp_path / "mine", told)
    rows = table(done.folder)
    # the loss `dino` begins low, as long as the centre is not known, and tells little in so few steps
    assert float(rows[-1]["koleo"]) < 0.5 * float(rows[0]["koleo"])
    probes = [float(row["knn"]) for row in rows if row["knn"]]
    assert probes[0] < probes[-1]
    assert probes[-1] > 0.7  # chance is 0.5
