"""Weights from the Hugging Face hub, and what to tell where it does not give them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import constants, hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import logging

from tiling import SlidebagError

from .architecture import Architecture
from .encoder import EncoderCard

FILES = ("model.safetensors", "pytorch_model.bin")  # as the hub's libraries name them, the better first
ABSENT = (OSError, RuntimeError, HfHubHTTPError)  # whatever keeps weights away


def fetch_weights(card: EncoderCard, architecture: Architecture) -> Path:
    """Return the authors' weight file, fetched once and kept in the hub's cache.

    Raises:
        SlidebagError: there is none, the network is away, or the authors must be asked first.
    """
    if not architecture.hub:
        raise SlidebagError(
            f"encoder {card.name}: its weights are on no hub",
            hint=f"get them from {card.source} and give the file with --weights",
        )
    missed: Exception | None = None
    for name in (architecture.file,) if architecture.file else FILES:
        try:
            with retries_untold():
                return Path(hf_hub_download(architecture.hub, name))
        except (EntryNotFoundError, LocalEntryNotFoundError) as error:  # perhaps the other name
            missed = error
        except ABSENT as error:
            raise unavailable(card, error) from error
    raise unavailable(card, missed or FileNotFoundError(architecture.hub)) from missed


@contextmanager
def retries_untold() -> Iterator[None]:
    """Let the hub's library log errors alone: what comes of its retries is told once, at the end."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def unavailable(card: EncoderCard, error: Exception) -> SlidebagError:
    """Return the error that says why weights cannot be had and what to do."""
    local = "give a local file or folder with --weights"
    # the hub hides a gated repository from those who may not see it
    if isinstance(error, GatedRepoError) or (card.is_gated and isinstance(error, RepositoryNotFoundError)):
        where = card.access or f"https://huggingface.co/{card.source}"
        return SlidebagError(
            f"encoder {card.name}: {card.source} is gated, and this account has no access to it",
            hint=f"ask at {where}, log in with `hf auth login`, or {local}",
        )
    way = "unset HF_HUB_OFFLINE" if constants.HF_HUB_OFFLINE else "connect to the network once"
    asked = f" (gated: ask at {card.access})" if card.is_gated else ""
    return SlidebagError(
        f"encoder {card.name}: no weights from {card.source} ({type(error).__name__})",
        hint=f"{way}{asked}, or {local}",
    )
