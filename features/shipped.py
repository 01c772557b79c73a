"""The encoder whose card and weights come with the package: `embedded`."""

from pathlib import Path

from tiling import ConfigError

from .encoder import ENCODERS, EncoderEntry
from .encoder_folder import folder_entry


def _embedded() -> EncoderEntry:
    try:
        return folder_entry(Path(__file__).with_name("embedded"), "embedded")
    except ConfigError as error:
        raise ConfigError(error.message, hint="install slidebag again: it comes with it") from error


ENCODERS.defer("embedded", _embedded)  # no file is read before it is asked for
