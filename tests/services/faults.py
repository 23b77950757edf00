"""A proxy in front of an HTTP server that fails as networks and servers do, when it is told to."""

import http.client
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

# Of an answer that is cut, so many bytes arrive at most.
_BEFORE_THE_CUT = 1000


@dataclass
class Faults:
    """`choose(path, range, earlier)` says what becomes of a GET of an object, given how often the same was asked for
    before: "503", "cut", "wrong" (a byte of the answer differs) or None. `asked` counts them."""

    choose: Callable[[str, str, int], str | None] = lambda path, asked, earlier: None
    asked: Counter[tuple[str, str]] = field(default_factory=Counter)
    happened: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def next(self, path: str, asked: str) -> str | None:
        with self.lock:
            fault = self.choose(path, asked, self.asked[path, asked])
            self.asked[path, asked] += 1
            if fault:
                self.happened[fault] += 1
            return fault


@contextmanager
def faulty_proxy(address: str) -> Iterator[tuple[str, Faults]]:
    """The proxy's address and what it does wrong; at first, nothing."""
    server, faults = urlsplit(address).netloc, Faults()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            path, _, query = self.path.partition("?")
            # Listings and questions about objects pass.
            of_object = self.command == "GET" and path.count("/") > 1 and "list-type" not in query
            fault = faults.next(path, self.headers.get("Range", "")) if of_object else None
            connection = http.client.HTTPConnection(server)
            # The signature is over the name by which the client calls the server.
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            content = answer.read()
            connection.close()
            status, headers = answer.status, [h for h in answer.getheaders() if h[0].lower() != "transfer-encoding"]
            if fault == "503":
                status, content = 503, b"<Error><Code>SlowDown</Code><Message>Reduce your rate.</Message></Error>"
                headers = [("Content-Length", str(len(content))), ("Content-Type", "application/xml")]
            elif fault == "wrong" and content:
                changed = bytearray(content)
                changed[len(content) // 2] ^= 1
                content = bytes(changed)
            self.send_response_only(status)
            for name, value in headers:
                self.send_header(name, value)
            self.end_headers()
            if fault == "cut":
                self.wfile.write(content[: min(_BEFORE_THE_CUT, len(content) - 1)])
                self.close_connection = True
            elif self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = forward  # noqa: N815 - the names of BaseHTTPRequestHandler

        def log_message(self, *arguments: object) -> None:
            pass

    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    proxy.daemon_threads = True
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{proxy.server_port}", faults
    finally:
        proxy.shutdown()
        proxy.server_close()
