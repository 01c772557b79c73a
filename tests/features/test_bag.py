import json
from dataclasses import replace

import h5py
import numpy as np
import pytest

from features import (
    BagConfig,
    Encoder,
    EncoderCard,
    EncoderConfig,
    bag_fingerprint,
    extract_features,
    load_encoder,
    load_features,
)
from tiling import (
    ConfigError,
    FormatError,
    GridConfig,
    OpenSlideSlide,
    SlidebagError,
    SlideError,
    TissueConfig,
    read_patches,
    save_grid,
    segment_tissue,
    stored_fingerprint,
    tile_slide,
)

CONFIG = EncoderConfig(encoder="stain-stats")


class MeanColour(Encoder):
    """Three numbers a patch, so that a test sees at a glance which patch a row is of."""

    fingerprint = "mean-colour"

    def __init__(self):
        self.card = EncoderCard(
            name="mean-colour", dim=3, input_px=96, px_multiple=1, licence="-", source="-"
        )
        self.seen = []

    def encode(self, patches):
        self.seen.append(len(patches))
        return patches.mean(axis=(1, 2), dtype=np.float32)


@pytest.fixture(scope="module")
def slide(phantom):
    with OpenSlideSlide(phantom.path, id="ward/a", mpp=None, fallback_mpp=None) as opened:
        yield opened


@pytest.fixture(scope="module")
def grid(slide):
    found = tile_slide(slide, segment_tissue(slide), GridConfig(tile_px=96, min_tissue=0.5), TissueConfig())
    assert len(found) > 40
    return found


@pytest.fixture
def path(tmp_path):
    return tmp_path / "mean-colour" / "ward" / "a.h5"


def extract(slide, grid, path, encoder=None, **options):
    encoder = encoder or MeanColour()
    return extract_features(slide, grid, encoder, path, config=BagConfig(**options))


def break_at(monkeypatch, slide, places, error=SlideError):
    """Make the slide unreadable at these level-0 corners, read one by one."""
    read = slide._read

    def broken(x, y, level, size_px):
        if (x, y) in places:
            raise error(f"{slide.id}: cannot be read at ({x}, {y})")
        return read(x, y, level, size_px)

    monkeypatch.setattr(slide, "_read", broken)


def test_rows_are_the_encoded_patches_in_the_grids_order(slide, grid, path):
    encoder = load_encoder(CONFIG)
    some = replace(grid, coords=grid.coords[:12], tissue_fraction=grid.tissue_fraction[:12])
    assert extract(slide, some, path, encoder, batch=5, dtype="float32") == 0
    patches = np.concatenate([part.pixels for part in read_patches(slide, some)])
    bag = load_features(path)
    np.testing.assert_array_equal(bag.features, encoder.encode(patches))
    np.testing.assert_array_equal(bag.coords, some.coords)
    extract(slide, some, path, encoder)
    half = load_features(path)
    assert half.features.dtype == np.float16
    np.testing.assert_array_equal(half.features, encoder.encode(patches).astype(np.float16))


def test_the_file_holds_what_its_page_says(slide, grid, path):
    encoder = MeanColour()
    extract(slide, grid, path, encoder)
    with h5py.File(path) as file:
        features, told = file["features"], dict(file.attrs)
        assert features.shape == (len(grid), 3)
        assert features.dtype == np.float16
        assert features.chunks is None
        assert features.compression is None
        assert features.id.get_offset() is not None  # one block of the file, to be mapped as it is
        assert (file["coords"].dtype, file["coords"].shape) == (np.int64, (len(grid), 2))
        assert (file["unreadable"].dtype, file["unreadable"].shape) == (bool, (len(grid),))
        assert file["coords"].attrs["patch_size_level0"] == grid.tile_px_level0
        assert file["coords"].attrs["name"] == "ward/a"
    expected = {
        "format": "slidebag.features",
        "format_version": 1,
        "slide_id": "ward/a",
        "slide_path": grid.slide_path,
        "slide_fingerprint": grid.slide_fingerprint,
        "mpp": 0.5,
        "mpp_source": "openslide.mpp-x",
        "tile_mpp": 0.5,
        "tile_px": 96,
        "tile_px_level0": 96,
        "overlap_px": 0,
        "level": 0,
        "read_px": 96,
        "width_level0": 1600,
        "height_level0": 1203,
        "encoder": "mean-colour",
        "encoder_fingerprint": "mean-colour",
        "dim": 3,
        "dtype": "float16",
        "precision": "float32",
        "n_unreadable": 0,
        "fingerprint": bag_fingerprint(grid.fingerprint, encoder, BagConfig()),
    }
    assert {name: told[name] for name in expected} == expected
    assert json.loads(told["config"])["encoder"]["encoder"] == "mean-colour"
    assert {"slidebag_version", "created"} <= set(told)


