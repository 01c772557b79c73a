"""Which slides of a run have features of an encoder: its bags are asked, not what the last step left."""

import sys
from contextlib import suppress
from dataclasses import dataclass

import pandas as pd

from features import FeatureStore, load_bag_configs
from tiling import FormatError

from .bag_files import BagFiles, Bags
from .batch import FAILED, some
from .cohort import Cohort, Failure
from .run_folder import PENDING, Run

_MEND = "mend it, then make its tiles and features again"
_GO_ON = "run `slidebag tile` to its end, then `slidebag extract`"


@dataclass(frozen=True)
class WithFeatures:
    """The slides of a run with features of one encoder, and why the others have none, in `step`'s name."""

    step: str
    encoder: str
    cohort: Cohort
    left_out: tuple[Failure, ...]
    n_labelled_left_out: int

    def tell(self, run: Run) -> None:
        """Say on stderr which slides are left out, and in failures.csv why each."""
        run.record_failures(self.step, self.left_out)
        if not self.left_out:
            return
        names = some([failure.slide_id for failure in self.left_out])
        print(
            f"{self.step}: left out for want of features of {self.encoder}: {names}, "
            f"{self.n_labelled_left_out} of them labelled; failures.csv says why",
            file=sys.stderr,
        )


def with_features(run: Run, source: Bags, step: str) -> WithFeatures:
    """Ask the bags of one encoder which slides they have.

    The status in slides.csv is of the run's last step, which another encoder may have taken; only that a
    slide could not be tiled, or was not yet, is believed: a bag of it is of an earlier grid.

    Raises:
        FormatError: no slide has features of that encoder.
    """
    cohort, rows = run.cohort(), run.slides()
    left_out = {}
    for row in rows.to_dict("records"):
        why = _why_left_out(run, source, row)
        if why is not None:
            left_out[row["slide_id"]] = Failure(row["slide_id"], step, *why)
    having = tuple(s for s in cohort.slides if s.slide_id not in left_out)
    if not having and set(rows["status"]) <= {FAILED, PENDING}:
        run.record_failures(step, left_out.values())
        raise _none_tiled(run, source.encoder, rows)
    if not having:
        raise _none_of(run, source.encoder)
    n_labelled = sum(bool(s.label) for s in cohort.slides if s.slide_id in left_out)
    return WithFeatures(step, source.encoder, Cohort(having), tuple(left_out.values()), n_labelled)


def _none_tiled(run: Run, encoder: str, rows: pd.DataFrame) -> FormatError:
    """Say what was wrong with the first slide and is to be done: extracting would do nothing."""
    failed = pd.DataFrame(rows[rows["status"] == FAILED])
    if failed.empty:
        told = f"{run.root}: no slide has features of {encoder!r}, as none was tiled yet"
        return FormatError(told, hint=_GO_ON)
    slide_id, message = failed.iloc[0][["slide_id", "message"]]
    failures = run.read_table("failures.csv")
    is_its = (failures["slide_id"] == slide_id) & (failures["error"] == message)
    hints = failures.loc[is_its, "hint"].tolist()
    return FormatError(
        f"{run.root}: {len(failed)} of {len(rows)} slides could not be tiled, the first: {slide_id}: "
        f"{message}; failures.csv says why",
        hint=hints[0] if hints else _MEND,
    )


def _none_of(run: Run, encoder: str) -> FormatError:
    """Say also whose features there are: a run may be older than the default encoder."""
    others = [name for name in _encoders(run) if name != encoder]
    instead = f"give --encoder {' or '.join(others)}, or " if others else ""
    return FormatError(
        f"{run.root}: no slide has features of {encoder!r}"
        + (f", but there are those of {' and '.join(map(repr, others))}" if others else ""),
        hint=f"{instead}run `slidebag extract {run.root} --encoder {encoder}`",
    )


def _encoders(run: Run) -> list[str]:
    """Return the encoders of a run's bags and own stores, as they are called, by name."""
    folders = [path for path in (run.root / "features").glob("[!.]*") if path.is_dir()]
    names = set()
    for folder in folders:
        with suppress(FormatError):  # damaged ones are not worth naming, nor what is to be told here
            if folder.suffix == ".zarr":
                names.add(FeatureStore(folder).encoder)
            elif (bag := next(folder.rglob("*.h5"), None)) is not None:
                names.add(load_bag_configs(bag)[0].encoder)
    return sorted(names)


def _why_left_out(run: Run, source: Bags, row: dict[str, str]) -> tuple[str, str] | None:
    """What is wrong, and what to do; None where the slide has its bag."""
    if row["status"] == FAILED:
        return f"could not be tiled: {row['message']}", _MEND
    if row["status"] == PENDING:
        return "was not tiled yet", _GO_ON
    if row["slide_id"] in source:
        return None
    again = "" if isinstance(source, BagFiles) else ", and `slidebag pack` again"
    return (
        f"has no features of {source.encoder!r}",
        f"run `slidebag extract {run.root} --encoder {source.encoder}`{again}",
    )
