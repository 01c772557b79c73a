"""Pretraining: what cannot be read is replaced, named and counted, and a folder tells the truth of it."""

import csv
import json
import shutil
import types

import h5py
import numpy as np
import pytest
import torch
from drawn_tiles import write_tiles
from pretrainings import Stopped, config, stop_after

from features import BagConfig, EncoderCard, EncoderConfig, extract_features, load_encoder, pretrain
from features.pretraining import course, training
from features.pretraining.batches import take_readable
from features.pretraining.neighbours import Probe
from features.pretraining.open_slides import closing_slides
from features.pretraining.sources import Pictures, Tiles
from tiling import (
    ConfigError,
    FormatError,
    GridConfig,
    SlideError,
    TissueMask,
    open_slide,
    save_grid,
    tile_slide,
)


class Numbers:
    """A source whose tile of row k is the colour k; those of `lost` cannot be read."""

    identity, side_um = "numbers", None

    def __init__(self, place, n, lost=()):
        self.place, self._n, self._lost = place, n, set(lost)

    def __len__(self):
        return self._n

    def name(self, row):
        return f"{self.place} {row}"

    def take(self, row):
        if row in self._lost:
            raise SlideError(f"{self.name(row)}: was changed since it was tiled")
        return np.full((4, 4, 3), row, np.uint8)


def tiles_of(*sources, labels=None):
    n = sum(map(len, sources))
    return Tiles(sources, labels or ("",) * n, ("",) * n, {})


def test_a_tile_that_can_be_read_is_taken_itself():
    broken = {}
    index, pixels = take_readable(tiles_of(Numbers("a", 30)), np.arange(5, 30), 7, broken)
    assert (index, pixels.max(), broken) == (12, 12, {})


@pytest.mark.parametrize("place", [0, 40, 99])
def test_where_a_whole_slide_is_lost_one_of_another_takes_its_place(place):
    tiles, broken = tiles_of(Numbers("lost", 100, range(100)), Numbers("whole", 20)), {}
    index, pixels = take_readable(tiles, np.arange(120), place, broken)
    assert index >= 100
    assert pixels.max() == index - 100
    assert f"lost {place}" in broken


@pytest.mark.parametrize("n", [1, 2, 8, 13, 16])
def test_of_few_tiles_all_are_tried_before_it_ends(n):
    only = tiles_of(Numbers("a", n, range(n - 1)))
    assert {take_readable(only, np.arange(n), place, {})[0] for place in range(n)} == {n - 1}
    with pytest.raises(
        SlideError, match=rf"a 0 and {n - 1} others in its place cannot be read .*changed since"
    ):
        take_readable(tiles_of(Numbers("a", n, range(n))), np.arange(n), 0, {})


def lose(monkeypatch, *names):
    """Let pictures be broken that were whole when they were looked at."""
    take = Pictures.take

    def taken(self, row):
        if self.name(row) in names:
            raise FormatError(f"{self.name(row)}: is damaged")
        return take(self, row)

    monkeypatch.setattr(Pictures, "take", taken)


def card_of(folder):
    return json.loads((folder / "card.json").read_text())


def named(folder):
    return [row["name"] for row in csv.DictReader((folder / "broken.csv").read_text().splitlines())]


def test_what_breaks_later_ends_nothing_and_stands_in_table_card_and_result(
    tiles, tmp_path, monkeypatch, capsys
):
    lose(monkeypatch, "small/004.png", "large/009.png")  # of which colours, views or the probe are made
    done = pretrain([tiles], tmp_path / "mine", config(epochs=1))
    assert sorted(done.broken) == sorted(named(tmp_path / "mine")) == ["large/009.png", "small/004.png"]
    assert card_of(tmp_path / "mine")["data"]["n_broken"] == 2
    assert "2 broken tiles or files are left out" in capsys.readouterr().err
    assert pretrain([tiles], tmp_path / "mine", config(epochs=1)).broken == done.broken


