"""Other tools' files, laid out by hand as those tools write them, and the way there and back."""

import shutil
from contextlib import suppress

import h5py
import numpy as np
import pytest

from tiling import (
    COORDS_FORMATS,
    ConfigError,
    FormatError,
    GridConfig,
    Hdf5Format,
    TissueMask,
    export_grid,
    grid_fingerprint,
    import_grid,
    load_grid,
    paint,
    read_patches,
    save_grid,
    tile_slide,
    write_geojson,
)

SIZE_PX = (8000, 6000)
XY = np.array([[512, 0], [512, 1024], [512, 2048], [3584, 1024], [3584, 2048]])  # by columns, as CLAM writes


@pytest.fixture
def slide(fake_slide):
    """0.25 µm/px, levels 1, 4 and 16."""
    return fake_slide(size_px=SIZE_PX, mpp=0.25, downsamples=(1, 4, 16))


def clam(path, coords=XY, **changes):
    told = {
        "patch_size": 256, "patch_level": 1, "downsample": np.array([4.0, 4.0]),
        "downsampled_level_dim": np.array([2000, 1500]), "level_dim": np.array([2000, 1500]),
        "name": "fake", "save_path": "RESULTS/patches",
    } | changes  # fmt: skip
    with h5py.File(path, "w") as file:
        data = file.create_dataset("coords", data=coords.astype(np.int64), maxshape=(None, 2), chunks=(1, 2))
        for name, value in told.items():
            if value is not None:
                data.attrs[name] = value
    return path


def trident(path, coords=XY, **changes):
    told = {
        "patch_size": 512, "patch_size_level0": 1024, "level0_magnification": 40, "target_magnification": 20,
        "overlap": 0, "name": "fake", "savetodir": "job/20x_512px_0px_overlap",
        "level0_width": SIZE_PX[0], "level0_height": SIZE_PX[1],
    } | changes  # fmt: skip
    with h5py.File(path, "w") as file:
        data = file.create_dataset("coords", data=coords.astype(np.int64))
        for name, value in told.items():
            data.attrs[name] = "None" if value is None else value
    return path


def atlaspatch(path, coords=XY, **changes):
    rows = np.hstack([coords, np.tile([256, 256, 1], (len(coords), 1))]).astype(np.int32)
    told = {
        "patch_size": 512, "patch_size_level0": 1024, "level0_magnification": 40, "target_magnification": 20,
        "overlap": 0, "level0_width": SIZE_PX[0], "level0_height": SIZE_PX[1], "wsi_path": "slides/fake.svs",
    } | changes  # fmt: skip
    with h5py.File(path, "w") as file:
        file.create_dataset("coords", data=rows, maxshape=(None, 5), chunks=(64, 5))
        file.create_dataset("features/resnet50", data=np.zeros((len(rows), 8), np.float32))
        file.create_dataset("features/uni_v1", data=np.zeros((len(rows), 4), np.float32))
        file.attrs.update(told)
    return path


def stamp(path, coords=XY, **changes):
    told = {
        "stamp_version": "2.3.0", "extractor": "uni2", "unit": "um", "tile_size_um": 256.0,
        "tile_size_px": 224, "feat_type": "tile",
    } | changes  # fmt: skip
    with h5py.File(path, "w") as file:
        file["coords"] = (coords * 0.25).astype(np.float32)
        file["feats"] = np.zeros((len(coords), 16), np.float16)
        file.attrs.update({k: v for k, v in told.items() if v is not None})
    return path


WRITERS = {"clam": clam, "trident": trident, "atlaspatch": atlaspatch, "stamp": stamp}
TILE_PX = {"clam": 256, "trident": 512, "atlaspatch": 512, "stamp": 224}


def test_every_format_has_a_file_written_by_hand():
    assert set(WRITERS) == {name for name in COORDS_FORMATS if isinstance(COORDS_FORMATS[name], Hdf5Format)}


