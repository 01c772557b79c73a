"""Where the viewer is served, and who may see it."""

import ipaddress
from dataclasses import dataclass, field

from tiling import ConfigError

_MOST_PORT = 65535


@dataclass(frozen=True, kw_only=True)
class ViewConfig:
    """Where the viewer is served."""

    host: str = field(
        default="127.0.0.1",
        metadata={"help": "address to listen on; beyond this machine only with a token in the address"},
    )
    port: int = field(default=0, metadata={"help": "port to listen on; 0 is any that is free"})
    token: bool = field(
        default=False,
        metadata={"help": "ask for a token on this machine too, where others work on it"},
    )

    def __post_init__(self) -> None:
        if not self.host:
            raise ConfigError("host is empty", hint="give a name or an address, such as 127.0.0.1")
        if not 0 <= self.port <= _MOST_PORT:
            raise ConfigError(f"port is {self.port}", hint=f"give 0 to {_MOST_PORT}")

    @property
    def needs_token(self) -> bool:
        """Return whether a page is shown only to those who know the token."""
        return self.token or not self.is_loopback

    @property
    def is_loopback(self) -> bool:
        """Return whether nobody but this machine can reach the host."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False
