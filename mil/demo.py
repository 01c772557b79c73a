"""The verb `demo`: a cohort whose truth is known, drawn here and taken the whole way."""

from pathlib import Path

from tiling import OverlayConfig, write_phantom_cohort

from .cohort import Cohort
from .pipeline import Finished, Plan, run_all
from .progress import progress
from .run_folder import Run
from .training import TrainConfig

N_SLIDES = 24
SIZE_PX = (2600, 2000)


def demo(
    folder: Path, *, n_slides: int = N_SLIDES, size_px: tuple[int, int] = SIZE_PX, seed: int = 0
) -> Finished:
    """Draw a small labelled cohort below `folder` and run slidebag on it; nothing is fetched.

    The cohort lies in `folder/cohort`, the run in `folder/run`. The labels are all that is learned
    from; the drawn tumour is looked at by the evaluation alone.
    """
    run = Run.create(folder / "run")
    table = folder / "cohort" / "slides.csv"
    if not table.exists():  # it is written last
        with progress("draw", n_slides) as advance:
            write_phantom_cohort(
                folder / "cohort",
                n_slides,
                seed=seed,
                size_px=size_px,
                report=lambda done, _: advance(f"{done}"),
            )
    cohort = Cohort.from_folder(folder / "cohort" / "slides", table)
    # one member instead of a committee: what matters here is to be done soon
    plan = Plan(train=TrainConfig(folds=6), settings={"members": "1"}, overlay=OverlayConfig())
    return run_all(cohort, run, plan, truth=folder / "cohort" / "truth")