@pytest.mark.parametrize("format", sorted(WRITERS))
class TestEachFormat:
    def test_tiles_are_where_the_other_tool_read_them(self, format, slide, tmp_path):
        grid = import_grid(WRITERS[format](tmp_path / "fake.h5"), slide, format)
        np.testing.assert_array_equal(grid.coords, XY)
        assert grid.coords.dtype == np.int64
        assert grid.tile_px_level0 == 1024
        assert grid.config.tile_px == TILE_PX[format]
        assert grid.config.tile_mpp == pytest.approx(256 / TILE_PX[format])
        assert grid.config.overlap_px == 0
        assert grid.size_level0_px == SIZE_PX
        assert grid.read_px * slide.downsamples[grid.level] == pytest.approx(1024)
        assert np.isnan(grid.tissue_fraction).all()

    def test_a_grid_goes_there_and_comes_back_as_it_was(self, format, fake_slide, tmp_path):
        slide = fake_slide(size_px=SIZE_PX, mpp=0.2628, downsamples=(1, 4.0003, 16.01))
        mask = TissueMask(np.ones((60, 80), bool), np.zeros((60, 80, 3), np.uint8), SIZE_PX)
        config = GridConfig(tile_px=224, tile_mpp=0.5, overlap_px=16, min_tissue=0.5)
        grid = tile_slide(slide, mask, config)
        assert export_grid(grid, tmp_path / "x" / "fake.h5", format)
        back = import_grid(tmp_path / "x" / "fake.h5", slide, format)
        np.testing.assert_array_equal(back.coords, grid.coords)
        for name in ("config", "level", "read_px", "tile_px_level0", "mpp", "size_level0_px", "slide_id"):
            assert getattr(back, name) == getattr(grid, name), name

    def test_a_foreign_file_comes_back_the_same_place_for_place(self, format, slide, tmp_path):
        first = import_grid(WRITERS[format](tmp_path / "fake.h5"), slide, format)
        export_grid(first, tmp_path / "again.h5", format)
        with h5py.File(tmp_path / "again.h5", "a") as file:
            del file.attrs["slidebag_grid"]  # as if the other tool had written it
        again = import_grid(tmp_path / "again.h5", slide, format)
        np.testing.assert_array_equal(again.coords, first.coords)
        assert again.tile_px_level0 == first.tile_px_level0

    def test_an_imported_grid_is_saved_and_is_not_taken_for_our_own(self, format, slide, tmp_path):
        grid = import_grid(WRITERS[format](tmp_path / "fake.h5"), slide, format)
        save_grid(grid, tmp_path / "grid.h5")
        loaded = load_grid(tmp_path / "grid.h5")
        assert loaded.fingerprint == grid.fingerprint
        assert loaded.fingerprint != grid_fingerprint(slide, grid.config, grid.tissue_config)
        moved = import_grid(WRITERS[format](tmp_path / "other.h5", XY + 16), slide, format)
        assert moved.fingerprint != grid.fingerprint

    def test_a_slide_without_tiles(self, format, slide, tmp_path):
        empty = import_grid(WRITERS[format](tmp_path / "fake.h5", XY[:0]), slide, format)
        assert empty.coords.shape == (0, 2)
        is_written = export_grid(empty, tmp_path / "empty.h5", format)
        assert is_written == (tmp_path / "empty.h5").exists() == (format in {"trident", "atlaspatch"})

    def test_the_same_places_may_be_seen_as_patches_of_another_size(self, format, slide, tmp_path):
        grid = import_grid(WRITERS[format](tmp_path / "fake.h5"), slide, format, tile_px=196)
        np.testing.assert_array_equal(grid.coords, XY)
        assert (grid.config.tile_px, grid.tile_px_level0) == (196, 1024)
        assert grid.config.tile_mpp == pytest.approx(256 / 196)
        with pytest.raises(FormatError, match="tiles of 0 px"):
            import_grid(tmp_path / "fake.h5", slide, format, tile_px=0)

    def test_sizes_may_be_given_where_the_file_tells_none(self, format, slide, tmp_path):
        path = WRITERS[format](tmp_path / "fake.h5")
        with h5py.File(path, "a") as file:
            for attributes in (file.attrs, file["coords"].attrs):
                for name in set(attributes) - {"unit"}:
                    del attributes[name]
        with pytest.raises(FormatError):
            import_grid(path, slide, format)
        grid = import_grid(path, slide, format, tile_px=256, tile_mpp=1.0)
        np.testing.assert_array_equal(grid.coords, XY)
        assert (grid.config.tile_px, grid.config.tile_mpp, grid.tile_px_level0) == (256, 1.0, 1024)
        with pytest.raises(ConfigError, match="of no known size"):
            import_grid(path, slide, format, tile_mpp=1.0)

    def test_scores_are_painted_where_the_tiles_are(self, format, slide, tmp_path):
        corners = np.vstack([XY, [[7500, 5555]]])  # over the border, and on no lattice
        grid = import_grid(WRITERS[format](tmp_path / "fake.h5", corners), slide, format)
        heatmap = paint(grid, np.arange(6), px_level0=16)
        for score, (x, y) in enumerate(corners):
            box = heatmap.values[y // 16 + 1 : (y + 1024) // 16, x // 16 + 1 : (x + 1024) // 16]
            assert (box == score).all()
        write_geojson(tmp_path / "t.geojson", grid, np.full((6, 2), 0.5), ["no", "yes"], fingerprint="f")
        patches = next(iter(read_patches(slide, grid)))
        assert not patches.unreadable.any()

    def test_tiles_outside_the_slide_are_refused(self, format, slide, tmp_path):
        path = WRITERS[format](tmp_path / "fake.h5", np.vstack([XY, [[8000, 0]]]))
        with pytest.raises(FormatError, match=r"1 of 6 tiles lie outside.*\(8000, 0\)") as caught:
            import_grid(path, slide, format)
        assert "fake.h5" in str(caught.value)

    def test_what_is_no_such_file_is_refused_by_name(self, format, slide, tmp_path):
        (tmp_path / "fake.h5").write_bytes(b"no HDF5")
        with pytest.raises(FormatError, match=r"fake\.h5: not a readable HDF5 file"):
            import_grid(tmp_path / "fake.h5", slide, format)
        with h5py.File(tmp_path / "bare.h5", "w") as file:
            file["coords"] = np.zeros((3, 7))
        with pytest.raises(FormatError, match=r"bare\.h5") as caught:
            import_grid(tmp_path / "bare.h5", slide, format)
        assert caught.value.hint

    @pytest.mark.parametrize(
        "wrong", ["x", np.nan, np.inf, -1, 0, 1e30, np.zeros(0), np.array([1.0, np.inf])]
    )
    def test_a_wrong_attribute_is_an_error_of_the_file(self, format, slide, tmp_path, wrong):
        whole = WRITERS[format](tmp_path / "whole.h5")
        with h5py.File(whole) as file:
            names = [*file.attrs, *file["coords"].attrs]
        for name in names:
            path = shutil.copy(whole, tmp_path / "fake.h5")
            with h5py.File(path, "a") as file:
                (file if name in file.attrs else file["coords"]).attrs[name] = wrong
            with suppress(FormatError):  # any other error would be ours
                assert len(import_grid(path, slide, format)) == 5

    @pytest.mark.parametrize(
        "wrong", [np.zeros(3), np.array([b"x"]), np.zeros((2, 2, 2)), np.full((3, 2), np.nan)]
    )
    def test_wrong_coordinates_are_an_error_of_the_file(self, format, slide, tmp_path, wrong):
        path = WRITERS[format](tmp_path / "fake.h5")
        with h5py.File(path, "a") as file:
            attributes = dict(file["coords"].attrs)
            del file["coords"]
            file["coords"] = wrong
            file["coords"].attrs.update(attributes)
        with pytest.raises(FormatError, match=r"fake\.h5: coords are"):
            import_grid(path, slide, format)

    def test_another_tools_file_is_not_misread(self, format, slide, tmp_path):
        for other in sorted(set(WRITERS) - {format}):
            with pytest.raises(FormatError) as caught:
                import_grid(WRITERS[other](tmp_path / "fake.h5"), slide, format)
            assert "--format" in caught.value.hint or "folder" in caught.value.hint


def test_an_unknown_format_names_the_known_ones(slide, tmp_path):
    with pytest.raises(ConfigError, match="choose from atlaspatch, clam, slideflow, stamp, trident"):
        import_grid(tmp_path / "fake.h5", slide, "zarr")


def test_clam_tells_overlap_by_the_distance_of_tiles_alone(slide, tmp_path):
    columns = [[x, y] for x in (0, 768, 1536) for y in range(0, 4000, 768)]
    columns += [[3001, y] for y in range(101, 2500, 768)]  # another piece of tissue has a grid of its own
    grid = import_grid(clam(tmp_path / "fake.h5", np.array(columns)), slide, "clam")
    assert grid.config.overlap_px == 64


def test_clam_reads_its_own_level_and_size(slide, tmp_path):
    grid = import_grid(clam(tmp_path / "fake.h5"), slide, "clam")
    assert (grid.level, grid.read_px) == (1, 256)
    grid = import_grid(
        clam(tmp_path / "fake.h5", downsample=4), slide, "clam"
    )  # some scripts write one number
    assert grid.tile_px_level0 == 1024


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"level_dim": np.array([1999, 1500])}, r"1999 × 1500 px.*has 2000 × 1500"),
        ({"patch_level": 3}, r"patch_level is 3.*levels 0 to 2"),
        ({"patch_size": None}, "no attribute 'patch_size'"),
        ({"patch_size": 0}, "make no grid"),
        ({"downsample": "four"}, "'downsample' is 'four'"),
    ],
)
def test_a_clam_file_that_does_not_fit_the_slide_is_refused(slide, tmp_path, changes, told):
    with pytest.raises(FormatError, match=told):
        import_grid(clam(tmp_path / "fake.h5", **changes), slide, "clam")


