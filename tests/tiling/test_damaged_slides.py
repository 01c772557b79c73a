"""Slides damaged at random: whatever is in a file, the process lives, memory is bounded, errors are told."""

import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from damage import damaged
from dicom_slides import write_dicom
from PIL import Image

from tiling import OmeTiffSlide, SlideError, open_slide

MOST_ADDRESSES = 6 << 30  # what the libraries map is most of it
MOST_KB = 1_500_000  # of memory in use
MOST_CPU_S = 20  # a file
WORKER = """
import faulthandler, gc, os, resource, signal, sys, warnings
from pathlib import Path
warnings.simplefilter("ignore")
import numpy as np
from tiling import GridConfig, SlidebagError, open_slide, read_patches, segment_tissue, tile_slide
faulthandler.enable()
faulthandler.register(signal.SIGPROF, chain=True)
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]), int(sys.argv[1])))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
for line in sys.stdin:
    signal.setitimer(signal.ITIMER_PROF, int(sys.argv[2]))
    path = Path(line.strip())
    try:
        with open_slide(path, fallback_mpp=0.5) as slide:
            mask = segment_tissue(slide)
            grid = tile_slide(slide, mask, GridConfig(tile_mpp=max(0.5, slide.mpp * 1.7), max_tiles=16))
            lost = sum(int(p.unreadable.sum()) for p in read_patches(slide, grid))
            said = f"read {len(grid)} {lost}"
    except SlidebagError as error:
        said = f"told {type(error).__name__}"
    signal.setitimer(signal.ITIMER_PROF, 0)
    gc.collect()
    n_files = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    # the resource usage would count the memory of the process that this one was forked from
    peak = next(s for s in Path("/proc/self/status").read_text().splitlines() if s.startswith("VmHWM"))
    print(peak.split()[1], n_files, said, flush=True)
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the bounds on a process are Linux's")


class Worker:
    """A process that opens, segments, tiles and reads each file that it is told; fresh after a crash."""

    def __init__(self, folder):
        self._log, self._process, self._n_files = folder / "stderr.txt", None, None

    def ask(self, path):
        """Return what it said of a file, and what is wrong with that ("" if nothing)."""
        if self._process is None:
            self._start()
        self._process.stdin.write(f"{path}\n".encode())
        self._process.stdin.flush()
        ready, _, _ = select.select([self._process.stdout], [], [], 10 * MOST_CPU_S)
        line = self._process.stdout.readline() if ready else b""
        if not line:
            self.stop()
            return "", f"ended with {self.code}:\n{self._log.read_text()[-3000:]}"
        kb, n_files, said = line.decode().strip().split(maxsplit=2)
        self._n_files = self._n_files or int(n_files)
        wrong = f"{kb} kB in use" if int(kb) > MOST_KB else ""
        wrong = f"leaves {n_files} files open" if int(n_files) > self._n_files + 4 else wrong
        if wrong:
            self.stop()
        return said, wrong

    def _start(self):
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", WORKER, str(MOST_ADDRESSES), str(MOST_CPU_S)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
            )  # fmt: skip
        self._n_files = None

    def stop(self):
        if self._process is not None:
            self._process.stdin.close()
            self._process.stdout.close()
            try:
                self.code = self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self.code = self._process.wait()
        self._process = None


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    process = Worker(tmp_path_factory.mktemp("worker"))
    yield process
    process.stop()


def _small(phantom, side_px=700):
    with open_slide(phantom.path) as slide:
        return slide.read(400, 300, 0, (side_px, side_px))


def _ome_tiff(folder, phantom):
    path, pixels = folder / "a.ome.tif", _small(phantom)
    with tifffile.TiffWriter(path, ome=True) as file:
        kind = {"tile": (128, 128), "compression": "zlib", "photometric": "rgb"}
        file.write(pixels, subifds=1, metadata={"axes": "YXS", "PhysicalSizeX": 0.5}, **kind)
        file.write(pixels[::4, ::4], subfiletype=1, **kind)
    return path


def _ome_zarr(folder, phantom):
    path, pixels = folder / "a.zarr", _small(phantom)
    group = zarr.open_group(path, mode="w")
    axes = [{"name": n, "type": "space", "unit": "micrometer"} for n in "yx"]
    axes = [{"name": "c", "type": "channel"}, *axes]
    datasets = []
    for k, down in enumerate((1, 4)):
        group.create_array(
            str(k), data=np.ascontiguousarray(np.moveaxis(pixels[::down, ::down], 2, 0)), chunks=(3, 256, 256)
        )
        scale = {"type": "scale", "scale": [1, 0.5 * down, 0.5 * down]}
        datasets.append({"path": str(k), "coordinateTransformations": [scale]})
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
    return path


def _picture(name):
    def write(folder, phantom):
        path = folder / name
        Image.fromarray(_small(phantom)).save(path)
        return path

    return write


def _dicom(folder, phantom):
    write_dicom(folder / "a.dcm", [_small(phantom), _small(phantom)[::4, ::4]], phantom.mpp)
    return folder / "a.dcm"


DRAWN = {
    "dicom": _dicom,
    "svs": lambda folder, phantom: shutil.copy2(phantom.path, folder / "a.svs"),
    "ome-tiff": _ome_tiff,
    "ome-zarr": _ome_zarr,
    "png": _picture("a.png"),
    "jpeg": _picture("a.jpg"),
    "webp": _picture("a.webp"),
    "bmp": _picture("a.bmp"),
}
REAL = ("CMU-1-Small-Region.svs", "CMU-1-Small-Region.jpeg.tiff", "tcga-cr-7395-01a-01-ts1.svs",
        "test3-DAPI-2-387.ndpi", "boxes.tiff", "boxes_0.dcm")  # fmt: skip


def run(worker, whole, folder, seconds):
    """Ask of mutants of a slide for so long; return what was wrong with which, and what was said of all."""
    wrong, said, number = {}, [], 0
    victims = [whole] if whole.is_file() else sorted(p for p in whole.rglob("*") if p.is_file())
    if whole.suffix == ".zarr":
        victims += 20 * [p for p in victims if p.name == "zarr.json"]
    contents = {p: p.read_bytes() for p in victims}
    worker.ask(whole)  # the start of the process does not count
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        draw = np.random.default_rng([len(whole.name), number])
        victim = victims[int(draw.integers(len(victims)))]
        path = folder / f"{number}{''.join(whole.suffixes[-2:])}"
        if whole.is_file():
            path.write_bytes(damaged(contents[victim], draw))
        else:
            shutil.copytree(whole, path)
            (path / victim.relative_to(whole)).write_bytes(damaged(contents[victim], draw))
        answer, problem = worker.ask(path)
        said.append(answer)
        if problem:
            wrong[path] = problem
        elif path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
        number += 1
    return wrong, said


def judge(wrong, said, record_property):
    record_property("mutants", len(said))
    record_property("read", sum(s.startswith("read") for s in said))
    print(f"{len(said)} mutants, {sum(s.startswith('read') for s in said)} read, {len(wrong)} wrong")
    assert not wrong, "\n\n".join(f"{path}: {problem}" for path, problem in wrong.items())


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(DRAWN))
def test_damaged_drawn_slides(kind, worker, phantom, tmp_path, damage_s, record_property):
    (tmp_path / "whole").mkdir()
    whole = Path(DRAWN[kind](tmp_path / "whole", phantom))
    judge(*run(worker, whole, tmp_path, damage_s), record_property)


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("name", REAL)
def test_damaged_real_slides(name, worker, data_dir, tmp_path, damage_s, record_property):
    judge(*run(worker, data_dir / "slides" / name, tmp_path, damage_s), record_property)


@pytest.mark.parametrize(
    ("tag", "value"), [(256, 2**31 - 1), (257, 2**31 - 1), (322, 2**20), (323, 2**24), (277, 60000)]
)
def test_absurd_sizes_take_no_memory(phantom, worker, tmp_path, tag, value):
    path = tmp_path / "a.svs"
    shutil.copy2(phantom.path, path)
    with tifffile.TiffFile(path, mode="r+b") as file:
        for page in file.pages:
            if page.is_tiled:
                page.tags[tag].overwrite(value)
    said, wrong = worker.ask(path)
    assert not wrong
    assert said.startswith("told")


def test_absurd_byte_counts_end_no_process(phantom, worker, tmp_path):
    path = tmp_path / "a.svs"
    shutil.copy2(phantom.path, path)
    with tifffile.TiffFile(path, mode="r+b") as file:
        tag = file.pages[0].tags[325]
        tag.overwrite([1 << 62] * tag.count, dtype=16)
    said, wrong = worker.ask(path)
    assert not wrong
    assert said.startswith("told")


@pytest.mark.parametrize(("tag", "value"), [(257, 70_000), (322, 2**30), (323, 2**30)])
def test_absurd_sizes_of_an_ome_tiff_are_told(phantom, worker, tmp_path, tag, value):
    path = _ome_tiff(tmp_path, phantom)
    with tifffile.TiffFile(path, mode="r+b") as file:
        for page in (file.pages[0], *file.pages[0].pages):
            page.tags[tag].overwrite(value)
    with pytest.raises(SlideError, match=r"a\.ome: .*tiles"):
        OmeTiffSlide(path, id="a.ome", mpp=None, fallback_mpp=None)
    said, wrong = worker.ask(path)
    assert not wrong
    assert said
