import errno
import os
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from tiling import (
    FormatError,
    GridConfig,
    SlideError,
    TissueConfig,
    WriteError,
    discard,
    fingerprint,
    open_checked,
    read_array,
    read_header,
    replacing,
    replacing_folder,
    stored_fingerprint,
    sweep,
    write_header,
)


@dataclass(frozen=True)
class One:
    side: int = 1
    share: float = 0.5
    name: str = "a"


@dataclass(frozen=True)
class Other:
    side: int = 1
    share: float = 0.5
    name: str = "a"


def make_file(path, kind="grid", **attributes):
    with h5py.File(path, "w") as file:
        write_header(file, kind, attributes)
        file["rows"] = np.arange(5)
    return path


def test_fingerprint_changes_with_each_value():
    values = [
        (One(),),
        (One(side=2),),
        (One(share=0.25),),
        (One(name="b"),),
        (Other(),),
        (One(), One()),
        ("a", "b"),
        ("b", "a"),
        ("ab",),
        ("1",),
        (1,),
        (None,),
        (True,),
        ([1, 2],),
        (1, 2),
        ({"a": 1},),
    ]
    told = [fingerprint(*value) for value in values]
    assert len(set(told)) == len(values)
    assert all(len(digits) == 12 and int(digits, 16) >= 0 for digits in told)


def test_fingerprint_knows_no_order_of_keys_and_no_process():
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    values = "'slide', 0.2628, GridConfig(), TissueConfig(), {'b': 1, 'a': 2}"
    code = f"from tiling import *; print(fingerprint({values}))"
    told = [
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    ]
    assert set(told) == {fingerprint("slide", 0.2628, GridConfig(), TissueConfig(), {"a": 2, "b": 1})}


@pytest.mark.parametrize(
    "change", [{"tile_px": 256}, {"tile_mpp": 0.25}, {"overlap_px": 1}, {"min_tissue": 0.5}]
)
def test_fingerprint_sees_every_option_of_a_config(change):
    assert fingerprint(replace(GridConfig(), **change)) != fingerprint(GridConfig())


def test_a_file_takes_its_place_only_when_the_block_succeeds(tmp_path):
    path = tmp_path / "deep" / "a.bin"
    with replacing(path) as temporary:
        temporary.write_bytes(b"new")
        assert not path.exists()
        assert temporary.parent == path.parent  # renaming works only inside one file system
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failed_block_leaves_what_was_there(tmp_path, error):
    path = tmp_path / "a.bin"

    def fail():
        with replacing(path) as temporary:
            temporary.write_bytes(b"half")
            raise error

    with pytest.raises(error):
        fail()
    assert list(tmp_path.iterdir()) == []
    path.write_bytes(b"old")
    with pytest.raises(error):
        fail()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_may_be_read_by_whom_the_umask_lets(tmp_path):
    before = os.umask(0o027)
    try:
        with replacing(tmp_path / "a.bin"):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "a.bin").stat().st_mode & 0o777 == 0o640


def test_two_writers_of_one_path_do_not_mix(tmp_path):
    path = tmp_path / "a.bin"
    with replacing(path) as one, replacing(path) as two:
        assert one != two
        one.write_bytes(b"one")
        two.write_bytes(b"two")
    assert path.read_bytes() == b"one"  # the last to finish
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["é" * 120 + ".h5", "a" * 255, "a" * 237])
def test_any_name_that_a_file_may_have_can_be_replaced(tmp_path, name):
    for _ in range(2):
        with replacing(tmp_path / name) as temporary:
            temporary.write_bytes(b"whole")
    left = tmp_path / f"{temporary.name.rsplit('.', 2)[0]}.killed.partial"
    left.write_bytes(b"")
    discard(tmp_path / name)
    assert list(tmp_path.iterdir()) == []
    with replacing_folder(tmp_path / name) as temporary:
        (temporary / "part").write_bytes(b"whole")
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_sweep_removes_only_what_is_stale(tmp_path):
    folder = tmp_path / "sub"
    folder.mkdir()
    stale, fresh = folder / ".a.h5.x1.partial", folder / ".b.h5.x2.partial"
    kept = [folder / "a.h5", folder / "c.partial", fresh]
    old = time.time() - 2 * 3600
    for path in (stale, *kept):
        path.write_bytes(b"")
        os.utime(path, (old, old))
    os.utime(fresh)
    sweep(tmp_path)
    assert sorted(folder.iterdir()) == sorted(kept)


def test_sweep_finds_what_replacing_leaves_when_killed(tmp_path):
    code = "import os, sys, pathlib, tiling\nwith tiling.replacing(pathlib.Path(sys.argv[1])): os._exit(9)"
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "a.h5"], check=False)
    assert done.returncode == 9
    (left,) = tmp_path.iterdir()
    assert left.name != "a.h5"
    os.utime(left, (0, 0))
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_header_comes_back_as_written(tmp_path):
    told = {
        "slide_id": "žluť/肺",
        "mpp": 0.2628,
        "config": {"a": [1, 2]},
        "classes": ["n", "t"],
        "fingerprint": "f0",
    }
    path = make_file(tmp_path / "a.h5", **told)
    with open_checked(path, "grid") as file:
        header = read_header(file)
        assert read_array(file, "rows").tolist() == [0, 1, 2, 3, 4]
        with pytest.raises(FormatError, match=r"a\.h5.*'columns'"):
            read_array(file, "columns")
    assert {key: header[key] for key in told} == told
    assert (header["format"], header["format_version"]) == ("slidebag.grid", 1)
    assert {"slidebag_version", "created"} <= set(header)
    assert stored_fingerprint(path) == "f0"


