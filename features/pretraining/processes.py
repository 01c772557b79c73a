"""Which of several processes this is, and what it computes on; torchrun starts them."""

from dataclasses import dataclass

import torch

from features.devices import find_devices
from tiling import ConfigError

from .config import PretrainConfig

_WORKERS = 8


@dataclass(frozen=True)
class Processes:
    """One process of `world`, the first of which writes files and tells what happens."""

    device: str
    n_workers: int
    is_reduced: bool
    rank: int = 0
    world: int = 1

    @classmethod
    def join(cls, config: PretrainConfig) -> "Processes":
        """Return the only process, or which of those it is that torchrun has started.

        Raises:
            ConfigError: the device is not there, or the batch is no multiple of the processes.
        """
        devices = find_devices(config.device)
        if not torch.distributed.is_available() or not torch.distributed.is_torchelastic_launched():
            return cls(*_how(devices[0], config))
        if not torch.distributed.is_initialized():
            torch.distributed.init_process_group("nccl" if devices[0].startswith("cuda") else "gloo")
        rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
        if config.batch % world:
            raise ConfigError(f"a batch of {config.batch} for {world} processes", hint="give a multiple")
        local_rank = torch.distributed.get_node_local_rank()  # pyright: ignore[reportPrivateImportUsage]
        device = devices[local_rank % len(devices)]
        return cls(*_how(device, config), rank, world)

    @property
    def is_first(self) -> bool:
        """Whether it is this one that writes."""
        return self.rank == 0

    @property
    def torch_device(self) -> torch.device:
        """The device."""
        return torch.device(self.device)

    def leave(self) -> None:
        """Wait for the others, and end what binds them."""
        if self.world > 1:
            torch.distributed.barrier()
            torch.distributed.destroy_process_group()

    def total(self, sums: torch.Tensor) -> torch.Tensor:
        """Return the sum of a tensor over all processes."""
        if self.world == 1:
            return sums
        there = sums.to(self.device)
        torch.distributed.all_reduce(there)
        return there.to(sums.device)

    def mean(self, figures: dict[str, float]) -> dict[str, float]:
        """Return the mean of figures over all processes."""
        if self.world == 1:
            return figures
        values = self.total(torch.tensor(list(figures.values())))
        return dict(zip(figures, (values / self.world).tolist(), strict=True))


def _how(device: str, config: PretrainConfig) -> tuple[str, int, bool]:
    is_cuda = device.startswith("cuda")
    n_workers = config.workers if config.workers >= 0 else _WORKERS * is_cuda
    is_reduced = config.precision == "bfloat16"
    if config.precision == "auto" and is_cuda:
        is_reduced = torch.cuda.is_bf16_supported(including_emulation=False)
    return device, n_workers, is_reduced
