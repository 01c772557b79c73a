"""Bags of one slide or several: whose row is whose, and why a bag has none."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from features import FeatureBag
from mil import CohortSlide
from mil.bags import SlideGroup, load_bag, load_bags


@dataclass
class Grid:
    """As much of a grid as tells why it has no tile."""

    tissue_polygons: dict[str, Any]
    n_tiles: int = 0

    def __len__(self) -> int:
        return self.n_tiles


@dataclass
class Shelf:
    """Bags in memory, by the rows that can be read; the slides in `with_tissue` have some."""

    readable: dict[str, list[bool]]
    with_tissue: tuple[str, ...] = ()
    features: dict[str, np.ndarray] = field(default_factory=dict)

    def bag(self, slide_id: str) -> FeatureBag:
        readable = np.array(self.readable[slide_id], bool)
        rows = np.random.default_rng(len(slide_id)).normal(size=(len(readable), 3)).astype(np.float32)
        self.features[slide_id] = rows
        coords = np.zeros((len(rows), 2), np.int64)
        return FeatureBag(slide_id, rows, coords, ~readable, "e", "e", f"of {slide_id}")

    def grid(self, slide_id: str) -> Grid:
        coordinates = [[1]] if slide_id in self.with_tissue else []
        return Grid({"coordinates": coordinates}, len(self.readable[slide_id]))


def group(*slide_ids: str) -> SlideGroup:
    return SlideGroup("p", "", tuple(CohortSlide(i, Path(i), "", "p", None, "") for i in slide_ids))


def test_rows_of_a_bag_go_back_to_the_slides_and_tiles_that_they_are_from():
    shelf = Shelf({"a": [True, False, True], "none": [], "bb": [False, True], "cccc": [False]})
    loaded = load_bag(shelf, group("a", "none", "bb", "cccc"))
    assert len(loaded.bag) == 3
    assert [loaded.place(row) for row in range(3)] == [("a", 0), ("a", 2), ("bb", 1)]
    for row in range(3):
        slide_id, place = loaded.place(row)
        assert np.array_equal(loaded.bag.features[row], shelf.features[slide_id][place])
    numbers = np.array([5, 6, 7], np.int16)
    whole = {slide.slide_id: slide.spread(numbers[own], -1).tolist() for slide, own in loaded.by_slide()}
    assert whole == {"a": [5, -1, 6], "none": [], "bb": [-1, 7], "cccc": [-1]}
    parts = [slide.spread(loaded.bag.features[own], np.nan) for slide, own in loaded.by_slide()]
    assert [part.shape for part in parts] == [(3, 3), (0, 3), (2, 3), (1, 3)]


@pytest.mark.parametrize(
    ("readable", "flags"),
    [
        ({"bare": []}, ("no tissue",)),
        ({"thin": []}, ("no tile",)),
        ({"bare": [], "thin": []}, ("no tissue", "no tile")),
        ({"bare": [], "bare too": []}, ("no tissue",)),
        ({"bare": [], "thin": [], "whole": [True]}, ()),
    ],
)
def test_an_empty_bag_says_why_and_a_patients_only_if_all_slides_are(readable, flags):
    loaded = load_bag(Shelf(readable, with_tissue=("thin", "whole")), group(*readable))
    assert loaded.flags == flags


def test_what_does_not_fit_into_memory_is_read_from_a_file_that_has_no_name(tmp_path):
    shelf = Shelf({"a": [True] * 50, "bb": [False, True], "none": [], "cccc": [True] * 9})
    groups = [group("a", "bb"), group("cccc"), group("none"), group("bb")]
    plain = load_bags(shelf, groups)
    assert all(loaded.bag.features.flags.writeable for loaded in plain)
    for most_bytes in (0, 620):  # one by one, and what is more than the first alone
        mapped = load_bags(shelf, groups, scratch=tmp_path, most_bytes=most_bytes)
        assert list(tmp_path.iterdir()) == []
        assert not mapped[0].bag.features.flags.writeable
        assert mapped[3].bag.features.flags.writeable == (most_bytes > 0)
        for one, two in zip(plain, mapped, strict=True):
            np.testing.assert_array_equal(one.bag.features, two.bag.features)
            assert (one.label, one.fingerprint, len(one.slides)) == (
                two.label,
                two.fingerprint,
                len(two.slides),
            )