def test_features_lie_uncompressed_in_the_file(slide, grid, path):
    extract(slide, grid, path, dtype="float32")
    with h5py.File(path) as file:
        offset = file["features"].id.get_offset()
    mapped = np.memmap(path, np.float32, "r", offset, (len(grid), 3))
    np.testing.assert_array_equal(mapped, load_features(path).features)


def test_a_bag_comes_back_with_its_names(slide, grid, path):
    extract(slide, grid, path)
    bag = load_features(path)
    assert len(bag) == len(grid)
    assert (bag.slide_id, bag.encoder, bag.encoder_fingerprint) == ("ward/a", "mean-colour", "mean-colour")
    assert bag.fingerprint == stored_fingerprint(path)
    assert f"{len(grid)} tiles × 3 features" in repr(bag)


def test_fingerprint_follows_grid_encoder_and_dtype(slide, grid):
    other = MeanColour()
    other.fingerprint = "retrained"
    finer = tile_slide(slide, segment_tissue(slide), GridConfig(tile_px=64))
    told = [
        bag_fingerprint(grid.fingerprint, MeanColour(), BagConfig()),
        bag_fingerprint(grid.fingerprint, MeanColour(), BagConfig(dtype="float32")),
        bag_fingerprint(grid.fingerprint, other, BagConfig()),
        bag_fingerprint(finer.fingerprint, MeanColour(), BagConfig()),
    ]
    assert len(set(told)) == 4


def test_unreadable_tiles_are_counted_and_zero_and_the_rest_is_right(slide, grid, path, monkeypatch):
    extract(slide, grid, path)
    whole = load_features(path).features
    broken = [0, 7, 8, 9, len(grid) - 1]
    break_at(monkeypatch, slide, {tuple(xy) for xy in grid.coords[broken].tolist()})
    assert extract(slide, grid, path, batch=3) == 5  # one batch of which nothing can be read among them
    bag = load_features(path)
    assert np.flatnonzero(bag.unreadable).tolist() == broken
    assert not bag.features[bag.unreadable].any()
    np.testing.assert_array_equal(bag.features[~bag.unreadable], whole[~bag.unreadable])
    with h5py.File(path) as file:
        assert file.attrs["n_unreadable"] == 5


def test_a_slide_of_which_nothing_can_be_read_fails(slide, grid, path, monkeypatch):
    break_at(monkeypatch, slide, {tuple(xy) for xy in grid.coords.tolist()})
    with pytest.raises(SlideError, match=rf"ward/a: none of its {len(grid)} tiles"):
        extract(slide, grid, path)
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("value", "dtype"), [(np.nan, "float32"), (np.inf, "float32"), (1e6, "float16"), (-np.inf, "float16")]
)
def test_numbers_that_cannot_be_kept_fail(slide, grid, path, value, dtype):
    class Sick(MeanColour):
        def encode(self, patches):
            found = super().encode(patches)
            if len(self.seen) == 2:
                found[0, 1] = value
            return found

    with pytest.raises(SlidebagError, match=rf"ward/a: encoder mean-colour.*{dtype}"):
        extract(slide, grid, path, Sick(), batch=8, dtype=dtype)
    assert list(path.parent.iterdir()) == []


