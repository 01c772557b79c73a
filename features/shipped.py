"""The encoder whose card and weights come with the package: `embedded`."""

from dataclasses import replace
from pathlib import Path

from tiling import ConfigError, FormatError

from .encoder import ENCODERS, EncoderEntry
from .encoder_folder import FolderEncoder, folder_entry

_WAY_OUT = "install slidebag again: it comes with it"


def _embedded() -> EncoderEntry:
    try:
        entry = folder_entry(Path(__file__).with_name("embedded"), "embedded")
    except (ConfigError, FormatError) as error:
        raise type(error)(error.message, hint=_WAY_OUT) from error
    assert isinstance(entry.load, FolderEncoder)
    return replace(entry, load=replace(entry.load, way_out=_WAY_OUT))


ENCODERS.defer("embedded", _embedded)  # no file is read before it is asked for
