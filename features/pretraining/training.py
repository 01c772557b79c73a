"""The steps of a pretraining, and the checkpoint that a stopped one goes on from, bit for bit."""

import csv
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from lightly.utils.scheduler import cosine_schedule, cosine_warmup_schedule

from features.checkpoint import Checkpoint
from tiling import SlidebagError, replacing

from .batches import Batch, Order, batches
from .config import PretrainConfig
from .neighbours import Probe
from .networks import Plan
from .objective import Objective
from .processes import Processes
from .sources import Tiles
from .verb import PretrainStep
from .views import view_seed

CHECKPOINT_EVERY_S = 300.0  # of work that is lost at most, and at the end of an epoch
METRICS = "metrics.csv"


@dataclass
class _Sums:
    """Of the figures of the epoch that is under way."""

    n: int = 0
    total: dict[str, float] = field(default_factory=dict)

    def add(self, figures: dict[str, float]) -> None:
        self.n += 1
        for name, value in figures.items():
            self.total[name] = self.total.get(name, 0.0) + value

    def means(self) -> dict[str, float]:
        return {name: value / self.n for name, value in self.total.items()}


class Training:
    """Moves the student of an objective over all tiles, so many epochs."""

    def __init__(
        self, objective: Objective, plan: Plan, config: PretrainConfig, folder: Path, processes: Processes
    ) -> None:
        self.objective, self.plan, self.config, self.folder = objective, plan, config, folder
        self._processes = processes
        self._sums = _Sums()  # of the means over all processes, so that all go on from those of the first
        self.history: list[dict[str, float]] = []
        self.broken: dict[str, str] = {}
        trunk = objective.student.trunk
        plain = set(getattr(trunk, "no_weight_decay", set)())
        named = [(n, p) for n, p in objective.student.named_parameters() if p.requires_grad]
        decayed = [p for n, p in named if p.ndim > 1 and n.removeprefix("trunk.") not in plain]
        others = [p for n, p in named if not any(p is each for each in decayed)]
        groups = [{"params": decayed, "decays": True}, {"params": others, "decays": False}]
        self._optimizer = torch.optim.AdamW(groups, lr=config.lr)

    def run(
        self,
        tiles: Tiles,
        trained: Any,
        checkpoint: Checkpoint,
        probe: Probe | None,
        report: Callable[[PretrainStep], None],
    ) -> None:
        """Do all steps that are not done yet, and write metrics and checkpoints.

        Raises:
            SlidebagError: a loss is no number, or too many tiles cannot be read.
        """
        first = self._restore(checkpoint)
        ways = self._processes
        order = Order(len(trained), self.config, first, ways.rank, ways.world)
        n_steps = self.config.epochs * order.steps_per_epoch
        if ways.world > 1:
            self.objective.spread()
        self.objective.train()
        written = time.monotonic()
        for step, batch in enumerate(batches(tiles, trained, order, ways.n_workers), first):
            figures = self._step(step, n_steps, order.steps_per_epoch, batch)
            self._sums.add(figures)
            knn, ends = None, (step + 1) % order.steps_per_epoch == 0
            if ends:
                knn = self._end_epoch(step + 1, n_steps, order.steps_per_epoch, probe)
            if ends or time.monotonic() - written >= CHECKPOINT_EVERY_S:
                self._write(checkpoint, step + 1)
                written = time.monotonic()
            if ways.is_first:
                report(PretrainStep(step + 1, n_steps, self.config.batch, figures, knn))

    def _step(self, step: int, n_steps: int, per_epoch: int, batch: Batch) -> dict[str, float]:
        config, done = self.config, step / n_steps
        self._schedule(step, n_steps)
        self.broken.update(batch.broken)
        device = self._processes.torch_device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(view_seed(config.seed, step, self._processes.rank))  # of paths left out
            losses = self.objective.losses(batch, done)
        total = torch.stack(list(losses.values())).sum()
        self._optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(self.objective.student.parameters(), config.clip)
        head = getattr(self.objective.student, "head", None)
        if head is not None and config.epochs > 1 and step < per_epoch:  # as its authors do
            for parameter in head.last_layer.parameters():
                parameter.grad = None
        self._optimizer.step()
        self.objective.after_step(done)
        figures = self._processes.mean({name: value.item() for name, value in losses.items()})
        if not all(map(math.isfinite, figures.values())):
            raise SlidebagError(
                f"the loss is {figures} in step {step + 1}",
                hint="begin again with a smaller --lr in a new folder",
            )
        return figures

    def _schedule(self, step: int, n_steps: int) -> None:
        config = self.config
        highest = config.lr * config.batch / 256
        warm_up = int(config.warm_up * n_steps)
        rate = cosine_warmup_schedule(step, n_steps, highest, highest / 500, warm_up, 0.0)
        decay = cosine_schedule(step, n_steps, config.weight_decay, config.weight_decay_end)
        for group in self._optimizer.param_groups:
            group["lr"], group["weight_decay"] = rate, decay if group["decays"] else 0.0

    def _end_epoch(self, step: int, n_steps: int, per_epoch: int, probe: Probe | None) -> float | None:
        epoch = step // per_epoch
        rate = self._optimizer.param_groups[0]["lr"]
        row = {"epoch": epoch, "step": step, "lr": rate, **self._sums.means()}
        is_due = step == n_steps or (self.config.probe_every and epoch % self.config.probe_every == 0)
        knn = None
        if probe is not None and is_due and self._processes.is_first:
            knn = probe(self.objective.trunk, self.plan.card, self._processes.device, self.broken)
            row |= {"knn": knn} if knn is not None else {}
        self.history.append(row)
        self._sums.n, self._sums.total = 0, {}
        if self._processes.is_first:
            write_csv(self.folder / METRICS, self.history)
        return knn

    def _restore(self, checkpoint: Checkpoint) -> int:
        """Bring back what the folder has of this training; return how many steps are done."""
        saved = checkpoint.read()
        if saved is None:
            return 0
        saved.restore(self._carried())
        self.history = list(saved.history)
        self.broken |= saved.results["broken"]
        return saved.epoch

    def _write(self, checkpoint: Checkpoint, step: int) -> None:
        if self._processes.is_first:
            checkpoint.write(step, self.history, {"broken": self.broken}, self._carried())

    def _carried(self) -> dict[str, Any]:
        return {"objective": self.objective, "optimizer": self._optimizer, "sums": self._sums}


def write_csv(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write a table whose columns are all keys of `rows`, in the order in which they first come."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, names)
        table.writeheader()
        table.writerows(rows)


def first_views(
    tiles: Tiles,
    trained: Any,
    config: PretrainConfig,
    processes: Processes,
    n_views: int,
    report: Callable[[PretrainStep], None],
) -> Iterator[Batch]:
    """Yield the batches of this process as they will be learned from, of n views or so, none twice."""
    order = Order(len(trained), config, 0, processes.rank, processes.world)
    n_epochs = min(config.teacher_views or 1, config.epochs)
    n_batches = min(-(-n_views // config.batch), order.steps_per_epoch * n_epochs)
    found = islice(batches(tiles, trained, order, processes.n_workers), n_batches)
    for k, batch in enumerate(found, 1):
        yield batch
        if processes.is_first:
            report(PretrainStep(k, n_batches, config.batch, {}, None, "first views"))
