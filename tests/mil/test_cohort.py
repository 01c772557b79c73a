from pathlib import Path

import pytest

from mil import Cohort, CohortError


def folder_of(tmp_path: Path, *names: str) -> Path:
    folder = tmp_path / "slides"
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return folder


def table_of(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "table.csv"
    path.write_text(text)
    return path


def cohort_of(tmp_path: Path, rows: list[tuple[str, str, str]], split: str = "") -> Cohort:
    """A cohort of (slide, label, patient) rows; `split` holds one letter a slide: t, v or e."""
    names = {"t": "train", "v": "val", "e": "test"}
    folder = folder_of(tmp_path, *(f"{slide}.svs" for slide, _, _ in rows))
    lines = ["slide,label,patient" + (",split" if split else "")]
    for k, row in enumerate(rows):
        lines.append(",".join(row) + (f",{names[split[k]]}" if split else ""))
    return Cohort.from_folder(folder, table_of(tmp_path, "\n".join(lines)))


def test_ids_keep_the_folder_so_that_equal_names_do_not_collide(tmp_path):
    cohort = Cohort.from_folder(folder_of(tmp_path, "a/one.svs", "b/one.svs", "b/x y é.tiff"))
    assert [s.slide_id for s in cohort.slides] == ["a/one", "b/one", "b/x y é"]


def test_files_that_are_no_slides_are_not_looked_at(tmp_path):
    cohort = Cohort.from_folder(folder_of(tmp_path, "one.svs", "truth.png", "notes.txt", ".hidden.svs"))
    assert [s.slide_id for s in cohort.slides] == ["one"]


@pytest.mark.parametrize("name", ["sub/one", "sub/one.svs", "one.svs", "one"])
def test_a_table_may_call_a_slide_by_any_of_its_names(tmp_path, name):
    folder = folder_of(tmp_path, "sub/one.svs", "two.svs")
    table = table_of(tmp_path, f"slide,label\n{name},tumour\ntwo,normal\n")
    assert {s.slide_id: s.label for s in Cohort.from_folder(folder, table).slides} == {
        "sub/one": "tumour",
        "two": "normal",
    }


def test_other_tools_column_names_are_understood(tmp_path):
    folder = folder_of(tmp_path, "one.svs")
    table = table_of(tmp_path, "case_id,slide_id,label\np1,one,tumour\n")
    slide = Cohort.from_folder(folder, table).slides[0]
    assert (slide.patient_id, slide.label) == ("p1", "tumour")


def test_rows_without_a_file_and_files_without_a_row_are_told_and_the_rest_goes_on(tmp_path):
    folder = folder_of(tmp_path, "one.svs", "extra.svs")
    cohort = Cohort.from_folder(folder, table_of(tmp_path, "slide,label\none,tumour\ngone,normal\n"))
    assert [s.slide_id for s in cohort.slides] == ["one"]
    assert {f.slide_id for f in cohort.failures} == {"extra", "gone"}
    assert all(f.error and f.hint for f in cohort.failures)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("slide,grade\none,3\n", "no column 'label'"),
        ("name,label\none,3\n", "no column 'slide'"),
        ("slide,label\none,a\none.svs,b\n", "'one' stands there twice"),
        ("slide,label,mpp\none,a,fine\n", "mpp 'fine'"),
        ("slide,label\nnowhere,a\n", "none of its 1 slides"),
        ("slide;label\none;a\n", "separated by commas, not by ';'"),
    ],
)
def test_a_bad_table_is_an_error_that_names_what_is_wrong(tmp_path, text, told):
    folder = folder_of(tmp_path, "one.svs", "two.svs")
    with pytest.raises(CohortError, match=told) as caught:
        Cohort.from_folder(folder, table_of(tmp_path, text))
    assert caught.value.hint


def test_a_table_that_is_not_there_or_not_utf_8_says_so(tmp_path):
    folder = folder_of(tmp_path, "one.svs")
    with pytest.raises(CohortError, match=r"nowhere\.csv: no such file; name"):
        Cohort.from_folder(folder, tmp_path / "nowhere.csv")
    (tmp_path / "excel.csv").write_bytes("slide,label\nfür,a\n".encode("cp1252"))
    with pytest.raises(CohortError, match=r"not UTF-8 \(byte 0xfc\); save it as UTF-8"):
        Cohort.from_folder(folder, tmp_path / "excel.csv")


def test_a_path_below_the_folder_is_no_other_slide_of_the_same_file_name(tmp_path):
    folder = folder_of(tmp_path, "one.svs", "sub/one.svs")
    table = table_of(tmp_path, "slide,label\none.svs,normal\nsub/one.svs,tumour\n")
    found = {s.slide_id: s.label for s in Cohort.from_folder(folder, table).slides}
    assert found == {"one": "normal", "sub/one": "tumour"}