def test_trident_counts_overlap_and_size_in_target_pixels(slide, tmp_path):
    grid = import_grid(trident(tmp_path / "fake.h5", overlap=128), slide, "trident")
    assert (grid.config.tile_px, grid.config.overlap_px, grid.tile_px_level0) == (512, 128, 1024)


def test_trident_may_have_enlarged_and_may_not_know(slide, tmp_path):
    larger = trident(tmp_path / "fake.h5", patch_size_level0=256)
    grid = import_grid(larger, slide, "trident")
    assert (grid.tile_px_level0, grid.config.allow_upsampling) == (256, True)
    unknown = trident(tmp_path / "fake.h5", overlap=None, level0_width=None, level0_height=None)
    assert import_grid(unknown, slide, "trident").config.overlap_px == 0
    with pytest.raises(FormatError, match="no attribute 'patch_size_level0'"):
        import_grid(trident(tmp_path / "fake.h5", patch_size_level0=None), slide, "trident")


@pytest.mark.parametrize("format", ["trident", "atlaspatch"])
def test_a_file_of_another_slide_is_refused(slide, tmp_path, format):
    path = WRITERS[format](tmp_path / "fake.h5", level0_width=9000)
    with pytest.raises(FormatError, match=r"made on 9000 × 6000 px, slide fake has 8000 × 6000"):
        import_grid(path, slide, format)


