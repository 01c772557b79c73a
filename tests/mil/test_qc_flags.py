from dataclasses import replace

import numpy as np
import pytest

from mil.qc_flags import SlideFacts, by_suspicion, find_flags
from tiling import GridSummary, TissueQuality


def slide(name, *, status="tiled", tissue_mpp=8.0, background="bright", **figures):
    usual = {"tissue_mm2": 100.0, "pen_fraction": 0.0, "focus": 0.15, "stain_strength": 0.25}
    quality = TissueQuality(**(usual | figures), background=background)
    summary = GridSummary(name, 10, 224, 0.5, 0.25, "slide table", (9, 9), tissue_mpp, "fake", quality, "abc")
    return SlideFacts(name, status, "", summary)


def cohort(n, seed=0):
    """Slides that differ by a tenth, as those of one laboratory do."""
    rng = np.random.default_rng(seed)
    return [
        slide(
            f"s{k}",
            focus=0.15 * np.exp(rng.normal(0, 0.1)),
            stain_strength=0.25 * np.exp(rng.normal(0, 0.1)),
            pen_fraction=float(rng.uniform(0, 0.003)),
        )
        for k in range(n)
    ]


@pytest.mark.parametrize("seed", range(20))
def test_an_even_cohort_has_nothing_to_look_at(seed):
    words = [flag.words for flag in find_flags(cohort(60, seed))]
    assert sum(map(len, words)) <= 1


@pytest.mark.parametrize(
    ("odd", "words"),
    [
        ({"focus": 0.04}, ("out of focus",)),
        ({"stain_strength": 0.06}, ("weak stain",)),
        ({"pen_fraction": 0.06}, ("much ink",)),
        ({"pen_fraction": 0.3, "focus": 0.05}, ("much ink", "out of focus")),
        ({"focus": 0.5, "stain_strength": 0.9}, ()),  # sharper and stronger is not suspicious
    ],
)
@pytest.mark.parametrize("n", [5, 40])
def test_what_stands_out_is_flagged_and_nothing_else(odd, words, n):
    slides = [*cohort(n), slide("odd", **odd)]
    flags = find_flags(slides)
    assert flags[-1].words == words
    assert [f.words for f in flags[:-1]] == [()] * n


def test_many_bad_slides_do_not_hide_each_other():
    slides = [*cohort(60), *(slide(f"bad{k}", focus=0.04) for k in range(25))]
    assert [f.words for f in find_flags(slides)[60:]] == [("out of focus",)] * 25


def test_where_all_are_blurred_all_are_told():
    flags = find_flags([slide(f"s{k}", focus=0.02) for k in range(8)])
    assert [f.words for f in flags] == [("out of focus",)] * 8
    coarse = find_flags([slide(f"s{k}", focus=0.02, tissue_mpp=30.0) for k in range(8)])
    assert [f.words for f in coarse] == [()] * 8  # the bound is known at 8 µm/px alone


def test_few_slides_are_not_judged_by_each_other():
    slides = [slide("a"), slide("b"), slide("c"), slide("d", pen_fraction=0.3)]
    assert [f.words for f in find_flags(slides)] == [()] * 4
    assert find_flags([]) == []


def test_nothing_measured_is_nothing_suspicious():
    slides = [*cohort(10), slide("thin", focus=0.0), SlideFacts("imported", "tiled")]
    assert [f.words for f in find_flags(slides)[10:]] == [(), ()]


def test_a_dark_slide_is_judged_by_dark_ones():
    slides = [*cohort(10), slide("dim", background="dark", stain_strength=0.02)]
    assert find_flags(slides)[-1].words == ()
    dark = [slide(f"d{k}", background="dark", stain_strength=0.2) for k in range(9)]
    assert find_flags([*slides, *dark])[10].words == ("weak stain",)


def test_a_slide_without_tissue_says_whether_it_is_full_of_ink():
    empty = slide("empty", status="no tissue", pen_fraction=0.3, focus=0.0, stain_strength=0.0)
    flags = find_flags([*cohort(10), empty, replace(empty, summary=None, status="failed")])
    assert flags[10].words == ("no tissue", "much ink")
    assert flags[11].words == ("failed",)


def test_the_worst_come_first_and_the_rest_as_they_were():
    slides = cohort(10)
    slides[1] = SlideFacts("pending", "pending")
    slides[3] = slide("ink", pen_fraction=0.05)
    slides[5] = SlideFacts("failed", "failed", "why")
    slides[6] = slide("more ink", pen_fraction=0.5)
    slides[8] = slide("empty", status="no tissue", focus=0.0, stain_strength=0.0)
    slides[9] = slide("thin", status="no tile", pen_fraction=0.0)
    order = [slides[row].slide_id for row in by_suspicion(slides, find_flags(slides))]
    assert order == ["failed", "empty", "thin", "pending", "more ink", "ink", "s0", "s2", "s4", "s7"]
