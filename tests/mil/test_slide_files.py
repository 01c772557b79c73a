"""Folders as people have them."""

import os
import shutil
import struct
from pathlib import Path

import pandas as pd
import pytest

from features import EncoderConfig
from mil import Cohort, CohortError, ExtractConfig, Run, extract, tile
from mil.dicom_series import series_of
from mil.slide_files import find_slides
from tiling import GridConfig, TissueConfig


def ids(folder):
    return list(find_slides(folder))


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return folder


def element(group, number, kind, value, *, implicit=False):
    value += b"\0" * (len(value) % 2)
    tag = struct.pack("<HH", group, number)
    if implicit:
        return tag + struct.pack("<I", len(value)) + value
    if kind in (b"SQ", b"OB"):
        return tag + kind + b"\0\0" + struct.pack("<I", len(value)) + value
    return tag + kind + struct.pack("<H", len(value)) + value


def dicom(path, uid, *, syntax=b"1.2.840.10008.1.2.1", implicit=False, before=b""):
    """The head of a DICOM file, as far as SeriesInstanceUID; `before` comes first in the main part."""
    told = element(2, 0x10, b"UI", syntax)
    told += before + element(8, 0x60, b"CS", b"SM", implicit=implicit)
    told += element(0x20, 0xE, b"UI", uid.encode(), implicit=implicit)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\0" * 128 + b"DICM" + told + element(0x20, 0x10, b"SH", b"", implicit=implicit))
    return path


def test_nested_folders_spaces_and_other_letters(tmp_path):
    touch(tmp_path, "a b/žluť/肺 1.svs", "a b/x.y.tiff", "Ünï.NDPI")
    assert ids(tmp_path) == ["a b/x.y", "a b/žluť/肺 1", "Ünï"]


def test_slides_of_one_name_keep_folder_or_suffix(tmp_path):
    touch(tmp_path, "a/one.svs", "b/one.svs", "b/one.tif", "c/one.tif", "one.svs.tif", "one.svs", "one.tif")
    assert ids(tmp_path) == ["a/one", "b/one.svs", "b/one.tif", "c/one", "one.svs", "one.svs.tif", "one.tif"]


def test_a_table_tells_slides_of_one_name_apart_by_suffix(tmp_path):
    folder = touch(tmp_path / "slides", "one.svs", "one.tif")
    table = tmp_path / "table.csv"
    table.write_text("slide,label\none.svs,a\none.tif,b\n")
    assert {s.slide_id: s.label for s in Cohort.from_folder(folder, table).slides} == {
        "one.svs": "a",
        "one.tif": "b",
    }
    table.write_text("slide,label\none,a\n")
    with pytest.raises(CohortError, match=r"one\.svs or one\.tif"):
        Cohort.from_folder(folder, table)


def test_pictures_are_slides_where_the_table_names_them(tmp_path):
    folder = touch(tmp_path / "slides", "a.png", "deep/b.JPG", "c.svs", "c.png", "mask.png", "deep/a.bmp")
    table = tmp_path / "table.csv"
    table.write_text("slide,label\na.png,x\nb,y\nc,z\n")  # c is the slide, whatever picture lies beside it
    cohort = Cohort.from_folder(folder, table)
    assert {s.slide_id: s.path.name for s in cohort.slides} == {"a": "a.png", "c": "c.svs", "deep/b": "b.JPG"}
    assert not cohort.failures
    table.write_text("slide,label\nc.svs,x\nc.png,y\n")
    assert [s.slide_id for s in Cohort.from_folder(folder, table).slides] == ["c.png", "c.svs"]


def test_a_folder_of_pictures_alone_says_how_they_are_taken(tmp_path):
    with pytest.raises(CohortError, match=r"no slides there; .*\.png .*count where a slide table"):
        find_slides(touch(tmp_path, "a.png"))


def test_hidden_files_and_folders_are_left_alone(tmp_path):
    touch(tmp_path, "one.svs", "._one.svs", ".trash/two.svs")
    assert ids(tmp_path) == ["one"]


def test_links_to_files_and_folders_are_followed(tmp_path):
    store = touch(tmp_path / "store", "deep/one.svs", "two.svs")
    slides = tmp_path / "slides"
    slides.mkdir()
    (slides / "linked").symlink_to(store / "deep")
    (slides / "second.svs").symlink_to(store / "two.svs")
    assert find_slides(slides) == {
        "linked/one": slides / "linked" / "one.svs",
        "second": slides / "second.svs",
    }


