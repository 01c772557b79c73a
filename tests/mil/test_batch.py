"""Working through many slides."""

from pathlib import Path

import pytest

from mil import CohortSlide, Run
from mil.batch import gather


def test_where_taking_results_ends_what_makes_them_ends_at_once(tmp_path):
    ended = []

    def results():
        try:
            yield CohortSlide("one", Path("one.svs")), "done"
            yield "no slide", "done"
        finally:
            ended.append("before the error is let go")

    with pytest.raises(AttributeError) as caught:
        gather(Run(tmp_path), "extract", results())
    assert ended
    del caught
