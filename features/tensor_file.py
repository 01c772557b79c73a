"""Files of tensors, whole or not at all."""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from tiling import replacing

if TYPE_CHECKING:  # torch waits until there is something to write
    from torch import Tensor


def write_tensors(path: Path, tensors: "dict[str, Tensor]", header: dict[str, str] | None = None) -> None:
    """Write contiguous tensors by name, and texts for the header, as safetensors.

    Raises:
        WriteError: there is no space, or no permission.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with replacing(path) as temporary:
        try:
            save_file(tensors, temporary, header)
        except SafetensorError as error:
            number = re.search(r"os error (\d+)", str(error))  # the library tells the system's error as text
            if number is None:
                raise
            raise OSError(int(number[1]), os.strerror(int(number[1]))) from error
