"""The viewer's server: who is let in, what is refused, and how answers are sent."""

import gzip
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from viewed_run import HOSTILE
from viewer_client import KNOWN, ask, serving

from mil import Run, ViewConfig
from mil.view import ViewServer
from mil.view.cohort_table import key_of
from mil.view.open_slides import OpenSlides
from tiling import ConfigError, FormatError, open_slide


@pytest.fixture
def run(viewed_run) -> Run:
    return viewed_run


@pytest.fixture
def server(viewer) -> ViewServer:
    return viewer


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html; charset=utf-8"),
        (f"/slides/{key_of(HOSTILE)}", "text/html; charset=utf-8"),
        ("/static/slide.js", "text/javascript; charset=utf-8"),
        ("/static/style.css", "text/css; charset=utf-8"),
        ("/static/icon.svg", "image/svg+xml"),
        ("/favicon.ico", "image/svg+xml"),
        ("/api/cohort", "application/json"),
        (KNOWN, "application/json"),
        (f"{KNOWN}/tiles", "application/octet-stream"),
        (f"{KNOWN}/rasters/1", "application/octet-stream"),
        (f"{KNOWN}/squares/0/0/0", "image/jpeg"),
    ],
)
def test_pages_and_data_are_served_and_nothing_from_elsewhere_may_be_loaded_by_them(server, path, kind):
    status, headers, body = ask(server, path)
    assert (status, headers["Content-Type"], int(headers["Content-Length"])) == (200, kind, len(body))
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self';")
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert ask(server, path, method="HEAD")[2] == b""


@pytest.mark.parametrize(
    "path",
    [
        "/slides.csv",
        "/run.json",
        "/static/",
        "/static/page.html",
        "/static/../routes.py",
        "/static/..%2froutes.py",
        "/static/%2e%2e/routes.py",
        "/static//etc/passwd",
        "//etc/passwd",
        "/../../../../etc/passwd",
        "/slides/known",
        "/slides/../slides.csv",
        f"/slides/{'0' * 16}",
        f"/api/slides/{'0' * 16}",
        f"/api/slides/{'0' * 16}/squares/0/0/0",
        f"{KNOWN}/squares/0/9/0",
        f"{KNOWN}/squares/9/0/0",
        f"{KNOWN}/squares/-1/0/0",
        f"{KNOWN}/squares/0/0/0/",
        f"{KNOWN}/squares/0/0/0?x=1",
        f"{KNOWN}/rasters/3",
        f"{KNOWN}/hot",
        f"{KNOWN}/rasters/1/../../../../slides.csv",
        f"/api/slides/{key_of('known').upper()}",
        f"/api/slides/{key_of('../outside')}",
        f"/api/slides/{key_of('damaged')}/rasters/1",
        "http://elsewhere/slides.csv",
        "*",
    ],
)
def test_everything_else_is_not_there(server, path):
    status, _, body = ask(server, path)
    assert status in ((422,) if key_of("damaged") in path else (404,))
    assert set(json.loads(body)) == {"error", "hint"}


def test_only_reading_is_answered(server):
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert ask(server, "/api/cohort", method=method)[0] == 501


@pytest.mark.parametrize(
    "host", ["elsewhere.example", "127.0.0.1", "127.0.0.1:1", "localhost.elsewhere:{}", "-"]
)
def test_a_name_that_was_made_to_lead_here_is_not_answered(server, host):
    assert ask(server, "/", host=f"localhost:{server.server_port}")[0] == 200
    assert ask(server, "/", host=host.format(server.server_port))[0] == 404


def test_beyond_this_machine_everything_is_behind_a_token(run):
    assert ViewConfig(host="0.0.0.0").needs_token
    assert ViewConfig(host="a.name").needs_token
    assert not any(ViewConfig(host=h).needs_token for h in ("localhost", "127.0.0.1", "::1"))
    with serving(run, token=True) as server:
        prefix = server.url.removeprefix(f"http://127.0.0.1:{server.server_port}")
        assert len(prefix) > 30
        assert ask(server, prefix, host="any.name")[0] == 200
        assert ask(server, f"{prefix}api/cohort")[0] == 200
        for path in ("/", "/api/cohort", "/static/slide.js", prefix[:-2] + "/", f"{prefix[:-1]}x/"):
            assert ask(server, path)[0] == 404
        status, _, body = ask(server, prefix[:-1])  # as a page it would not find its files
        assert (status, json.loads(body)["hint"]) == (404, "open the address that slidebag printed")


