"""The hub's server: `/<org>/<model>/resolve/<revision>/<file>`, with what it says of commits, digests and refusals.

As huggingface.co answers its own client: X-Repo-Commit, ETag and length of a file; X-Error-Code where there is none.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote


@dataclass
class Repository:
    """Commits, each with its files' content by name, and the commits that branches and tags name."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    references: dict[str, str] = field(default_factory=dict)
    token: str | None = None
    """who asks without it is refused: the repository is gated"""
    cut_short: set[str] = field(default_factory=set)
    """files of which half is sent"""

    def commit(self, folder: Path, *, branch: str = "main") -> str:
        """Make a commit of the files in a folder, on a branch, and return its hash."""
        files = {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}
        said = repr([(name, hashlib.sha256(content).hexdigest()) for name, content in files.items()])
        name = hashlib.sha1(said.encode(), usedforsecurity=False).hexdigest()
        self.commits[name] = files
        self.references[branch] = name
        return name


@dataclass
class Hub:
    """Repositories by name at an address, and how often each file was sent."""

    address: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    sent: Counter[str] = field(default_factory=Counter)

    def repository(self, name: str) -> Repository:
        return self.repositories.setdefault(name, Repository())


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serve the hub until the block ends; its `address` is set."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    hub.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        name, found, rest = unquote(self.path.partition("?")[0]).strip("/").partition("/resolve/")
        repository = self.hub.repositories.get(name) if found else None
        if repository is None:
            # The hub does not tell what is missing from what is private.
            return self._refuse(401, "RepoNotFound", "Invalid username or password.")
        if repository.token and self.headers.get("Authorization") != f"Bearer {repository.token}":
            return self._refuse(401, "GatedRepo", "Access to this model is restricted.")
        revision, _, file = rest.partition("/")
        commit = repository.references.get(revision, revision)
        if commit not in repository.commits:
            return self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        content = repository.commits[commit].get(file)
        if content is None:
            return self._refuse(404, "EntryNotFound", "Entry not found", commit=commit)
        return self._send(f"{name}/{file}", content, commit, body=body, half=file in repository.cut_short)

    def _refuse(self, status: int, code: str, message: str, *, commit: str | None = None) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", message)
        if commit:
            self.send_header("X-Repo-Commit", commit)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send(self, name: str, content: bytes, commit: str, *, body: bool, half: bool) -> None:
        self.send_response(200)
        self.send_header("X-Repo-Commit", commit)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.hub.sent[name] += 1
            self.wfile.write(content[: len(content) // 2] if half else content)

    def log_message(self, format: str, *arguments: object) -> None:
        """Tests print nothing."""
