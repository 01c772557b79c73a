"""The viewer's HTTP server: who is let in, and what a browser is told not to do."""

import gzip
import hmac
import secrets
import socket
import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from mil.run_folder import Run
from tiling import ConfigError

from .config import ViewConfig
from .routes import BYTES, Answer, Routes

_HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",  # nothing of a patient stays in the browser
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_HTTP_PORT = 80  # which browsers leave out of `Host`
_IDLE_S = 60  # until a client that takes no more bytes is given up
_PIECE_BYTES = 65536  # written at a time, or a slow client would have to take a whole answer within that time


class ViewServer(ThreadingHTTPServer):
    """Serves the pages of one run until it is closed; a context manager."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, run: Run, config: ViewConfig | None = None) -> None:
        """Listen on the config's host and port.

        Raises:
            ConfigError: nothing can listen there.
            FormatError: this is no run folder.
        """
        config = config or ViewConfig()
        self.routes = Routes(run)
        self._host, self._token = config.host, secrets.token_urlsafe(24) if config.needs_token else ""
        if ":" in config.host:
            self.address_family = socket.AF_INET6
        try:
            super().__init__((config.host, config.port), _Handler)
        except OSError as error:
            where = f"{config.host}, port {config.port}"
            raise ConfigError(
                f"cannot listen on {where} ({error.strerror})", hint="choose another --port or --host"
            ) from error

    @property
    def url(self) -> str:
        """The address of the cohort's page."""
        return f"http://{_bare(self._host)}:{self.server_port}/{self._token and f'{self._token}/'}"

    def path_in(self, path: str, host: str) -> str | None:
        """Return the path below the token, or None where the request is not let in.

        Without a token the `Host` header has to name this server: a page elsewhere, whose name was made
        to lead here, does not know that.
        """
        if not self._token:
            bare = {_bare(name.lower()) for name in (self._host, "127.0.0.1", "localhost", "::1")}
            own = {f"{name}:{self.server_port}" for name in bare}
            own |= bare if self.server_port == _HTTP_PORT else set()
            return path if host.lower() in own else None
        _, _, below = path.partition("/")
        token, slash, rest = below.partition("/")  # without the slash a page would not find its files
        is_right = slash and hmac.compare_digest(token.encode("latin-1", "replace"), self._token.encode())
        return f"/{rest}" if is_right else None

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say what went wrong, but not that a browser went away."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)

    def server_close(self) -> None:
        """Stop listening and let go of all slides."""
        super().server_close()
        self.routes.close()


def _bare(host: str) -> str:
    return f"[{host}]" if ":" in host else host


class _Handler(BaseHTTPRequestHandler):
    server: ViewServer  # pyright: ignore[reportIncompatibleVariableOverride]
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "slidebag", ""
    disable_nagle_algorithm = True  # head and body are two packets, and the second would wait
    timeout = _IDLE_S

    def do_GET(self) -> None:
        self._answer(has_body=True)

    def do_HEAD(self) -> None:
        self._answer(has_body=False)

    def _answer(self, *, has_body: bool) -> None:
        self.close_connection |= "Content-Length" in self.headers or "Transfer-Encoding" in self.headers
        path = self.server.path_in(self.path, self.headers.get("Host", ""))
        if path is None:
            answer = Answer.problem(404, "there is no such page", "open the address that slidebag printed")
        else:
            try:
                answer = self.server.routes.answer(path)
            except Exception:
                self._send(
                    Answer.problem(500, "this is a bug of slidebag: its terminal tells more"),
                    has_body=has_body,
                )
                raise
        self._send(answer, has_body=has_body)

    def _send(self, answer: Answer, *, has_body: bool) -> None:
        body = answer.body
        accepted = self.headers.get("Accept-Encoding", "").replace(" ", "").split(",")
        is_packed = answer.kind == BYTES and "gzip" in accepted  # rasters are mostly empty
        if is_packed:
            body = gzip.compress(body, 1)
        self.send_response(answer.status)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Security-Policy", answer.policy)
        self.send_header("Content-Type", answer.kind)
        if is_packed:
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        for start in range(0, len(body) if has_body else 0, _PIECE_BYTES):
            self.wfile.write(body[start : start + _PIECE_BYTES])

    def log_message(self, format: str, *args: Any) -> None:
        pass


def view(run: Run, config: ViewConfig | None = None, *, report: Callable[[str], None] = print) -> None:
    """Serve the viewer until interrupted; `report` is told where it is.

    Raises:
        ConfigError: nothing can listen on the config's host and port.
        FormatError: this is no run folder.
    """
    with ViewServer(run, config) as server:
        report(server.url)
        server.serve_forever()