def test_the_probe_leaves_out_what_cannot_be_read():
    labels = tuple("ab"[k % 2] for k in range(40))
    trunk = types.SimpleNamespace(training=False, eval=lambda: None, train=lambda mode: None)
    trunk.forward_features = lambda images: images
    card = EncoderCard(
        name="", dim=2, input_px=4, px_multiple=1, licence="", source="", pooling="label", mean=(0, 0, 0),
        std=(1, 1, 1),
    )  # fmt: skip

    def label(trunk, images):
        return torch.stack([images[:, 0, 0, 0] * 255 % 2 > 0.5] * 2, 1).float() - 0.5

    def found(*lost):
        broken = {}
        tiles = tiles_of(Numbers("a", 40, lost), labels=labels)
        probe = Probe(tiles, np.arange(30), np.arange(30, 40))
        return probe(trunk, card, "cpu", broken), broken

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("features.pretraining.neighbours.POOLINGS", {"label": label})
        assert found() == (1.0, {})
        told, broken = found(3, 31)
        assert told == 1.0
        assert sorted(broken) == ["a 3", "a 31"]
        assert found(*range(30, 40))[0] is None


@pytest.fixture(scope="module")
def bag(phantom, tmp_path_factory):
    """A bag with patches, of which the first is damaged, and its grid beside it."""
    folder = tmp_path_factory.mktemp("bag")
    with open_slide(phantom.path) as slide:
        mask = TissueMask(np.ones((8, 8), bool), np.zeros((8, 8, 3), np.uint8), slide.size_px)
        grid = tile_slide(slide, mask, GridConfig(tile_px=64, min_tissue=0, max_tiles=20))
        save_grid(grid, folder / "grid.h5", reader=slide.reader)
        encoder = load_encoder(EncoderConfig(encoder="stain-stats"))
        extract_features(slide, grid, encoder, folder / "bag.h5", config=BagConfig(save_patches=True))
    with h5py.File(folder / "bag.h5", "a") as file:
        file["patches"][0] = file["patches"][0][:100]
    return folder / "bag.h5"


def test_a_damaged_patch_is_a_tile_that_cannot_be_read_and_the_others_of_its_bag_are_there(bag):
    tiles, broken = Tiles.open([bag]), {}
    assert (len(tiles), tiles.broken) == (20, {})
    with pytest.raises(FormatError, match="patch of tile 0 is damaged"):
        tiles.take(0)
    assert take_readable(tiles, np.arange(20), 0, broken)[0] != 0
    assert list(broken) == [f"{bag} row 0"]


def test_a_refused_command_leaves_what_a_finished_encoder_tells_as_it_is(trained, tiles, tmp_path):
    finished = shutil.copytree(trained[0].folder, tmp_path / "mine")
    (finished / "broken.csv").write_text("name,error\nlater.png,is damaged\n")
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "torn.png").write_bytes(b"torn")
    for sources in ([tiles, tmp_path / "others"], [tmp_path / "others"]):
        with pytest.raises(ConfigError, match="has an encoder of other tiles"):
            pretrain(sources, finished, config(seed=4))
    assert list(pretrain([tiles], finished, config()).broken) == named(finished) == ["later.png"]


def test_nothing_broken_any_more_is_not_told_any_more(tiles, tmp_path):
    shutil.copytree(tiles, tmp_path / "tiles")
    one = tmp_path / "tiles" / "small" / "003.png"
    whole = one.read_bytes()
    one.write_bytes(b"torn")
    with pytest.raises(ConfigError, match="1 are broken, wanted 500"):
        pretrain([tmp_path / "tiles"], tmp_path / "mine", config(batch=500))
    assert named(tmp_path / "mine") == [str(one)]
    one.write_bytes(whole)
    assert pretrain([tmp_path / "tiles"], tmp_path / "mine", config(epochs=1)).broken == {}
    assert not (tmp_path / "mine" / "broken.csv").exists()