def test_atlaspatch_is_written_with_level_and_read_size(slide, tmp_path):
    grid = import_grid(atlaspatch(tmp_path / "fake.h5"), slide, "atlaspatch")
    export_grid(grid, tmp_path / "again.h5", "atlaspatch")
    with h5py.File(tmp_path / "again.h5") as file:
        assert file["coords"].dtype == np.int32
        assert file["coords"].shape == (5, 5)
        assert (file["coords"][:, 2:] == (grid.read_px, grid.read_px, grid.level)).all()
        assert file.attrs["patch_size_level0"] == 1024


def test_stamp_speaks_of_microns(slide, tmp_path):
    grid = import_grid(stamp(tmp_path / "fake.h5"), slide, "stamp")
    export_grid(grid, tmp_path / "again.h5", "stamp")
    with h5py.File(tmp_path / "again.h5") as file:
        assert file["coords"].dtype == np.float32
        np.testing.assert_allclose(file["coords"][:], XY * 0.25)
        assert (file.attrs["unit"], file.attrs["tile_size_um"], file.attrs["tile_size_px"]) == (
            "um",
            256,
            224,
        )
    with pytest.raises(FormatError, match="unit is None"):
        import_grid(stamp(tmp_path / "fake.h5", unit=None), slide, "stamp")