def test_links_in_a_circle_end_and_no_folder_counts_twice(tmp_path):
    touch(tmp_path, "z/one.svs", "z/deeper/two.svs")
    (tmp_path / "z" / "deeper" / "up").symlink_to(tmp_path)
    (tmp_path / "a").symlink_to(tmp_path / "z")  # sorts before the real one
    (tmp_path / "self").symlink_to(tmp_path / "self")
    (tmp_path / "self.svs").symlink_to(tmp_path / "self.svs")
    assert ids(tmp_path) == ["self", "z/deeper/two", "z/one"]


def test_a_dangling_link_fails_as_that_slide_and_the_others_go_on(tmp_path, phantom):
    slides = tmp_path / "slides"
    slides.mkdir()
    shutil.copy(phantom.path, slides / "whole.svs")
    (slides / "gone.svs").symlink_to(tmp_path / "nowhere.svs")
    run = Run.create(tmp_path / "run")
    outcome = tile(Cohort.from_folder(slides), run, GridConfig(tile_px=112), TissueConfig())
    assert dict(outcome.statuses) == {"gone": "failed", "whole": "done"}
    (failure,) = outcome.failures
    assert "nowhere.svs, which is not there" in failure.error
    assert failure.hint


def test_slides_of_one_name_go_through_tile_and_extract(tmp_path, phantom):
    slides = tmp_path / "slides"
    for name in ("ž 1/one.svs", "ž 1/one.tif", "two.svs"):
        (slides / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(phantom.path, slides / name)
    run = Run.create(tmp_path / "run")
    tile(Cohort.from_folder(slides), run, GridConfig(tile_px=112), TissueConfig())
    assert extract(run, EncoderConfig(encoder="stain-stats"), ExtractConfig()).counts == {"done": 3}
    written = sorted(p.relative_to(run.root / "tiles").as_posix() for p in (run.root / "tiles").rglob("*.h5"))
    assert written == ["two.h5", "ž 1/one.svs.h5", "ž 1/one.tif.h5"]
    assert pd.read_csv(run.root / "slides.csv").status.tolist() == ["extracted"] * 3


def test_of_a_mirax_folder_only_the_mrxs_counts(tmp_path):
    touch(tmp_path, "m/X.mrxs", "m/X/Data0000.dat", "m/X/Slidedat.ini", "m/X/preview.tif", "m/Y/real.svs")
    touch(tmp_path, "m/Z.mrxs", "m/Z/other.svs")  # no data of a scanner's: a folder of slides
    assert ids(tmp_path) == ["m/X", "m/Y/real", "m/Z", "m/Z/other"]


def test_of_a_hamamatsu_set_only_the_vms_counts(tmp_path):
    touch(tmp_path, "h/S.vms", "h/S.jpg", "h/S(1,0).jpg", "h/S_map2.jpg", "h/S_macro.jpg", "h/S.opt")
    assert find_slides(tmp_path) == {"h/S": tmp_path / "h" / "S.vms"}


def test_a_folder_of_one_dicom_series_is_one_slide(tmp_path):
    for k in range(3):
        dicom(tmp_path / "patient" / "series" / f"{k}.dcm", "1.2.3")
    assert find_slides(tmp_path) == {"patient/series": tmp_path / "patient" / "series" / "0.dcm"}
    assert ids(tmp_path / "patient" / "series") == ["series"]


@pytest.mark.parametrize("name", ["patient/series", "series", "patient/series.dcm"])
def test_a_table_calls_a_series_by_its_folder(tmp_path, name):
    for k in range(2):
        dicom(tmp_path / "slides" / "patient" / "series" / f"{k}.dcm", "1.2.3")
    (tmp_path / "table.csv").write_text(f"slide,label\n{name},a\n")
    (slide,) = Cohort.from_folder(tmp_path / "slides", tmp_path / "table.csv").slides
    assert (slide.slide_id, slide.label) == ("patient/series", "a")


def test_several_series_in_a_folder_are_several_slides(tmp_path):
    for k, uid in enumerate(["1.2.3", "1.2.4", "1.2.3", "1.2.4"]):
        dicom(tmp_path / "all" / f"{k}.dcm", uid)
    touch(tmp_path, "all/broken.dcm")
    assert ids(tmp_path) == ["all/0", "all/1", "all/broken"]


def test_a_series_beside_other_slides_has_the_name_of_its_first_file(tmp_path):
    for k in range(2):
        dicom(tmp_path / "mixed" / f"{k}.dcm", "1.2.3")
    touch(tmp_path, "mixed/other.svs")
    dicom(tmp_path / "single" / "only.dcm", "1.2.3")
    assert ids(tmp_path) == ["mixed/0", "mixed/other", "single/only"]


def test_a_folder_named_like_a_slide_beside_it(tmp_path):
    for k in range(2):
        dicom(tmp_path / "s" / f"{k}.dcm", "1.2.3")
    touch(tmp_path, "s.svs")
    assert ids(tmp_path) == ["s.svs", "s/0.dcm"]


def test_the_series_is_found_behind_sequences_that_name_others(tmp_path):
    inner = element(0x20, 0xE, b"UI", b"9.9.9")
    item = struct.pack("<HHI", 0xFFFE, 0xE000, len(inner)) + inner
    defined = element(8, 0x1115, b"SQ", item)
    head = struct.pack("<HH", 8, 0x1115) + b"SQ\0\0" + struct.pack("<I", 0xFFFFFFFF)
    end_item, end = struct.pack("<HHI", 0xFFFE, 0xE00D, 0), struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    open_item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    undefined = head + open_item + inner + head + item + end + end_item + item + end
    for before in (b"", defined, undefined):
        assert series_of(dicom(tmp_path / "a.dcm", "1.2.3", before=before)) == "1.2.3"
    implicit = dicom(tmp_path / "b.dcm", "1.2.3", syntax=b"1.2.840.10008.1.2", implicit=True)
    assert series_of(implicit) == "1.2.3"


def test_what_is_no_dicom_has_no_series(tmp_path):
    whole = dicom(tmp_path / "a.dcm", "1.2.3").read_bytes()
    for content in (b"", b"II*\0" * 99, whole[:131], whole[:150], b"\0" * 128 + b"DICM"):
        (tmp_path / "a.dcm").write_bytes(content)
        assert series_of(tmp_path / "a.dcm") is None
    assert series_of(tmp_path / "nowhere.dcm") is None
    deflated = dicom(tmp_path / "b.dcm", "1.2.3", syntax=b"1.2.840.10008.1.2.1.99")
    assert series_of(deflated) is None


@pytest.mark.data
def test_real_dicom_files_are_one_slide_that_opens(tmp_path, data_dir):
    for name in ("boxes_0.dcm", "boxes_1.dcm"):
        shutil.copy(data_dir / "slides" / name, tmp_path / name)
    (tmp_path / "series").mkdir()
    for name in ("boxes_0.dcm", "boxes_1.dcm"):
        (tmp_path / name).rename(tmp_path / "series" / name)
    assert series_of(tmp_path / "series" / "boxes_0.dcm").startswith("1.3.6.1.4.1.5962.99.1.")
    (slide,) = Cohort.from_folder(tmp_path).slides
    assert slide.slide_id == "series"
    openslide = pytest.importorskip("openslide")
    with openslide.OpenSlide(slide.path) as opened:
        assert opened.properties["dicom.SeriesInstanceUID"] == series_of(slide.path)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root reads everything")
def test_a_folder_that_cannot_be_read_is_an_error(tmp_path):
    touch(tmp_path, "a/one.svs", "b.svs")
    (tmp_path / "a").chmod(0)
    try:
        with pytest.raises(CohortError, match="cannot be read"):
            find_slides(tmp_path)
    finally:
        (tmp_path / "a").chmod(0o755)


def test_an_ome_zarr_folder_is_one_slide(tmp_path):
    for name in ("a/0/c/0/0", "a.zarr/0/c/0/0", "a.zarr/0"):
        (tmp_path / "slides" / name).mkdir(parents=True, exist_ok=True)
    (tmp_path / "slides/a.zarr/0/c/0/0/x.tif").write_bytes(b"")
    assert find_slides(tmp_path / "slides") == {"a": tmp_path / "slides" / "a.zarr"}
    assert find_slides(tmp_path / "slides" / "a.zarr") == {"a": tmp_path / "slides" / "a.zarr"}
