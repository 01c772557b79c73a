"""The cohort: slide files matched with a table of labels, patients, resolutions and splits."""

import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .classes import SEPARATOR, Classes, names_in
from .slide_files import find_slides
from .slide_table import CohortError, match, names_of, read_table

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
    """Slides with what is known of them; `failures` are rows without a file and files without a row."""

    slides: tuple[CohortSlide, ...]
    failures: tuple[Failure, ...] = ()

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
        optional. A row without a file or a file without a row is a failure, not the end.

        Raises:
            CohortError: no slide is found, or the table cannot be understood.
        """
        files = find_slides(folder)
        if table is None:
            return cls(tuple(CohortSlide(i, path, patient_id=i) for i, path in files.items()))
        rows = read_table(table)
        names = names_of(files)
        slides, failures = {}, []
        for row in rows.to_dict("records"):
            slide_id = match(row["slide"], names, table)
            if slide_id is None:
                failures.append(
                    Failure(
                        row["slide"],
                        "cohort",
                        f"{table.name} names it, no slide file below {folder} has that name",
                        "copy the file there, or correct or remove the row",
                    )
                )
                continue
            if slide_id in slides:
                raise CohortError(
                    f"{table}: slide {slide_id!r} stands there twice", hint="keep one row for each slide"
                )
            slides[slide_id] = _slide(slide_id, files[slide_id], row, table)
        failures += [
            Failure(
                i,
                "cohort",
                f"has no row in {table.name}",
                "add a row (its label may stay empty) or remove the file",
            )
            for i in files.keys() - slides.keys()
        ]
        if not slides:
            raise CohortError(
                f"{table}: none of its {len(rows)} slides is below {folder}",
                hint="the column 'slide' names them by path below the folder or by file name",
            )
        return cls(
            tuple(slides[i] for i in sorted(slides)), tuple(sorted(failures, key=lambda f: f.slide_id))
        )

    def labelled(self) -> "Cohort":
        """Return the slides that have a label.

        Raises:
            CohortError: none has.
        """
        chosen = tuple(s for s in self.slides if s.label)
        if not chosen:
            raise CohortError(
                "no slide has a label", hint="give a slide table with a column 'label' (--table)"
            )
        return Cohort(chosen)

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
            raise CohortError(
                f"all {len(self)} slides are labelled {names[0] if names else ''!r}",
                hint="two labels are needed to learn from",
            )
        found = [n for n in names if n.lower() in _NEGATIVE_NAMES] if not negative else [negative]
        if negative == "none":
            return Classes(tuple(names), has_negative=False, is_exclusive=is_exclusive)
        if len(found) != 1 or found[0] not in names:
            raise CohortError(
                f"which of the labels {', '.join(names)} is the negative one is not clear",
                hint="name it with --negative LABEL, or say --negative none for subtypes",
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
            CohortError: a split that is incomplete or cuts through a patient, or too few patients.
        """
        if any(s.split for s in self.slides):
            return [self._given_fold()]
        patients = np.array([s.patient_id for s in self.slides])
        labels = [names_in(s.label) for s in self.slides]
        n_slides = Counter(name for found in labels for name in found)
        for name in sorted(n_slides):
            n_patients = len({p for p, found in zip(patients, labels, strict=True) if name in found})
            if n_patients < n_folds or n_folds < 3:
                raise CohortError(
                    f"label {name!r} has {n_patients} patients, {n_folds} folds were asked for",
                    hint="ask for 3 or more --folds, and no more than each label has patients",
                )
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

    def _given_fold(self) -> Fold:
        unknown = sorted({s.split for s in self.slides} - set(SPLITS))
        if unknown:
            raise CohortError(
                f"the column 'split' holds {', '.join(map(repr, unknown))}",
                hint=f"use {', '.join(SPLITS)} for every labelled slide",
            )
        where: dict[str, str] = {}
        for s in self.slides:
            if where.setdefault(s.patient_id, s.split) != s.split:
                raise CohortError(
                    f"patient {s.patient_id!r} is in the splits {where[s.patient_id]!r} and {s.split!r}",
                    hint="keep all slides of a patient in one split",
                )
        parts = {name: tuple(i for i, s in enumerate(self.slides) if s.split == name) for name in SPLITS}
        for name in SPLITS[:2]:
            if not parts[name]:
                raise CohortError(
                    f"the column 'split' leaves {name!r} empty", hint=f"put some slides into {name!r}"
                )
        return Fold("given", parts["train"], parts["val"], parts["test"])


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
