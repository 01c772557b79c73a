"""The encoder whose card and weights come with the package: `embedded`."""

from pathlib import Path

from .encoder import ENCODERS, EncoderEntry
from .encoder_folder import folder_entry


def _embedded() -> EncoderEntry:
    return folder_entry(Path(__file__).with_name("embedded"), "embedded")


ENCODERS.defer("embedded", _embedded)  # no file is read before it is asked for