def test_float32_keeps_what_float16_cannot(slide, grid, path):
    class Loud(MeanColour):
        def encode(self, patches):
            return super().encode(patches) * 1e4

    extract(slide, grid, path, Loud(), dtype="float32")
    assert load_features(path).features.max() > 1e5


def test_a_slide_without_tiles_has_a_whole_empty_bag(slide, grid, path, tmp_path):
    empty = replace(grid, coords=np.zeros((0, 2), np.int64), tissue_fraction=np.zeros(0, np.float32))
    encoder = MeanColour()
    assert extract(slide, empty, path, encoder) == 0
    bag = load_features(path)
    assert bag.features.shape == (0, 3)
    assert bag.coords.shape == (0, 2)
    assert bag.unreadable.shape == (0,)
    assert bag.fingerprint == bag_fingerprint(empty.fingerprint, encoder, BagConfig())
    assert "0 tiles" in repr(bag)


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_the_encoder_never_sees_more_than_a_batch(slide, grid, path, batch):
    encoder = MeanColour()
    extract(slide, grid, path, encoder, batch=batch)
    assert max(encoder.seen) <= batch
    assert sum(encoder.seen) == len(grid)


def test_batches_make_no_difference(slide, grid, path):
    extract(slide, grid, path, batch=1)
    one = load_features(path).features
    extract(slide, grid, path, batch=50)
    np.testing.assert_array_equal(load_features(path).features, one)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_being_stopped_half_way_leaves_what_was_there(slide, grid, path, error):
    class Stopped(MeanColour):
        def encode(self, patches):
            if len(self.seen) == 3:
                raise error
            return super().encode(patches)

    with pytest.raises(error):
        extract(slide, grid, path, Stopped(), batch=8)
    assert list(path.parent.iterdir()) == []
    extract(slide, grid, path)
    before = path.read_bytes()
    with pytest.raises(error):
        extract(slide, grid, path, Stopped(), batch=8)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_patches_the_encoder_was_not_made_for_are_refused(slide, grid, path):
    encoder = MeanColour()
    for change, told in [({"px_multiple": 14}, "multiple of 14"), ({"mpp": 0.25}, "--tile-mpp 0.25")]:
        encoder.card = replace(MeanColour().card, **change)
        with pytest.raises(ConfigError, match=told):
            extract(slide, grid, path, encoder)
    with pytest.raises(ConfigError, match=r"int8.*float16, float32"):
        extract(slide, grid, path, dtype="int8")
    assert encoder.seen == []
    assert not path.exists()


def test_a_newer_version_is_refused(slide, grid, path):
    extract(slide, grid, path)
    with h5py.File(path, "a") as file:
        file.attrs["format_version"] = 2
    with pytest.raises(FormatError, match=r"a\.h5: format version 2.*up to 1\b"):
        load_features(path)


def test_other_and_damaged_files_are_refused(slide, grid, path, tmp_path):
    save_grid(grid, tmp_path / "grid.h5")
    with pytest.raises(FormatError, match=r"'slidebag\.grid'.*'slidebag\.features'"):
        load_features(tmp_path / "grid.h5")
    with pytest.raises(FormatError, match="no such file"):
        load_features(path)
    extract(slide, grid, path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-200])
    with pytest.raises(FormatError, match=r"a\.h5"):
        load_features(path)
    for name, told in [("unreadable", "no dataset 'unreadable'"), ("features", "no dataset 'features'")]:
        path.write_bytes(whole)
        with h5py.File(path, "a") as file:
            del file[name]
        with pytest.raises(FormatError, match=told):
            load_features(path)
    path.write_bytes(whole)
    with h5py.File(path, "a") as file:
        del file["coords"]
        file["coords"] = grid.coords[:-1]
    with pytest.raises(FormatError, match=rf"{len(grid)} features, {len(grid) - 1} coords"):
        load_features(path)
    path.write_bytes(whole)
    with h5py.File(path, "a") as file:
        del file.attrs["encoder"]
    with pytest.raises(FormatError, match="no attribute 'encoder'"):
        load_features(path)