def test_another_kind_is_refused_by_name(tmp_path):
    path = make_file(tmp_path / "a.h5", "features", config={})
    with pytest.raises(FormatError, match=r"a\.h5.*'slidebag\.features'.*'slidebag\.grid'"):
        open_checked(path, "grid")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.attrs["config"] = "not JSON"  # another tool's file
    with pytest.raises(FormatError, match=r"b\.h5.*None.*'slidebag\.grid'"):
        open_checked(tmp_path / "b.h5", "grid")


def test_a_newer_version_is_refused_by_both_numbers(tmp_path):
    path = make_file(tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        file.attrs["format_version"] = 7
        file.attrs["config"] = "<in a way of the future>"
    with pytest.raises(FormatError, match=r"version 7.*up to 1\b.*upgrade"):
        open_checked(path, "grid")
    h5py.File(path, "a").close()  # it was let go of


@pytest.mark.parametrize("damage", ["absent", "empty", "text", "cut", "folder"])
def test_damaged_files_are_refused(tmp_path, damage):
    path = make_file(tmp_path / "a.h5", fingerprint="f0")
    whole = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage != "absent":
        path.write_bytes(
            {"empty": b"", "text": b"slide_id,label\n" * 99, "cut": whole[: len(whole) // 2]}[damage]
        )
    with pytest.raises(FormatError, match=r"a\.h5"):
        open_checked(path, "grid")
    assert stored_fingerprint(path) is None


def test_a_file_without_fingerprint_is_not_trusted(tmp_path):
    assert stored_fingerprint(make_file(tmp_path / "a.h5")) is None


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_what_cannot_be_written_is_told_with_its_place(tmp_path, number):
    told = pytest.raises(WriteError, match=r"a\.bin: cannot be written.*free space")
    with told, replacing(tmp_path / "a.bin") as temporary:
        temporary.write_bytes(b"half")
        raise OSError(number, "as the system says it")
    told = pytest.raises(WriteError, match=r"store: cannot be written.*free space")
    with told, replacing_folder(tmp_path / "store") as temporary:
        (temporary / "0").write_bytes(b"half")
        raise OSError(number, "as the system says it")
    assert list(tmp_path.iterdir()) == []


def test_what_stands_in_the_way_is_told_before_the_work(tmp_path):
    folder, file = tmp_path / "folder", tmp_path / "a.bin"
    (folder / "kept").mkdir(parents=True)
    file.write_text("kept")
    for replaced, path, why in [
        (replacing, folder, r"folder: cannot be written .*folder is a folder.*another name"),
        (replacing_folder, file, r"a\.bin: cannot be written .*a\.bin is no folder.*another name"),
        (replacing, file / "b" / "c.bin", r"c\.bin: cannot be written .*a\.bin is no folder"),
        (replacing_folder, file / "c", r"c: cannot be written .*a\.bin is no folder"),
    ]:
        with pytest.raises(WriteError, match=why), replaced(path):
            pytest.fail("the work has begun")
    assert {p.name for p in tmp_path.iterdir()} == {"folder", "a.bin"}
    assert file.read_text() == "kept"


def test_a_slide_that_cannot_be_read_is_no_matter_of_writing(tmp_path):
    with pytest.raises(SlideError, match="broken"), replacing(tmp_path / "a.bin"):
        raise SlideError("broken")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_takes_its_place_only_when_whole(tmp_path):
    place = tmp_path / "a" / "store"
    for text in ("one", "two"):
        with replacing_folder(place) as temporary:
            (temporary / "new" / text).mkdir(parents=True)
        assert [p.name for p in (place / "new").iterdir()] == [text]

    def stop():
        with replacing_folder(place) as temporary:
            (temporary / "half").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()
    assert [p.name for p in place.iterdir()] == ["new"]
    assert [p.name for p in place.parent.iterdir()] == ["store"]


def test_a_folder_that_cannot_take_its_place_leaves_the_old_one_there(tmp_path, monkeypatch):
    place = tmp_path / "store"
    with replacing_folder(place) as temporary:
        (temporary / "one").touch()
    rename = Path.replace

    def refuse(self, target):
        if (self / "two").exists():
            raise OSError(errno.EACCES, "as the system says it")
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", refuse)
    for path in (place, tmp_path / "new"):
        with pytest.raises(WriteError), replacing_folder(path) as temporary:
            (temporary / "two").touch()
    assert [p.name for p in place.iterdir()] == ["one"]
    assert [p.name for p in tmp_path.iterdir()] == ["store"]


def test_folders_that_killed_processes_left_are_swept_and_growing_ones_are_not(tmp_path):
    left, growing = tmp_path / ".left.partial", tmp_path / ".growing.partial"
    for folder in (left, growing):
        (folder / "c").mkdir(parents=True)
        (folder / "c" / "0").touch()
    for path in (left, left / "c", left / "c" / "0", growing, growing / "c"):
        os.utime(path, (0, 0))
    sweep(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [".growing.partial"]
