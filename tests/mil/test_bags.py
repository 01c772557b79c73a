"""Bags of one slide or several: whose row is whose, and why a bag has none."""

import pickle
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from features import FeatureBag
from mil import Bag, CohortSlide
from mil.bags import SlideGroup, load_bag, load_bags
from mil.training.fold_models import identity
from mil.training.overflow import overflow
from tiling import FormatError, sweep


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
    n_views: dict[str, int] = field(default_factory=dict)

    def bag(self, slide_id: str) -> FeatureBag:
        readable = np.array(self.readable[slide_id], bool)
        rows = np.random.default_rng(len(slide_id)).normal(size=(len(readable), 3)).astype(np.float32)
        self.features[slide_id] = rows
        coords = np.zeros((len(rows), 2), np.int64)
        return FeatureBag(slide_id, rows, coords, ~readable, "e", "e", f"of {slide_id}")

    def views(self, slide_id: str) -> np.ndarray | None:
        n_views = self.n_views.get(slide_id, 0)
        rows = self.features[slide_id]
        each = [
            rows + 10 * (number + 1) for number in range(n_views)
        ]  # so a view tells whose and which it is
        return np.stack(each, axis=1) if each else None

    def grid(self, slide_id: str) -> Grid:
        coordinates = [[1]] if slide_id in self.with_tissue else []
        return Grid({"coordinates": coordinates}, len(self.readable[slide_id]))


def group(*slide_ids: str, label: str = "") -> SlideGroup:
    return SlideGroup("p", label, tuple(CohortSlide(i, Path(i), "", "p", None, "") for i in slide_ids))


def test_rows_of_a_bag_go_back_to_the_slides_and_tiles_that_they_are_from():
    shelf = Shelf({"a": [True, False, True], "none": [], "bb": [False, True], "cccc": [False]})
    loaded = load_bag(shelf, group("a", "none", "bb", "cccc"))
    assert (len(loaded.bag), loaded.bag.patient) == (3, "p")
    assert [loaded.place(row) for row in range(3)] == [("a", 0), ("a", 2), ("bb", 1)]
    for row in range(3):
        slide_id, place = loaded.place(row)
        assert np.array_equal(loaded.bag.features[row], shelf.features[slide_id][place])
    numbers = np.array([5, 6, 7], np.int16)
    whole = {slide.slide_id: slide.spread(numbers[own], -1).tolist() for slide, own in loaded.by_slide()}
    assert whole == {"a": [5, -1, 6], "none": [], "bb": [-1, 7], "cccc": [-1]}
    parts = [slide.spread(loaded.bag.features[own], np.nan) for slide, own in loaded.by_slide()]
    assert [part.shape for part in parts] == [(3, 3), (0, 3), (2, 3), (1, 3)]


def test_what_a_model_was_fitted_on_changes_with_the_patient():
    loaded = load_bag(Shelf({"a": [True]}), group("a"))
    other = replace(loaded, bag=replace(loaded.bag, patient="q"))
    assert identity(other) != identity(loaded) == identity(replace(loaded))


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


def test_views_are_of_the_readable_tiles_and_as_many_as_all_slides_of_the_bag_have():
    readable = {"a": [True, False, True], "bb": [False, True], "cccc": [True]}
    shelf = Shelf(readable, n_views={"a": 2, "bb": 3})
    assert load_bag(shelf, group("a", "bb")).bag.views is None  # a prediction has no use for them
    bag = load_bag(shelf, group("a", "bb"), with_views=True).bag
    assert bag.views is not None
    np.testing.assert_allclose(bag.views, np.stack([bag.features + 10, bag.features + 20], axis=1), rtol=1e-6)
    assert load_bag(shelf, group("a", "cccc"), with_views=True).bag.views is None
    one, two = load_bags(shelf, [group("bb", label="tumour"), group("a")])
    assert one.bag.views is not None
    assert two.bag.views is None  # without a label nothing is learned from it
    assert "views" in identity(one)
    assert identity(one) != identity(replace(one, bag=replace(one.bag, views=None)))


def test_a_slide_with_fewer_rows_of_views_than_of_features_is_named():
    shelf = Shelf({"a": [True, False, True]}, n_views={"a": 2})
    shelf.views = lambda slide_id: np.zeros((2, 2, 3), np.float32)
    with pytest.raises(FormatError, match="a: 2 rows of views, 3 of features"):
        load_bag(shelf, group("a"), with_views=True)


@pytest.mark.parametrize(("most_bytes", "share", "is_mapped"), [
    (0, False, (True, True, True)),  # one by one
    (620, False, (True, True, False)),  # what is more than the first alone
    (1 << 30, True, (True, True, True)),
    (1 << 30, False, (False, False, False)),
])  # fmt: skip
def test_what_does_not_fit_into_memory_or_is_shared_is_read_from_files(
    tmp_path, most_bytes, share, is_mapped
):
    readable = {"a": [True] * 50, "bb": [False, True], "none": [], "cccc": [True] * 9}
    shelf = Shelf(readable, n_views={"cccc": 2})
    groups = [group("a", "bb"), group("cccc", label="tumour"), group("bb"), group("none")]
    plain = load_bags(shelf, groups)
    assert all(loaded.bag.features.flags.writeable for loaded in plain)
    with overflow(tmp_path) as to_file:
        mapped = load_bags(shelf, groups, to_file=to_file, most_bytes=most_bytes, share=share)
        assert bool(list(tmp_path.iterdir())) == any(is_mapped)
        assert tuple(not loaded.bag.features.flags.writeable for loaded in mapped[:3]) == is_mapped
        sent = [pickle.loads(pickle.dumps(loaded.bag)) for loaded in mapped]
        for one, two, there in zip(plain, mapped, sent, strict=True):
            np.testing.assert_array_equal(one.bag.features, two.bag.features)
            np.testing.assert_array_equal(one.bag.features, there.features)
            for views in (two.bag.views, there.views):
                assert (views is None) == (one.bag.views is None)
                if views is not None:
                    np.testing.assert_array_equal(views, one.bag.views)
            assert (one.label, one.fingerprint, len(one.slides)) == (
                two.label,
                two.fingerprint,
                len(two.slides),
            )
    assert list(tmp_path.iterdir()) == []


def test_a_mapped_bag_is_sent_as_the_place_where_it_lies(tmp_path):
    with overflow(tmp_path) as to_file:
        whole, empty = (Bag("b", each) for each in to_file([np.ones((90, 70), np.float16), np.ones((0, 70))]))
        sent = pickle.dumps(whole)
        assert len(sent) < 1000
        sweep(tmp_path)  # as another verb may, in a training that takes long
        there = pickle.loads(sent)
        assert not there.features.flags.writeable
        np.testing.assert_array_equal(there.features, whole.features)
        assert pickle.loads(pickle.dumps(empty)).features.shape == (0, 70)
    np.testing.assert_array_equal(there.features, 1)  # the map outlives the name