def test_stamps_float32_keeps_the_pixel_on_the_largest_slide(fake_slide, tmp_path):
    slide = fake_slide(size_px=(400_000, 300_000), mpp=0.1103)
    corners = np.random.default_rng(0).integers(0, 299_000, (5000, 2))
    grid = import_grid(
        clam(tmp_path / "a.h5", corners, patch_level=0, downsample=1, level_dim=None), slide, "clam"
    )
    export_grid(grid, tmp_path / "b.h5", "stamp")
    np.testing.assert_array_equal(import_grid(tmp_path / "b.h5", slide, "stamp").coords, corners)


def test_clams_features_alone_tell_no_size_and_are_refused(slide, tmp_path):
    with h5py.File(tmp_path / "fake.h5", "w") as file:  # features/h5_files/<slide>.h5
        file["features"] = np.zeros((len(XY), 1024), np.float32)
        file["coords"] = XY.astype(np.int32)
    with pytest.raises(FormatError, match="no attribute 'patch_level'") as caught:
        import_grid(tmp_path / "fake.h5", slide, "clam")
    assert "folder of coordinate files" in caught.value.hint


def test_tridents_features_hold_the_coordinates_too(slide, tmp_path):
    with h5py.File(trident(tmp_path / "fake.h5"), "a") as file:  # features_<encoder>/<slide>.h5
        file["features"] = np.zeros((len(XY), 1536), np.float16)
        file["features"].attrs.update({"name": "fake", "encoder": "uni_v2", "savetodir": "None"})
    np.testing.assert_array_equal(import_grid(tmp_path / "fake.h5", slide, "trident").coords, XY)


def test_stamps_rows_stay_in_the_files_order(slide, tmp_path):
    shuffled = XY[[3, 0, 4, 2, 1]]
    grid = import_grid(stamp(tmp_path / "fake.h5", shuffled), slide, "stamp")
    np.testing.assert_array_equal(grid.coords, shuffled)


def test_stamps_microns_become_pixels_by_the_slides_own_resolution(fake_slide, tmp_path):
    with pytest.raises(FormatError, match="outside the slide"):  # microns taken at another scale
        import_grid(stamp(tmp_path / "fake.h5"), fake_slide(size_px=(4000, 3000), mpp=0.2), "stamp")
    coarse = fake_slide(size_px=(4000, 3000), mpp=0.5)
    np.testing.assert_array_equal(import_grid(tmp_path / "fake.h5", coarse, "stamp").coords, XY // 2)


@pytest.mark.parametrize(
    ("format", "attributes"),
    [
        ("clam", "patch_size patch_level downsample downsampled_level_dim level_dim name save_path"),
        (
            "trident",
            "patch_size patch_size_level0 level0_magnification target_magnification overlap name savetodir "
            "level0_width level0_height",
        ),
    ],
)
def test_coordinates_are_written_with_the_attributes_that_the_tool_reads(slide, tmp_path, format, attributes):
    grid = import_grid(WRITERS[format](tmp_path / "fake.h5"), slide, format)
    export_grid(grid, tmp_path / "again.h5", format)
    with h5py.File(tmp_path / "again.h5") as file:
        coords = file["coords"]
        assert (coords.dtype, coords.shape) == (np.int64, (5, 2))
        assert set(attributes.split()) <= set(coords.attrs)
        np.testing.assert_array_equal(coords, XY)
        if format == "clam":  # a reader multiplies the size by the level's downsample
            assert coords.attrs["patch_size"] * coords.attrs["downsample"][0] == grid.tile_px_level0
        else:
            assert coords.attrs["patch_size"] == grid.config.tile_px
            assert coords.attrs["patch_size_level0"] == grid.tile_px_level0
