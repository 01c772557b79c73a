"""Labels of one class or of several: how tables name them, and what cannot be learned from."""

import re

import numpy as np
import pytest

from mil import Classes
from mil.classes import check_labels, multi_hot, names_in
from tiling import SlidebagError

FINDINGS = Classes(("normal", "necrosis", "tumour"), has_negative=True, is_exclusive=False)


def test_a_label_names_each_class_once_whatever_the_blanks():
    assert names_in(" tumour; necrosis;;tumour ") == ("tumour", "necrosis")
    assert names_in("") == ()


def test_labels_are_indices_where_classes_exclude_each_other():
    classes = Classes(("normal", "a", "b"), has_negative=True)
    labels = classes.labels_of(["b", "normal"])
    assert labels.tolist() == [2, 0]
    assert multi_hot(labels, classes).tolist() == [[False, False, True], [True, False, False]]


def test_labels_tell_of_each_class_where_they_do_not():
    labels = FINDINGS.labels_of(["tumour;necrosis", "normal"])
    assert labels.tolist() == [[False, True, True], [True, False, False]]
    assert multi_hot(labels, FINDINGS) is labels


def test_labels_of_the_other_kind_are_refused():
    with pytest.raises(SlidebagError, match=r"wanted bool of \(2, 3\)"):
        multi_hot([0, 1], FINDINGS)
    with pytest.raises(SlidebagError, match="outside 0 to 2"):
        multi_hot(np.eye(3, dtype=bool), Classes(("normal", "a", "b"), has_negative=True))


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (["tumour", "normal;tumour", "normal"], "negative one and another"),
        (["tumour", "", "normal"], "no class"),
        (["tumour;necrosis", "necrosis"], "no training bag is 'normal'"),
    ],
)
def test_bags_that_teach_nothing_are_refused(labels, told):
    with pytest.raises(SlidebagError, match=told):
        check_labels(FINDINGS.labels_of(labels), FINDINGS)


def test_a_class_that_every_bag_has_is_refused():
    classes = Classes(("a", "b"), has_negative=False, is_exclusive=False)
    with pytest.raises(SlidebagError, match="every training bag is of class 'a'"):
        check_labels(classes.labels_of(["a;b", "a"]), classes)


def test_names_that_what_is_written_could_not_tell_apart_are_refused():
    for name in ("IDC|DCIS", "a;b"):
        with pytest.raises(SlidebagError, match=f"class {re.escape(repr(name))} has a .* another name"):
            Classes(("normal", name), has_negative=True)
    with pytest.raises(SlidebagError, match="a class is called 'background'"):
        Classes(("background", "LUAD"), has_negative=False)
    assert Classes(("background", "LUAD"), has_negative=True).tile_names == ("background", "LUAD")
