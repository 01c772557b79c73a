"""Tiles of a file by few reads: all bytes are right, wherever they lie."""

import numpy as np
import pytest

from tiling.tile_bytes import TileBytes


class CountedFile:
    """A file that counts its reads, and may break."""

    def __init__(self, file):
        self._file, self.counts, self.is_broken = file, [], False

    def __getattr__(self, name):
        return getattr(self._file, name)

    def read(self, count):
        if self.is_broken:
            raise OSError("the network is gone")
        self.counts.append(count)
        return self._file.read(count)


@pytest.fixture
def content():
    return np.random.default_rng(0).bytes(12 << 20)


@pytest.fixture
def tiles(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    opened = TileBytes(tmp_path / "a")
    opened._file = CountedFile(opened._file)
    yield opened
    opened.close()


def assert_right(tiles, content, extents):
    found = tiles.read(extents)
    assert found.keys() == set(extents)
    assert all(found[at, count] == content[at : at + count] for at, count in extents)


def test_neighbours_are_one_read(tiles, content):
    assert_right(tiles, content, [(1000 * k, 900) for k in range(100)])
    assert tiles._file.counts == [99 * 1000 + 900]


def test_what_lies_apart_is_read_apart(tiles, content):
    assert_right(tiles, content, [(k << 20, 10_000) for k in (7, 0, 3)])
    assert tiles._file.counts == [10_000] * 3


def test_reads_are_bounded(tiles, content):
    assert_right(tiles, content, [(k * 100_000, 100_000) for k in range(120)])
    assert 3 <= len(tiles._file.counts) <= 5
    assert max(tiles._file.counts) <= 4 << 20


def test_what_was_expected_is_read_once(tiles, content):
    now, after = [[(k * 1000, 1000) for k in range(s, s + 20)] for s in (0, 15)]
    tiles.expect(now)
    tiles.expect(after)  # five of them are coming already
    for extents in (now, after):
        assert_right(tiles, content, extents)
    assert sorted(tiles._file.counts) == [15_000, 20_000]


def test_what_lies_between_expected_tiles_counts_as_read_ahead(tmp_path):
    with (tmp_path / "a").open("wb") as file:
        file.truncate(40 << 20)
    opened = TileBytes(tmp_path / "a")
    opened.expect([(k * 60_000, 100) for k in range(600)])  # 60 KB of tiles in 36 MB
    ((_, reading),) = opened._expected
    spans = {id(view.obj): len(view.obj) for view in reading.result().values()}
    assert 8 << 20 <= sum(spans.values()) <= 16 << 20
    opened.close()


def test_a_wrong_expectation_does_no_harm(tiles, content):
    for start in range(5):
        tiles.expect([(start * 5000, 100)])
    assert_right(tiles, content, [(0, 100), (77, 5), (9_000_000, 4)])


def test_same_and_overlapping_extents(tiles, content):
    assert_right(tiles, content, [(0, 1000), (100, 50), (100, 50), (100, 2000), (5, 0)])


def test_beyond_the_end_and_after_an_error_there_is_nothing(tiles):
    end = 12 << 20
    assert len(tiles.read([(end - 10, 50)])[end - 10, 50]) == 10
    tiles._file.is_broken = True
    tiles.expect([(0, 10)])
    assert bytes(tiles.read([(0, 10)])[0, 10]) == b""
