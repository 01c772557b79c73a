"""The verb `pretrain`: an encoder of one's own, with progress."""

import shlex
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from features import PretrainConfig, Pretrained, PretrainStep
from features import pretrain as pretrain_encoder

from .machine import computed_by
from .progress import progress


def pretrain(sources: Sequence[Path], folder: Path, config: PretrainConfig) -> Pretrained:
    """Do what `features.pretrain` does; rate, time left and losses are told on stderr.

    Raises:
        SlidebagError: as `features.pretrain` does.
    """
    by = computed_by()
    about = {"command": shlex.split(str(by["command"])), "machine": by["machine"]}
    with ExitStack() as stack:
        bars: dict[str, Callable[..., None]] = {}
        knn = ""

        def report(at: PretrainStep) -> None:
            nonlocal knn
            if at.part not in bars:
                stack.close()  # the bar of the part before
                total, done = at.n_steps * at.n_tiles, (at.step - 1) * at.n_tiles
                bars[at.part] = stack.enter_context(progress(at.part, total, unit="tiles", done=done))
            if at.knn is not None:
                knn = f", nearest neighbours {at.knn:.3f}"
            told = ", ".join(f"{name} {value:.3f}" for name, value in at.losses.items())
            bars[at.part](told + knn, at.n_tiles)

        return pretrain_encoder(sources, folder, config, report=report, about=about)