def test_what_is_left_by_one_that_was_killed_at_its_end_goes_with_the_next_call(tiles, tmp_path, monkeypatch):
    save, told = course.save_encoder_folder, config(epochs=1, teacher=("stain-stats",))

    def killed(*args, **kwargs):
        save(*args, **kwargs)
        raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(course, "save_encoder_folder", killed)
        with pytest.raises(Stopped):
            pretrain([tiles], tmp_path / "mine", told)
    (tmp_path / "mine" / ".checkpoint.safetensors.abc.partial").write_bytes(b"half")
    left = {p.name for p in (tmp_path / "mine").iterdir()}
    assert {"checkpoint.safetensors", "taught", "card.json"} < left
    pretrain([tiles], tmp_path / "mine", told)
    assert {p.name for p in (tmp_path / "mine").iterdir()} == {
        "card.json",
        "weights.safetensors",
        "metrics.csv",
    }


def test_one_that_is_refused_for_anothers_checkpoint_leaves_nothing(tiles, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "CHECKPOINT_EVERY_S", 0)
    told = {"teacher": ("stain-stats",)}
    with pytest.raises(Stopped):
        pretrain([tiles], tmp_path / "mine", config(**told), report=stop_after(2))
    before = sorted(tmp_path.rglob("*"))
    torn = write_tiles(tmp_path.parent / f"{tmp_path.name}-torn", 2)
    (torn / "torn.png").write_bytes(b"torn")
    with pytest.raises(ConfigError, match="is of another training"):
        pretrain([tiles, torn], tmp_path / "mine", config(**told))
    assert sorted(tmp_path.rglob("*")) == before


def test_one_grid_or_bag_does_not_hide_pictures(bag, tmp_path):
    write_tiles(tmp_path, 3)
    shutil.copy(bag, tmp_path / "bag.h5")
    with pytest.raises(FormatError, match=r"holds pictures \(large/000.png\) and grids or bags \(bag.h5\)"):
        Tiles.open([tmp_path])


def as_run(bag, folder, path):
    """Write a run whose grid tells its slide as it was typed, and whose table tells where it is."""
    (folder / "tiles").mkdir(parents=True)
    shutil.copy(bag.with_name("grid.h5"), folder / "tiles" / "a.h5")
    with h5py.File(folder / "tiles" / "a.h5", "a") as file:
        slide_id = file.attrs["slide_id"]
        file.attrs["slide_path"] = "slides/a.svs"
    (folder / "slides.csv").write_text(f"slide_id,path,label\nother,/gone.svs,\n{slide_id},{path},\n")


def test_slides_of_a_run_are_found_from_any_working_directory(bag, phantom, tmp_path, monkeypatch):
    as_run(bag, tmp_path / "run", phantom.path)
    monkeypatch.chdir(tmp_path)
    with closing_slides():
        for place in (tmp_path / "run", tmp_path / "run" / "tiles", tmp_path / "run" / "tiles" / "a.h5"):
            assert Tiles.open([place]).take(3).shape == (64, 64, 3)
        monkeypatch.chdir(tmp_path / "run" / "tiles")
        assert len(Tiles.open([(tmp_path / "run" / "tiles").relative_to(tmp_path / "run" / "tiles")])) == 20


def test_a_table_beside_grids_that_no_run_has_written_tells_nothing(bag, tmp_path):
    as_run(bag, tmp_path / "run", "/gone/a.svs")
    (tmp_path / "run" / "slides.csv").write_bytes(b"slide_id,path\n\xff,a\n")
    with pytest.raises(FormatError, match=r"slides\.csv: is damaged"):
        Tiles.open([tmp_path / "run"])
    (tmp_path / "run" / "slides.csv").write_text("slide,label\na,1\n")
    (told,) = Tiles.open([tmp_path / "run"]).broken.values()
    assert "slides/a.svs is gone" in told
