"""The cohort: slide files matched with a table of labels, patients, resolutions and splits."""

import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from .classes import SEPARATOR, Classes, names_in
from .slide_files import find_slides
from .slide_table import CohortError, few, matched, read_table

SPLITS = ("train", "val", "test")
_NEGATIVE_NAMES = frozenset("0 - no negative neg normal benign healthy none control tumor-free".split())  # noqa: SIM905


@dataclass(frozen=True)
class Failure:
    """One line of failures.csv: what could not be done for one slide, and what to do about it."""

    slide_id: str
    step: str
    error: str
    hint: str


@dataclass(frozen=True)
class CohortSlide:
    """One slide of a cohort; `label` and `split` are "" where none is given.

    A label of several classes has them between semicolons.
    """

    slide_id: str
    path: Path
    label: str = ""
    patient_id: str = ""
    mpp: float | None = None
    split: str = ""


@dataclass(frozen=True)
class Fold:
    """Indices of the slides that are fitted on, that thresholds are chosen on, and that are seen once."""

    name: str
    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]


@dataclass(frozen=True)
class Cohort:
    """Slides with what is known of them; `failures` are rows without a file and files without a row.

    `table` is what their labels are from, and `absent` says which of its rows have no file, "" if all have.
    """

    slides: tuple[CohortSlide, ...]
    failures: tuple[Failure, ...] = ()
    table: Path | None = None
    absent: str = ""

    def __len__(self) -> int:
        return len(self.slides)

    def __repr__(self) -> str:
        labels = Counter(s.label or "unlabelled" for s in self.slides)
        return (
            f"Cohort({len(self)} slides: {', '.join(f'{n} {label}' for label, n in sorted(labels.items()))})"
        )

    @classmethod
    def from_folder(cls, folder: Path, table: Path | None = None) -> "Cohort":
        """Find the slides below `folder` (or the one file it names) and match them with a table.

        Without a table every slide is taken, unlabelled. With one, the column `slide` names them by
        id, by path below the folder, or by file name; `label`, `patient`, `mpp` and `split` are
        optional. A row without a file or a file without a row is a failure, not the end. Pictures (PNG,
        JPEG, BMP, WebP) count where the table names them.

        Raises:
            CohortError: no slide is found, or the table cannot be understood.
        """
        if table is None:
            found = find_slides(folder)
            return cls(tuple(CohortSlide(i, path, patient_id=i) for i, path in found.items()))
        rows = read_table(table)
        files = find_slides(folder, rows["slide"].tolist())
        slides, absent = {}, []
        ids = matched(rows, files, table, f"below {folder}")
        for slide_id, row in zip(ids, rows.to_dict("records"), strict=True):
            if slide_id:
                slides[slide_id] = _slide(slide_id, files[slide_id], row, table)
            else:
                absent.append(row["slide"])
        failures = _unmatched(absent, files.keys() - slides.keys(), folder, table)
        those = "that name" if len(absent) == 1 else "those names"
        told = f"{table.name} names {few(absent)}, no slide file below {folder} has {those}"
        return cls(tuple(slides[i] for i in sorted(slides)), failures, table, absent=told if absent else "")

    def labelled(self) -> "Cohort":
        """Return the slides that have a label.

        Raises:
            CohortError: none has, or a given split cuts through a patient, whose unlabelled slides count.
        """
        self._check_split()
        chosen = tuple(s for s in self.slides if s.label)
        if chosen:
            return replace(self, slides=chosen)
        if self.table:
            raise self._lacking(f"{self.table}: no slide has a label", hint="fill in its column 'label'")
        raise CohortError(
            "no slide has a label",
            hint="`slidebag tile SLIDES RUN --table T` brings the labels; `import` where that made the tiles",
        )

    def classes(self, negative: str = "") -> Classes:
        """Return the classes of the labelled slides; `negative` names the negative one, or is "none".

        Without `negative` it is the one label that is called normal, negative, benign, 0 or alike. They
        exclude each other unless any slide has several.

        Raises:
            CohortError: fewer than two classes, which one is negative cannot be told, or a slide is of
                the negative one and another.
        """
        labels = {s.slide_id: names_in(s.label) for s in self.slides}
        names = sorted({name for found in labels.values() for name in found})
        is_exclusive = all(len(found) < 2 for found in labels.values())
        if len(names) < 2:
            who = "the only slide is" if len(self) == 1 else f"all {len(self)} slides are"
            raise self._lacking(
                f"{who} labelled {names[0] if names else ''!r}", hint="two labels are needed to learn from"
            )
        found = [n for n in names if n.lower() in _NEGATIVE_NAMES] if not negative else [negative]
        if negative == "none" and negative in names:
            raise CohortError(
                "'none' is a label, and --negative none says that no label is negative",
                hint="call that label otherwise, such as normal",
            )
        if negative == "none":
            return Classes(tuple(names), has_negative=False, is_exclusive=is_exclusive)
        if len(found) != 1 or found[0] not in names:
            told = f"which of the labels {', '.join(names)} is the negative one is not clear"
            if negative:
                told = f"the negative label {negative!r} is none of {', '.join(names)}"
            raise self._lacking(
                told, hint="name it with --negative LABEL, or say --negative none for subtypes"
            )
        both = [i for i, label in labels.items() if found[0] in label and len(label) > 1]
        if both:
            raise CohortError(
                f"slide {both[0]!r} is labelled {SEPARATOR.join(labels[both[0]])}, of which "
                f"{found[0]!r} is the negative one",
                hint="a slide is negative or has other classes: correct its label",
            )
        others = (n for n in names if n != found[0])
        return Classes((found[0], *others), has_negative=True, is_exclusive=is_exclusive)

    def folds(self, n_folds: int, seed: int) -> list[Fold]:
        """Return the given split as one fold or, if there is none, `n_folds` stratified ones.

        No patient is ever in two parts of a fold. Of k folds each is the test part once, and the next
        one its validation part.

        Raises:
            CohortError: a split that is incomplete or cuts through a patient, too few patients, or a label
                that a training would not see.
        """
        is_given = any(s.split for s in self.slides)
        folds = [self._given_fold()] if is_given else self._made_folds(n_folds, seed)
        for fold in folds:
            self._check_training(fold)
        return folds

    def _made_folds(self, n_folds: int, seed: int) -> list[Fold]:
        patients = np.array([s.patient_id for s in self.slides])
        labels = [names_in(s.label) for s in self.slides]
        n_slides = Counter(name for found in labels for name in found)
        n_patients = {
            name: len({p for p, found in zip(patients, labels, strict=True) if name in found})
            for name in sorted(n_slides)
        }
        self._check_folds(n_folds, n_patients)
        # of a slide's classes the rarest, which is hardest to spread
        rarest = np.array([min(found, key=lambda name: (n_slides[name], name)) for found in labels])
        from sklearn.model_selection import StratifiedGroupKFold  # takes longer than most verbs

        splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
        with warnings.catch_warnings():  # a class may be the rarest of few slides, and be in many
            warnings.simplefilter("ignore", UserWarning)
            splits = list(splitter.split(rarest, rarest, patients))
        parts = [tuple(test.tolist()) for _, test in splits]
        folds = []
        for k, test in enumerate(parts):
            validation = parts[(k + 1) % n_folds]
            train = tuple(sorted(set(range(len(self))) - set(test) - set(validation)))
            folds.append(Fold(str(k), train, validation, test))
        return folds

    def _lacking(self, message: str, *, hint: str) -> CohortError:
        """The error that slides of some kind are too few, for which rows without a file may be the reason."""
        return CohortError(f"{message}; {self.absent}" if self.absent else message, hint=hint)

    def _check_folds(self, n_folds: int, n_patients: dict[str, int]) -> None:
        fewest, most = min(n_patients.items(), key=lambda item: item[1])
        if 3 <= n_folds <= most:
            return
        hint = f"give --folds from 3 to {most}" if most > 3 else "give --folds 3"
        if most < 3:
            hint = f"3 patients of each label are needed, or a column 'split': {', '.join(SPLITS)}"
        patients = "1 patient" if most == 1 else f"{most} patients"
        raise self._lacking(f"label {fewest!r} has {patients}, {n_folds} folds were asked for", hint=hint)

    def _check_split(self) -> None:
        where: dict[str, str] = {}
        for s in self.slides:
            if s.split and where.setdefault(s.patient_id, s.split) != s.split:
                raise CohortError(
                    f"patient {s.patient_id!r} is in the splits {where[s.patient_id]!r} and {s.split!r}",
                    hint="keep all slides of a patient in one split",
                )

    def _given_fold(self) -> Fold:
        for s in self.slides:
            if s.split not in SPLITS:
                told = f"has split {s.split!r}" if s.split else "has no split, though others have"
                raise CohortError(
                    f"{self.table or 'the slide table'}: slide {s.slide_id!r} {told}",
                    hint=f"give every labelled slide one of {', '.join(SPLITS)}, or none a split",
                )
        self._check_split()
        parts = {name: tuple(i for i, s in enumerate(self.slides) if s.split == name) for name in SPLITS}
        for name in SPLITS[:2]:
            if not parts[name]:
                raise self._lacking(
                    f"the column 'split' leaves {name!r} empty", hint=f"put some slides into {name!r}"
                )
        return Fold("given", parts["train"], parts["val"], parts["test"])

    def _check_training(self, fold: Fold) -> None:
        learned = {name for i in fold.train for name in names_in(self.slides[i].label)}
        lacking = sorted({name for s in self.slides for name in names_in(s.label)} - learned)
        if lacking and fold.name == "given":
            raise self._lacking(
                f"the column 'split' leaves 'train' without {few(lacking)}",
                hint="put slides of each label into 'train'",
            )
        if lacking:
            raise self._lacking(
                f"fold {fold.name} leaves the training without {few(lacking)}",
                hint="give another --seed, or a column 'split'",
            )


def _unmatched(
    absent: Iterable[str], without_row: Iterable[str], folder: Path, table: Path
) -> tuple[Failure, ...]:
    no_file = f"{table.name} names it, no slide file below {folder} has that name"
    no_row, add = f"has no row in {table.name}", "add a row (its label may stay empty) or remove the file"
    found = [
        Failure(i, "cohort", no_file, "copy the file there, or correct or remove the row") for i in absent
    ]
    found += [Failure(i, "cohort", no_row, add) for i in without_row]
    return tuple(sorted(found, key=lambda f: f.slide_id))


def _slide(slide_id: str, path: Path, row: dict, table: Path) -> CohortSlide:
    mpp = row.get("mpp", "")
    try:
        return CohortSlide(
            slide_id=slide_id,
            path=path,
            label=SEPARATOR.join(names_in(row["label"])),
            patient_id=row.get("patient", "") or slide_id,
            mpp=float(mpp) if mpp else None,
            split=row.get("split", ""),
        )
    except ValueError as error:
        raise CohortError(
            f"{table}: slide {slide_id!r} has mpp {mpp!r}", hint="give a number in µm/px"
        ) from error
