"""Slides damaged at random: whatever is in a file, the process lives, memory is bounded, errors are told."""

import shutil
import subprocess
import sys

import numpy as np
import pytest
import tifffile

MEMORY_BYTES = 6 << 30  # of addresses: what the libraries map is most of it
WORKER = """
import resource, sys, warnings
from pathlib import Path
warnings.simplefilter("ignore")
import numpy as np
from tiling import GridConfig, SlidebagError, open_slide, read_patches, segment_tissue, tile_slide
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]), int(sys.argv[1])))
for path in sorted(Path(sys.argv[2]).iterdir()):
    try:
        with open_slide(path, fallback_mpp=0.5) as slide:
            mask = segment_tissue(slide)
            grid = tile_slide(slide, mask, GridConfig(tile_mpp=max(0.5, slide.mpp * 1.7)))
            lost = sum(int(p.unreadable.sum()) for p in read_patches(slide, grid))
            print(path.name, "read", len(grid), lost)
    except SlidebagError as error:
        print(path.name, "told", type(error).__name__)
print("peak_kb", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def check(folder):
    """Open, segment, tile and read each file of a folder in a process of its own; return what it said."""
    done = subprocess.run(
        [sys.executable, "-c", WORKER, str(MEMORY_BYTES), str(folder)],
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    said = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert set(said) == {"peak_kb"} | {path.name for path in folder.iterdir()}
    return said


def damaged(content, draw):
    """Cut the end off, overwrite a run, or change single bytes, mostly of the header."""
    kind = draw.integers(4)
    if kind == 0:
        return content[: int(draw.integers(len(content)))]
    found = bytearray(content)
    if kind == 1:
        start = int(draw.integers(len(found)))
        stop = min(len(found), start + int(draw.integers(1, 5000)))
        found[start:stop] = draw.integers(256, size=stop - start, dtype=np.uint8).tobytes()
        return bytes(found)
    reach = len(found) if kind == 2 else min(len(found), 2000)
    places = draw.integers(reach, size=20)
    if kind == 3 and draw.integers(2):
        places = len(found) - 1 - places  # the tags are often at the end
    for place in places:
        found[place] = draw.integers(256)
    return bytes(found)


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize(
    "name", ["CMU-1-Small-Region.svs", "test3-DAPI-2-387.ndpi", "boxes.tiff", "tcga-cr-7395-01a-01-ts1.svs"]
)
def test_damaged_real_slides(data_dir, tmp_path, name):
    draw, content = np.random.default_rng(0), (data_dir / "slides" / name).read_bytes()
    suffix = name.rpartition(".")[2]
    for number in range(25):
        (tmp_path / f"{number}.{suffix}").write_bytes(damaged(content, draw))
    check(tmp_path)


@pytest.mark.slow
def test_damaged_drawn_slides(phantom, tmp_path):
    draw, content = np.random.default_rng(1), phantom.path.read_bytes()
    for number in range(40):
        (tmp_path / f"{number}.svs").write_bytes(damaged(content, draw))
    said = check(tmp_path)
    assert any(line.startswith("read") for line in said.values())
    assert any(line.startswith("told") for line in said.values())


@pytest.mark.parametrize(
    ("tag", "value"), [(256, 2**31 - 1), (257, 2**31 - 1), (322, 2**20), (323, 2**24), (277, 60000)]
)
def test_absurd_sizes_take_no_memory(phantom, tmp_path, tag, value):
    path = tmp_path / "slides" / "a.svs"
    path.parent.mkdir()
    shutil.copy2(phantom.path, path)
    with tifffile.TiffFile(path, mode="r+b") as file:
        for page in file.pages:
            if page.is_tiled:
                page.tags[tag].overwrite(value)
    said = check(path.parent)
    assert said["a.svs"].startswith("told")
    assert int(said["peak_kb"]) < 1_500_000
