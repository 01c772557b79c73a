"""torch on any device: weights of matrix products cast once, patches normalised where they are computed."""

from collections.abc import Callable

import numpy as np
import torch

from tiling import ConfigError

from .encoder import EncoderCard
from .engine import Engine, is_out_of_memory

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_PRODUCTS = (torch.nn.Linear, torch.nn.Conv2d)
_CPU_BATCH = 32
_LARGEST_BATCH = 512
_SHARE_OF_MEMORY = 0.7  # of what is free; the rest is left to fragments and to other sizes of patch


class TorchEngine(Engine):
    """torch; on CUDA one batch is uploaded while the one before it is computed."""

    name = "torch"

    def __init__(self, network: torch.nn.Module, card: EncoderCard, precision: str, *, device: str) -> None:
        self._device = torch.device(device)
        self.precision = _choose_precision(precision, self._device)
        self._network = network.eval().requires_grad_(requires_grad=False).to(self._device)
        if self.precision != "float32":
            _cast(self._network, _DTYPES[self.precision])
        self._mean = torch.tensor(card.mean, device=self._device).view(3, 1, 1)
        self._std = torch.tensor(card.std, device=self._device).view(3, 1, 1)
        self._uploading = torch.cuda.Stream(self._device) if self._device.type == "cuda" else None
        self.batch = _CPU_BATCH
        if self._uploading is not None:
            self.batch = self._try_batches(card.input_px)

    @torch.inference_mode()
    def _run(self, patches: np.ndarray) -> list[np.ndarray]:
        found = []
        for start in range(0, len(patches), self.batch):
            # computing is only begun here, not awaited, so that the next upload runs beside it
            found.append(self._compute(self._upload(patches[start : start + self.batch])))
        return [torch.cat(parts).float().cpu().numpy() for parts in zip(*found, strict=True)]

    def _upload(self, patches: np.ndarray) -> torch.Tensor:
        """Bring patches to the device as they are: uint8 (n, 3, H, W), channels last."""
        images = torch.from_numpy(np.ascontiguousarray(patches))
        if self._uploading is not None:
            with torch.cuda.stream(self._uploading):
                images = images.pin_memory().to(self._device, non_blocking=True)
            computing = torch.cuda.current_stream(self._device)
            computing.wait_stream(self._uploading)
            images.record_stream(computing)
        return images.to(self._device).permute(0, 3, 1, 2)

    def _compute(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        normalised = (images.float() / 255 - self._mean) / self._std
        is_reduced = self.precision != "float32"
        with torch.autocast(self._device.type, _DTYPES[self.precision], enabled=is_reduced):
            found = self._network(normalised)
        return found if isinstance(found, tuple) else (found,)

    def _try_batches(self, side_px: int) -> int:
        """Return how many patches of this side go into the memory that is free now, by computing a few."""

        @torch.inference_mode()
        def compute(n: int) -> None:
            self._compute(self._upload(np.zeros((n, side_px, side_px, 3), np.uint8)))
            torch.cuda.synchronize(self._device)

        compute(1)  # whatever is allocated once, such as workspaces
        held = torch.cuda.memory_allocated(self._device)
        torch.cuda.reset_peak_memory_stats(self._device)
        compute(8)
        per_patch = max(1, (torch.cuda.max_memory_allocated(self._device) - held) // 8)
        free, _ = torch.cuda.mem_get_info(self._device)
        return largest_batch(compute, int(_SHARE_OF_MEMORY * free / per_patch))


def largest_batch(compute: Callable[[int], None], expected: int) -> int:
    """Return the largest power of two up to `expected` and 512 that `compute` has memory for, at least 1."""
    batch = 1 << max(1, min(expected, _LARGEST_BATCH)).bit_length() - 1
    while batch > 1:
        try:
            compute(batch)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            batch //= 2
        else:
            break
    return batch


def _cast(network: torch.nn.Module, dtype: torch.dtype) -> None:
    """Cast what goes into matrix products; sums, norms and position embeddings stay float32."""
    for module in network.modules():
        if isinstance(module, _PRODUCTS):
            module.to(dtype)


def _choose_precision(asked: str, device: torch.device) -> str:
    """Return the precision to compute in.

    Raises:
        ConfigError: torch has not the one asked for on this device.
    """
    if device.type == "cuda":
        has_bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
        able = ("float32", "float16", "bfloat16") if has_bfloat16 else ("float32", "float16")
        best = "bfloat16" if has_bfloat16 else "float16"
    elif device.type == "cpu":
        able = (
            "float32",
            "bfloat16",
        )  # torch emulates bfloat16 where the processor has it not: slow, but the same
        best = "bfloat16" if computes_bfloat16() else "float32"
    else:
        able, best = ("float32",), "float32"
    if asked == "auto":
        return best
    if asked not in able:
        out = "give --device cpu and install slidebag[fast] for int8, or " if asked == "int8" else ""
        raise ConfigError(
            f"torch does not compute {asked} on {device.type}",
            hint=f"{out}choose --precision from {', '.join(able)}",
        )
    return asked


def computes_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 by itself, as torch sees it; an older torch cannot tell."""
    told = getattr(torch.cpu, "get_capabilities", dict)()
    return any(told.get(ability, False) for ability in ("avx512_bf16", "amx_bf16", "bf16"))
