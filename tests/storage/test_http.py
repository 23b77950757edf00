"""Files from the web: each version is downloaded once, and whole."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from headstart.errors import InputError
from headstart.storage.http import download


class Served:
    """One file, what the server says of it, and the requests that came."""

    def __init__(self) -> None:
        self.content, self.headers = b"weights", {"ETag": '"1"'}
        self.refuses: dict[str, int] = {}
        self.declared: int | None = None
        self.asked: list[str] = []
        self.uri = ""


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))
    served = Served()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            served.asked.append(self.command)
            self.send_response(served.refuses.get(self.command, 200))
            for name, value in served.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(served.declared or len(served.content)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(served.content)

        do_GET = do_HEAD  # noqa: N815

        def log_message(self, format: str, *arguments: object) -> None:
            """Tests print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    served.uri = f"http://127.0.0.1:{server.server_port}/model.safetensors"
    yield served
    server.shutdown()
    server.server_close()


def fetched(served: Served, folder: Path) -> bytes:
    download(served.uri, folder / "model.safetensors")
    return (folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize("headers", [{"ETag": '"1"'}, {"Last-Modified": "Sat, 28 Nov 2026 12:00:00 GMT"}])
def test_a_version_is_downloaded_once_and_the_next_one_again(served, tmp_path, headers):
    served.headers = headers
    assert [fetched(served, tmp_path) for _ in range(3)] == [b"weights"] * 3
    assert served.asked.count("GET") == 1

    served.content, served.headers = b"changed", {"ETag": '"2"'}
    assert fetched(served, tmp_path) == b"changed"
    assert served.asked.count("GET") == 2


@pytest.mark.parametrize("headers", [{}, {"ETag": 'W/"1"'}])
def test_of_a_server_that_tells_no_version_every_call_downloads(served, tmp_path, headers):
    served.headers = headers
    fetched(served, tmp_path)
    served.content = b"changed"
    assert fetched(served, tmp_path) == b"changed"


def test_a_server_that_answers_get_alone_is_read(served, tmp_path):
    served.refuses = {"HEAD": 405}
    assert fetched(served, tmp_path) == b"weights"


def test_what_is_not_there_or_cut_short_is_refused_and_leaves_nothing(served, tmp_path):
    served.refuses = {"HEAD": 404}
    with pytest.raises(InputError, match=r"model\.safetensors cannot be fetched \(the server answers 404\)"):
        fetched(served, tmp_path)

    served.refuses, served.declared = {}, 100
    with pytest.raises(InputError, match=r"model\.safetensors cannot be fetched \(ChunkedEncodingError\)"):
        fetched(served, tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.is_file()]

    served.declared = None
    assert fetched(served, tmp_path) == b"weights"
