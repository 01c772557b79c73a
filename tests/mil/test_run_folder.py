"""A run's table of slides: what it is made from, what it keeps, and whose table it does not replace."""

from dataclasses import replace

import pandas as pd
import pytest

from mil import Cohort, CohortSlide, Run, tile
from mil.run_folder import n_tiles_of
from tiling import ConfigError, FormatError, GridConfig, TissueConfig


def cohort_of(tmp_path, *slide_ids):
    """A cohort as it is without a table."""
    return Cohort(tuple(CohortSlide(i, tmp_path / f"{i}.svs", patient_id=i) for i in slide_ids))


def told(cohort):
    return Cohort(
        tuple(replace(s, label="tumour", patient_id="p", mpp=0.4, split="train") for s in cohort.slides)
    )


def test_it_is_made_with_its_folder(tmp_path):
    run = Run(tmp_path / "new" / "run")
    run.begin(cohort_of(tmp_path, "one"))
    assert run.slides()["slide_id"].tolist() == ["one"]


def test_a_table_that_no_run_has_written_is_not_replaced(phantom_cohort, tmp_path):
    table = tmp_path / "slides.csv"
    pd.DataFrame({"slide": ["a"], "label": ["tumour"], "site": ["north"], "age": [70]}).to_csv(table)
    before = table.read_bytes()
    with pytest.raises(
        ConfigError, match=r"slides\.csv: is not a run's own table.*slide, label, site, age"
    ) as no:
        tile(Cohort.from_folder(phantom_cohort / "slides"), Run(tmp_path), GridConfig(), TissueConfig())
    assert no.value.hint == "name another run folder"
    assert table.read_bytes() == before
    assert list(tmp_path.iterdir()) == [table]


def test_a_column_that_a_user_added_is_not_lost(tmp_path):
    run, cohort = Run(tmp_path / "run"), cohort_of(tmp_path, "one")
    run.begin(cohort)
    run.write_table("slides.csv", run.slides().assign(site="north"))
    with pytest.raises(ConfigError, match="is not a run's own table"):
        run.begin(told(cohort))
    assert run.slides()["site"].tolist() == ["north"]


def test_a_damaged_table_is_told(tmp_path):
    (tmp_path / "slides.csv").write_text("")
    with pytest.raises(FormatError, match=r"slides\.csv is damaged.*name another run folder"):
        Run(tmp_path).begin(cohort_of(tmp_path, "one"))


def test_without_a_table_it_keeps_what_it_knows_and_says_so(tmp_path, capsys):
    run = Run(tmp_path / "run")
    run.begin(told(cohort_of(tmp_path, "one", "two", "three")))
    assert capsys.readouterr().err == ""
    later = Cohort(
        tuple(replace(s, path=tmp_path / "moved.svs") for s in cohort_of(tmp_path, "four", "one").slides)
    )
    begun = run.begin(later)
    said = capsys.readouterr().err
    assert "keeps label, patient, mpp and split of 1; 2 others are not among them and go" in said
    assert begun == run.cohort()
    assert begun.slides[0] == later.slides[0]
    assert begun.slides[1] == CohortSlide("one", tmp_path / "moved.svs", "tumour", "p", 0.4, "train")


def test_with_a_table_that_holds(tmp_path, capsys):
    run, cohort = Run(tmp_path / "run"), cohort_of(tmp_path, "one", "two")
    run.begin(told(cohort))
    again = Cohort((replace(cohort.slides[0], label="normal"), cohort.slides[1]))
    assert run.begin(again) == again == run.cohort()
    assert capsys.readouterr().err == ""


def test_a_table_that_was_edited_is_read_or_its_fault_told(tmp_path):
    run = Run(tmp_path / "run")
    run.begin(told(cohort_of(tmp_path, "one", "two")))
    pd.read_csv(tmp_path / "run" / "slides.csv").assign(label="tumour ; tumour", n_tiles=[12.0, None]).to_csv(
        tmp_path / "run" / "slides.csv", index=False
    )
    assert [slide.label for slide in run.cohort().slides] == ["tumour", "tumour"]
    assert [n_tiles_of(row) for row in run.slides().to_dict("records")] == [12, 0]
    run.update_slides({"two": {"mpp": "0,5"}})
    with pytest.raises(FormatError, match=r"two: mpp is '0,5' in the run's slides\.csv; write a number"):
        run.cohort()