def test_a_name_that_two_slides_have_is_refused(tmp_path):
    folder = folder_of(tmp_path, "a/one.svs", "b/one.svs")
    with pytest.raises(CohortError, match="a/one or b/one"):
        Cohort.from_folder(folder, table_of(tmp_path, "slide,label\none,tumour\n"))


def test_two_files_of_one_id_keep_their_suffix(tmp_path):
    cohort = Cohort.from_folder(folder_of(tmp_path, "one.svs", "one.tif", "two.svs"))
    assert [s.slide_id for s in cohort.slides] == ["one.svs", "one.tif", "two"]


def test_no_folder_and_no_slides_are_told_apart(tmp_path):
    with pytest.raises(CohortError, match="no such folder"):
        Cohort.from_folder(tmp_path / "nowhere")
    with pytest.raises(CohortError, match="no slides there"):
        Cohort.from_folder(folder_of(tmp_path, "readme.txt"))


def many(n_patients: int = 12, per_patient: int = 2) -> list[tuple[str, str, str]]:
    rows = []
    for p in range(n_patients):
        label = "normal" if p % 2 else "tumour"
        rows += [(f"s{p}-{k}", label, f"p{p}") for k in range(per_patient)]
    return rows


def test_folds_never_cut_through_a_patient_and_test_each_slide_once(tmp_path):
    cohort = cohort_of(tmp_path, many())
    folds = cohort.folds(4, seed=1)
    assert sorted(i for fold in folds for i in fold.test) == list(range(len(cohort)))
    for fold in folds:
        parts = [
            {cohort.slides[i].patient_id for i in part} for part in (fold.train, fold.validation, fold.test)
        ]
        assert sum(map(len, parts)) == len(set().union(*parts))
        assert sorted((*fold.train, *fold.validation, *fold.test)) == list(range(len(cohort)))
        for part in (fold.train, fold.validation, fold.test):
            assert {cohort.slides[i].label for i in part} == {"normal", "tumour"}


def test_where_slides_are_too_few_the_rows_without_a_file_are_named(tmp_path):
    folder = folder_of(tmp_path, "one.svs", "two.svs")
    rows = "one,tumour\ntwo,\n" + "".join(f"gone{k},normal\n" for k in range(5))
    cohort = Cohort.from_folder(folder, table_of(tmp_path, f"slide,label\n{rows}"))
    absent = (
        rf"; table\.csv names gone0, gone1, gone2 and 2 more, no slide file below {folder} has those names;"
    )
    with pytest.raises(CohortError, match=rf"^the only slide is labelled 'tumour'{absent}"):
        cohort.labelled().classes()
    with pytest.raises(CohortError, match=rf"'tumour' has 1 patient, 5 folds were asked for{absent}"):
        cohort.labelled().folds(5, seed=0)


def test_no_label_says_where_labels_come_from(tmp_path):
    cohort = cohort_of(tmp_path, [("a", "", ""), ("b", "", "")])
    with pytest.raises(CohortError, match=r"table\.csv: no slide has a label; fill in its column 'label'"):
        cohort.labelled()
    with pytest.raises(CohortError, match="`slidebag tile SLIDES RUN --table T` brings the labels"):
        Cohort(cohort.slides).labelled()  # as `train` has them, from a run


def test_folds_depend_on_the_seed_alone(tmp_path):
    cohort = cohort_of(tmp_path, many())
    assert cohort.folds(4, seed=1) == cohort.folds(4, seed=1)
    assert cohort.folds(4, seed=1) != cohort.folds(4, seed=2)


def test_fewer_patients_than_folds_are_refused_by_number(tmp_path):
    cohort = cohort_of(tmp_path, many(n_patients=6))
    with pytest.raises(CohortError, match="has 3 patients, 5 folds") as caught:
        cohort.folds(5, seed=0)
    assert caught.value.hint == "give --folds 3"
    with pytest.raises(CohortError, match="has 3 patients, 2 folds were asked for; give --folds 3"):
        cohort.folds(2, seed=0)


def test_fewer_than_three_patients_fit_no_folds(tmp_path):
    cohort = cohort_of(tmp_path, [("a", "normal", "p"), *((f"s{k}", "tumour", "") for k in range(4))])
    with pytest.raises(CohortError, match="'normal' has 1 patient, 5 folds") as caught:
        cohort.folds(5, seed=0)
    assert caught.value.hint.startswith("3 patients of each label are needed, or a column 'split'")


def test_a_given_split_is_taken_as_it_is(tmp_path):
    cohort = cohort_of(tmp_path, many(4, 2), split="ttttvvee")
    (fold,) = cohort.folds(5, seed=0)
    assert (fold.train, fold.validation, fold.test) == ((0, 1, 2, 3), (4, 5), (6, 7))


