"""The errors that slidebag raises on purpose: each names the thing, the value found and the way out."""


class SlidebagError(Exception):
    """Something the user can put right; `hint` says how."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class SlideError(SlidebagError, OSError):
    """A slide that cannot be opened or read."""


class ResolutionError(SlidebagError, ValueError):
    """A resolution that is missing, implausible, or finer than the slide was scanned."""


class FormatError(SlidebagError, ValueError):
    """A file that is damaged, of another kind, or of a newer version."""


class ConfigError(SlidebagError, ValueError):
    """An option outside what it may be."""


class WriteError(SlidebagError, OSError):
    """A file that cannot be written: no space, no permission."""