def test_on_port_80_browsers_leave_the_port_out(run):
    with serving(run) as server:
        assert server.path_in("/", "localhost") is None
        server.server_port = 80
        assert [server.path_in("/", host) for host in ("localhost", "[::1]", "localhost:80")] == ["/"] * 3
        assert server.path_in("/", "elsewhere.example") is None


def test_rasters_are_sent_packed_to_those_who_can_unpack_them(server):
    plain = ask(server, f"{KNOWN}/rasters/1")[2]
    _, headers, body = ask(server, f"{KNOWN}/rasters/1", Accept_Encoding="br, gzip")
    assert (headers["Content-Encoding"], int(headers["Content-Length"])) == ("gzip", len(body))
    assert (gzip.decompress(body), len(body) < len(plain)) == (plain, True)
    for path, accepted in ((f"{KNOWN}/squares/0/0/0", "gzip"), (f"{KNOWN}/rasters/1", "gzip;q=0")):
        assert "Content-Encoding" not in ask(server, path, Accept_Encoding=accepted)[1]


def test_where_nothing_can_listen_one_is_told(run, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port}"):
            ViewServer(run, ViewConfig(port=port))
    with pytest.raises(ConfigError, match="port is 70000"):
        ViewConfig(port=70000)
    with pytest.raises(FormatError, match="has no slides"):
        ViewServer(Run(tmp_path))


def test_many_at_once_get_the_same(server):
    paths = [f"{KNOWN}/squares/0/{c}/{r}" for c in range(4) for r in range(3)] * 3
    found: dict[int, bytes] = {}

    def fetch(number):
        found[number] = ask(server, paths[number])[2]

    threads = [threading.Thread(target=fetch, args=(n,)) for n in range(len(paths))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(found[n] == found[n % 12] for n in range(len(paths)))
    assert len({found[n] for n in range(12)}) > 1


def test_few_slides_stay_open_and_one_that_is_read_is_not_closed(run, monkeypatch):
    closed, module = [], sys.modules[OpenSlides.__module__]

    def opened(path):
        slide = open_slide(path)
        close = slide.close
        monkeypatch.setattr(slide, "close", lambda: (closed.append(slide.id), close()))
        return slide

    monkeypatch.setattr(module, "_MOST_OPEN", 1)
    monkeypatch.setattr(module, "open_slide", opened)
    slides = OpenSlides()
    known, wrong = (s.path for s in run.cohort().slides if s.slide_id in ("known", "wrong"))
    other = threading.Thread(target=slides.jpeg, args=(wrong, 0, 0, 0))
    with slides.opened(known) as zoom:
        other.start()  # pushes this one out, and waits until it can be closed
        time.sleep(0.2)
        assert zoom.jpeg(0, 0, 0)
        assert closed == []
    other.join()
    assert closed == ["known"]
    slides.jpeg(known, 0, 0, 0)
    assert closed == ["known", "wrong"]
    slides.close()
    assert closed == ["known", "wrong", "known"]


def test_a_request_with_a_body_is_the_last_of_its_connection(server):
    """What it holds must not be taken for a request of its own."""
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=20) as connection:
        host, hidden = f"Host: 127.0.0.1:{server.server_port}\r\n", b"GET /hidden HTTP/1.1\r\n\r\n"
        head = f"GET /static/icon.svg HTTP/1.1\r\n{host}Content-Length: {len(hidden)}\r\n\r\n"
        connection.sendall(head.encode() + hidden)
        with connection.makefile("rb") as answers:
            assert answers.read().count(b"HTTP/1.1 ") == 1  # and then it ends


def test_a_bug_is_told_to_both_and_a_browser_that_goes_away_to_none(run, monkeypatch, capsys):
    def fail(_):
        raise ValueError("nobody thought of it")

    with serving(run) as server:
        monkeypatch.setattr(server.routes, "answer", fail)
        status, _, body = ask(server, "/")
        assert (status, json.loads(body)["error"]) == (
            500,
            "this is a bug of slidebag: its terminal tells more",
        )
    end, told = time.monotonic() + 10, ""
    while "nobody thought of it" not in told:  # it is printed after the answer
        assert time.monotonic() < end
        time.sleep(0.01)
        told += capsys.readouterr().err
    for gone in (BrokenPipeError, ConnectionResetError, TimeoutError):
        try:
            raise gone
        except gone:
            server.handle_error(None, ("127.0.0.1", 1))
    assert capsys.readouterr().err == ""


@pytest.mark.slow
def test_ctrl_c_ends_it(run):
    command = [sys.executable, "-m", "mil.cli", "view", str(run.root)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("open http://127.0.0.1:")
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    assert (process.communicate(timeout=20)[0], process.returncode) == ("ended\n", 0)
