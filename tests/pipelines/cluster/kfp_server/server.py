"""The server on this machine's loopback."""

import threading
from http.server import ThreadingHTTPServer
from typing import Any

from tests.pipelines.cluster.kfp_server.http import Handler
from tests.pipelines.cluster.kfp_server.schedules import Schedules
from tests.pipelines.cluster.kfp_server.store import Request


class KfpServer(Schedules):
    """The server and what it holds; `host` is its address."""

    def __init__(self) -> None:
        super().__init__()
        self._over = threading.Event()
        handler = type("Handler", (Handler,), {"kfp": self})
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.http.daemon_threads = True
        self._thread = threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True)

    @property
    def host(self) -> str:
        """The address."""
        return f"http://127.0.0.1:{self.http.server_address[1]}"

    def __enter__(self) -> "KfpServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.http.shutdown()
        self.http.server_close()

    def called(self, operation: str) -> list[Request]:
        """The requests for an operation."""
        return [each for each in self.requests if each.operation == operation]

    def hang(self) -> None:
        """Answers nothing until the server ends."""
        self._over.wait(60)

    def healthz_service_get_healthz(self, **_: Any) -> dict[str, Any]:
        if self.is_page:
            known = {"apiServerTagName": self.release, "apiServerMultiUser": self.multi_user,
                     "multi_user": self.multi_user}  # fmt: skip
            return {
                "frontendTagName": self.release,
                "apiServerReady": self.api_ready,
                **(known if self.api_ready else {}),
            }
        return {"commit_sha": "0" * 40, "tag_name": self.release, "multi_user": self.multi_user,
                "pipeline_store": "database"}  # fmt: skip
