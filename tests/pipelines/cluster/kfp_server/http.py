"""HTTP as KFP's API server speaks it: requests taken apart and checked, answers and faults sent."""

import contextlib
import json
import socket
from collections.abc import Mapping
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.pipelines.cluster.kfp_server.operations import OPERATIONS, misfits
from tests.pipelines.cluster.kfp_server.store import Refused, Request

if TYPE_CHECKING:
    from tests.pipelines.cluster.kfp_server.server import KfpServer


class Handler(BaseHTTPRequestHandler):
    """Takes requests apart, checks them and has the KfpServer answer."""

    kfp: "KfpServer"
    protocol_version = "HTTP/1.1"
    # Headers and body go out apart, and a client's delayed acknowledgement would hold up each second part for 40 ms.
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path)
        path, query = unquote(parts.path), dict(parse_qsl(parts.query, keep_blank_values=True))
        try:
            self._send(200, self._answer(path, query, body))
        except Refused as refusal:
            # As grpc-gateway writes errors.
            self._send(refusal.status, {"error": str(refusal), "code": 3, "message": str(refusal), "details": []})
        except _Faulty as faulty:
            self._fail(faulty.kind)
        except Exception as error:
            self.kfp.problems.append(f"{self.command} {self.path}: {type(error).__name__}: {error}")
            self._send(500, {"error": str(error)})

    do_GET = do_POST = do_DELETE = _handle  # noqa: N815

    def _answer(self, path: str, query: dict[str, str], body: bytes) -> dict[str, Any] | str:
        found = [(each, each.path.fullmatch(path)) for each in OPERATIONS if each.method == self.command]
        matching = [(each, match) for each, match in found if match]
        name = matching[0][0].name if matching else self._other(path)
        fault = next((each for each in self.kfp.faults if each.operation in (name, "*") and each.times), None)
        if fault:
            fault.times -= 1
            if isinstance(fault.kind, int):
                echoed = " ".join(filter(None, (self.headers.get("Authorization"), self.headers.get("Cookie"))))
                raise Refused(fault.kind, f"a fault of the stand-in {echoed}".strip())
            raise _Faulty(fault.kind)
        self._authenticate()
        if not matching:
            return self._answer_other(name, path, query)
        operation, match = matching[0]
        problems = [f"query {key} is unknown" for key in query.keys() - operation.query]
        content: Any = None
        if operation.has_file:
            content = self._file(body)
        elif operation.body:
            content = json.loads(body)
            known = dict(content)
            if self.kfp.release.startswith(("2.15", "2.16")):
                known.pop("plugins_input", None)
            problems += misfits(known, operation.body)
        elif body not in (b"", b"{}"):
            problems.append(f"the body {body[:50]!r} is not expected")
        self.kfp.problems += [f"{operation.name}: {problem}" for problem in problems]
        given = {**match.groupdict(), **query}
        self.kfp.requests.append(Request(operation.name, given, content, dict(self.headers)))
        function = getattr(self.kfp, operation.name)
        if operation.has_file:
            return function(file=content, **given)
        answer: dict[str, Any] = function(body=content, **given) if operation.body else function(**given)
        return answer

    def _authenticate(self) -> None:
        kfp = self.kfp
        if kfp.token and self.headers.get("Authorization") != f"Bearer {kfp.token}":
            raise Refused(401, "Request header error: there is no user identity header")
        if kfp.cookie and self.headers.get("Cookie") != kfp.cookie:
            raise _Faulty("redirect")

    def _other(self, path: str) -> str:
        if path.startswith("/apis/v1alpha1/"):
            return "log"
        if path.startswith("/apis/v1beta1/runs/"):
            return "workflow"
        return {"/k8s/pod/logs": "page_log", "/artifacts/get": "page_artifact"}.get(path, path)

    def _answer_other(self, name: str, path: str, query: Mapping[str, str]) -> dict[str, Any] | str:
        parts = path.split("/")
        if name == "log" and len(parts) == 8 and not self.kfp.is_page:
            return self.kfp.read_log(parts[4], parts[6])
        if name == "log":
            return "<!doctype html><title>Kubeflow Pipelines</title>"
        if name in ("page_log", "page_artifact") and not self.kfp.is_page:
            raise Refused(404, "Not Found")
        if name == "page_artifact":
            if query["source"] != "minio" or f"{query['bucket']}/{query['key']}" not in self.kfp.store:
                raise Refused(500, "Failed to get object in bucket")
            return self.kfp.store[f"{query['bucket']}/{query['key']}"]
        if name == "page_log":
            return self.kfp.read_log(query["runid"], query["podname"])
        if name == "workflow":
            return self.kfp.workflow_of(parts[4])
        self.kfp.problems.append(f"{self.command} {self.path} is no operation of KFP's")
        raise Refused(404, "Not Found")

    def _file(self, body: bytes) -> str:
        kind = self.headers["Content-Type"]
        assert kind.startswith("multipart/form-data"), kind
        message = message_from_bytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + body)
        (part,) = message.get_payload()
        assert part.get_param("name", header="content-disposition") == "uploadfile"
        assert part.get_filename().endswith((".yaml", ".zip", ".tar.gz"))
        return part.get_payload(decode=True).decode()

    def _send(self, status: int, content: dict[str, Any] | str) -> None:
        is_text = isinstance(content, str)
        body = content.encode() if is_text else json.dumps(content).encode()
        # Whoever asked may have gone.
        with contextlib.suppress(ConnectionError):
            self.send_response(status)
            self.send_header("Content-Type", "text/plain" if is_text else "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def _fail(self, kind: str) -> None:
        match kind:
            case "html":
                self._send(200, "<!doctype html><html><title>Log in</title></html>")
            case "truncated":
                self._send(200, '{"display_name": "digi')
            case "redirect":
                self.send_response(302)
                self.send_header("Location", "https://login.example.com/dex?state=1")
                self.send_header("Content-Length", "0")
                self.end_headers()
            case "slow":
                self.kfp.hang()
            case "closed":
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
            case "half":
                self.send_response(200)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                self.wfile.write(b'{"display_name"')
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
            case "strange":
                self._send(200, {"created_at": "yesterday", "run_id": "1"})


class _Faulty(Exception):  # noqa: N818
    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind
