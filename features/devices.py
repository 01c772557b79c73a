"""Which devices there are to work on."""

from tiling import ConfigError


def find_devices(wanted: str) -> tuple[str, ...]:
    """Return the torch devices that "auto", "cuda" or a list such as "cuda:0,cuda:1" means, one or more.

    "auto" is every GPU there is, else the processor; "cuda" is every CUDA GPU.

    Raises:
        ConfigError: a device is asked for that is not there.
    """
    import torch  # takes seconds, and whoever needs devices needs torch next

    gpus = tuple(f"cuda:{k}" for k in range(torch.cuda.device_count())) if torch.cuda.is_available() else ()
    has_mps = torch.backends.mps.is_available()
    there = {"cpu", *gpus, *(["mps"] if has_mps else [])}
    if wanted == "auto":
        return gpus or (("mps",) if has_mps else ("cpu",))
    if wanted == "cuda" and gpus:
        return gpus
    devices = tuple(name.strip() for name in wanted.split(","))
    if missing := [name for name in devices if name not in there]:
        raise ConfigError(
            f"device {missing[0]!r} is not there", hint=f"choose from auto, {', '.join(sorted(there))}"
        )
    return devices
