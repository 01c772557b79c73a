"""Distillation: the vectors of one or several encoders are told from the student's by a linear head each.

Where the student knows something, heads begin at their least squares: random ones push it about before they
know anything. What is wanted is whitened by half. Wholly whitened, directions of noise weigh as much as any;
not whitened, those that vary little are forgotten, which a probe still reads. Teachers of any scale weigh
the same, as in PHI-S (arXiv 2410.01680).
"""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import mse_loss

from features.encoder import Encoder, EncoderCard
from features.pooling import POOLINGS, token_raster
from features.tile_folder import as_patches
from tiling import ConfigError, check_room

from .batches import Batch
from .config import PretrainConfig
from .moments import Moments
from .networks import Plan
from .objective import Losses, Objective
from .processes import Processes
from .views import taught_view, turned, turned_back

_WHITENING = 0.5  # power of the deviation by which each direction is divided


class Headed(torch.nn.Module):
    """A trunk and, for each teacher, a linear head for its vector and one for its tokens."""

    def __init__(self, trunk: Any, card: EncoderCard, teachers: Sequence[Encoder], token_side: int) -> None:
        super().__init__()
        self.trunk, self._pool, self._token_side = trunk, POOLINGS[card.pooling], token_side
        width = int(trunk.num_features)
        self._n_vectors = len(teachers)
        sizes = [(card.dim, teacher.card.dim) for teacher in teachers]
        if token_side:
            sizes += [(width, t.card.token_dim) for t in teachers if t.card.token_dim]
        self.heads = torch.nn.ModuleList(torch.nn.Linear(*size) for size in sizes)

    def seen(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Return what each head reads: the vectors (n, dim), or tokens (n, side, side, width)."""
        tokens = self.trunk.forward_features(images)
        found = [self._pool(self.trunk, tokens)] * self._n_vectors
        n_rasters = len(self.heads) - self._n_vectors
        if n_rasters:
            found += [token_raster(self.trunk, tokens, self._token_side)] * n_rasters
        return found

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Return what each head makes of images: (n, dim) each, then (n, side, side, token_dim) each."""
        return [head(each) for head, each in zip(self.heads, self.seen(images), strict=True)]


class Taught:
    """What teachers make of views, computed once for each view of a tile if there are only so many.

    Vectors (n, dim) of each teacher, then tokens (n, side, side, token_dim) of those that have them. They
    are kept in plain files in `folder`, in which NaN is what is not there yet.
    """

    def __init__(
        self, teachers: Sequence[Encoder], config: PretrainConfig, n: int, folder: Path | None
    ) -> None:
        self.teachers, self._side, self._config = list(teachers), config.token_side, config
        self._sides_px = [_side_px(teacher, config.view_px) for teacher in teachers]
        self.shapes = [(teacher.card.dim,) for teacher in teachers]
        if self._side:
            dims = [t.card.token_dim for t in teachers]
            self.shapes += [(self._side, self._side, dim) for dim in dims if dim]
        self._kept: list[np.ndarray] = []
        if folder is not None and config.teacher_views:
            shapes = [(config.teacher_views, n, *shape) for shape in self.shapes]
            self._kept = [_opened(folder / f"{k}.npy", shape) for k, shape in enumerate(shapes)]

    def __call__(self, batch: Batch) -> list[np.ndarray]:
        """Return float32 arrays of the batch's first views."""
        view = taught_view(self._config, batch.epoch)
        found = [kept[view, batch.places] for kept in self._kept]
        if found and not any(np.isnan(each).any() for each in found):
            return found
        found = self._computed(batch)
        for kept, each in zip(self._kept, found, strict=bool(self._kept)):
            kept[view, batch.places] = each
        return found

    def _computed(self, batch: Batch) -> list[np.ndarray]:
        images, n_turns = _as_arrays(batch.views[0]), self._config.teacher_turns
        found = self._told(images)
        for way in range(1, n_turns):
            told = self._told(turned(images, way))
            told = [turned_back(each, way) if each.ndim == 4 else each for each in told]  # tokens have places
            found = [one + other for one, other in zip(found, told, strict=True)]
        return [each / n_turns for each in found]

    def _told(self, images: np.ndarray) -> list[np.ndarray]:
        vectors, tokens = [], []
        for teacher, side_px in zip(self.teachers, self._sides_px, strict=True):
            if self._side and teacher.card.token_dim:
                vector, token = teacher.encode_tokens(as_patches(images, side_px))
                tokens.append(token)
            else:
                vector = teacher.encode(as_patches(images, side_px))
            vectors.append(vector)
        return vectors + tokens


class Distillation(Objective):
    """The student is what becomes the encoder; heads are left behind."""

    def __init__(self, plan: Plan, config: PretrainConfig, taught: Taught, *, is_reduced: bool) -> None:
        super().__init__(plan, is_reduced=is_reduced)
        teachers = taught.teachers
        self._taught, self._n_teachers, self._input_px = taught, len(teachers), config.input_px
        self._is_begun = plan.state is not None
        self.student = Headed(plan.trunk(config.drop_path), plan.card, teachers, config.token_side)
        for k, shape in enumerate(taught.shapes):
            self.register_buffer(f"centre_{k}", torch.zeros(shape[-1]))
            self.register_buffer(f"whitening_{k}", torch.eye(shape[-1]))

    @torch.no_grad()
    def begin(self, sample: Iterable[Batch], processes: Processes) -> None:
        """Set by some batches what is wanted, and heads that tell it from what the student knows.

        Each of several processes has batches of its own; what is set is the same in all.
        """
        heads = list(self.student.heads)
        device: torch.device = self.mean.device  # pyright: ignore[reportAssignmentType]
        where = torch.device("cpu") if device.type == "mps" else device  # which has no float64
        moments = [Moments(head.in_features, head.out_features, where) for head in heads]
        self.student.eval()
        n_tiles = 0
        for batch in sample:
            n_tiles += len(batch.places) if not batch.epoch else 0  # later epochs have other views of them
            with self.computing():
                seen = self.student.seen(self._student_images(batch))
            for of_head, read, rows in zip(moments, seen, self._taught(batch), strict=True):
                of_head.add(read, torch.from_numpy(rows))
        n_tiles = int(processes.total(torch.tensor(n_tiles)))
        for k, (head, of_head) in enumerate(zip(heads, moments, strict=True)):
            of_head.sums = processes.total(of_head.sums)
            found = of_head.regression(_WHITENING, n_tiles)
            getattr(self, f"centre_{k}").copy_(found.centre)
            getattr(self, f"whitening_{k}").copy_(found.matrix)
            # what random weights make hardly varies: a head that tells it apart is brittle
            if self._is_begun:
                head.weight.copy_(found.weight)
                head.bias.copy_(found.bias)

    def losses(self, batch: Batch, done: float) -> Losses:
        """Return `vectors` and, if asked for, `tokens`: the squared error, 1 for who tells nothing."""
        del done
        found = self.learn(self._student_images(batch))
        losses = []
        for k, (told, rows) in enumerate(zip(found, self._taught(batch), strict=True)):
            wanted = torch.from_numpy(rows).to(told.device)
            wanted = (wanted - getattr(self, f"centre_{k}")) @ getattr(self, f"whitening_{k}")
            losses.append(mse_loss(told.float(), wanted))
        n = self._n_teachers
        kinds = {"vectors": losses[:n], "tokens": losses[n:]}
        return {name: torch.stack(each).mean() for name, each in kinds.items() if each}

    def _student_images(self, batch: Batch) -> torch.Tensor:
        own = as_patches(_as_arrays(batch.views[0]), self._input_px)
        return self.images(torch.from_numpy(own).permute(0, 3, 1, 2))

    @property
    def trunk(self) -> torch.nn.Module:
        """The student's trunk."""
        return self.student.trunk


def check_teacher(teacher: Encoder, config: PretrainConfig) -> None:
    """Encode a grey picture; raise ConfigError if the teacher does not make one finite vector of it."""
    side = _side_px(teacher, config.view_px)
    try:
        found = teacher.encode(np.full((1, side, side, 3), 128, np.uint8))
    except (ValueError, RuntimeError, TypeError, IndexError) as error:
        raise ConfigError(
            f"teacher {teacher.card.name} cannot encode pictures of 3 channels and {side} px ({error})",
            hint="take another teacher",
        ) from error
    if found.shape != (1, teacher.card.dim) or not np.isfinite(found).all():
        raise ConfigError(
            f"teacher {teacher.card.name} makes {found.shape} of a picture, wanted (1, {teacher.card.dim})",
            hint="take another teacher",
        )


def _side_px(teacher: Encoder, view_px: int) -> int:
    """Return the side nearest to the views' that a teacher takes."""
    if teacher.card.resizes:
        return view_px
    multiple = teacher.card.px_multiple
    return max(1, round(view_px / multiple)) * multiple if multiple else teacher.card.input_px


def _as_arrays(images: torch.Tensor) -> np.ndarray:
    return images.permute(0, 2, 3, 1).contiguous().numpy()


def _opened(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        check_room(path.parent, 4 * math.prod(shape), f"{path}: what teachers make of all views")
        beside = path.with_suffix(".partial")
        kept = np.lib.format.open_memmap(beside, "w+", np.float32, shape)
        for view in kept:
            view[:] = np.nan
        kept.flush()
        beside.replace(path)
    return np.lib.format.open_memmap(path, "r+")