def test_a_split_through_a_patient_is_refused(tmp_path):
    with pytest.raises(CohortError, match="'p0' is in the splits"):
        cohort_of(tmp_path, many(3, 2), split="tvtvee").folds(5, seed=0)


def test_a_split_that_leaves_a_label_out_of_the_training_is_refused(tmp_path):
    rows = [("a", "normal", ""), ("b", "normal", ""), ("c", "tumour", ""), ("d", "tumour", "")]
    with pytest.raises(CohortError, match="leaves 'train' without tumour; put slides of each label"):
        cohort_of(tmp_path, rows, split="ttve").folds(5, seed=0)


def test_a_slide_without_a_label_is_in_the_split_of_its_patient(tmp_path):
    folder = folder_of(tmp_path, "one.svs", "two.svs", "three.svs")
    text = "slide,label,patient,split\none,tumour,A,train\ntwo,,A,{}\nthree,normal,B,val\n"
    with pytest.raises(CohortError, match="patient 'A' is in the splits 'train' and 'test'"):
        Cohort.from_folder(folder, table_of(tmp_path, text.format("test"))).labelled()
    for split in ("train", ""):
        cohort = Cohort.from_folder(folder, table_of(tmp_path, text.format(split))).labelled()
        assert [slide.slide_id for slide in cohort.slides] == ["one", "three"]


@pytest.mark.parametrize(("split", "told"), [("training", "has split 'training'"), ("", "has no split")])
def test_a_split_that_is_none_is_refused_by_table_and_slide(tmp_path, split, told):
    folder = folder_of(tmp_path, "one.svs", "two.svs")
    table = table_of(tmp_path, f"slide,label,split\none,normal,train\ntwo,tumour,{split}\n")
    with pytest.raises(CohortError, match=rf"table\.csv: slide 'two' {told}.*; .* train, val, test"):
        Cohort.from_folder(folder, table).folds(5, seed=0)


@pytest.mark.parametrize(
    ("labels", "negative", "names", "has_negative"),
    [
        (("normal", "tumour"), "", ("normal", "tumour"), True),
        (("1", "0"), "", ("0", "1"), True),
        (("LUSC", "LUAD"), "none", ("LUAD", "LUSC"), False),
        (("LUSC", "LUAD", "calm"), "calm", ("calm", "LUAD", "LUSC"), True),
    ],
)
def test_the_negative_class_comes_first(tmp_path, labels, negative, names, has_negative):
    classes = cohort_of(tmp_path, [(f"s{k}", label, "") for k, label in enumerate(labels)]).classes(negative)
    assert (classes.names, classes.has_negative) == (names, has_negative)


def test_a_label_none_is_not_taken_for_that_no_label_is_negative(tmp_path):
    cohort = cohort_of(tmp_path, [("a", "none", ""), ("b", "tumour", "")])
    assert cohort.classes().has_negative
    with pytest.raises(CohortError, match=r"'none' is a label.*; call that label otherwise"):
        cohort.classes("none")


def test_one_class_only_and_an_unclear_negative_are_refused(tmp_path):
    with pytest.raises(CohortError, match="all 2 slides are labelled 'tumour'"):
        cohort_of(tmp_path, [("a", "tumour", ""), ("b", "tumour", "")]).classes()
    with pytest.raises(CohortError, match="LUAD, LUSC") as caught:
        cohort_of(tmp_path, [("a", "LUAD", ""), ("b", "LUSC", "")]).classes()
    assert "--negative" in caught.value.hint
    with pytest.raises(CohortError, match="label 'normall' is none of normal, tumour"):
        cohort_of(tmp_path, [("a", "normal", ""), ("b", "tumour", "")]).classes("normall")


SEVERAL = ["a; b", "a", "b", "normal"]


def test_a_label_of_several_classes_makes_them_not_exclude_each_other(tmp_path):
    cohort = cohort_of(tmp_path, [(f"s{k}", label, "") for k, label in enumerate(SEVERAL)])
    assert cohort.slides[0].label == "a;b"
    classes = cohort.classes()
    assert (classes.names, classes.has_negative, classes.is_exclusive) == (("normal", "a", "b"), True, False)


def test_a_slide_that_is_negative_and_something_else_is_refused_by_name(tmp_path):
    cohort = cohort_of(tmp_path, [("odd", "normal;a", ""), ("s1", "b", "")])
    with pytest.raises(CohortError, match=r"'odd' is labelled normal;a"):
        cohort.classes()


def test_folds_spread_each_class_of_slides_that_have_several(tmp_path):
    rows = [(f"s{k:02d}", SEVERAL[k % 4], f"p{k}") for k in range(24)]
    cohort = cohort_of(tmp_path, rows)
    for fold in cohort.folds(4, seed=0):
        found = {name for i in fold.test for name in cohort.slides[i].label.split(";")}
        assert found == {"normal", "a", "b"}
