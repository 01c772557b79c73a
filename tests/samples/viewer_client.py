"""The viewer, asked as no browser asks."""

import http.client
import json
import shutil
import threading
from contextlib import contextmanager
from pathlib import Path

from mil import Run, ViewConfig
from mil.view import ViewServer, key_of

KNOWN = f"/api/slides/{key_of('known')}"


@contextmanager
def serving(run, **options):
    with ViewServer(run, ViewConfig(**options)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def ask(server, path, *, host=None, method="GET", **headers):
    """(status, headers, body) of a request that no client has tidied up."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    connection.putheader("Host", host or f"127.0.0.1:{server.server_port}")
    for name, value in headers.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders()
    response = connection.getresponse()
    told = response.status, dict(response.getheaders()), response.read()
    connection.close()
    return told


def ask_json(server, path):
    status, headers, body = ask(server, path)
    assert (status, headers["Content-Type"]) == (200, "application/json")
    return json.loads(body)


def copied(run: Run, folder: Path) -> Run:
    return Run(Path(shutil.copytree(run.root, folder / "run")))
