"""`headstart serve`: a model over HTTP."""

import argparse
import sys

from headstart.terminal import printable
from headstart_pipelines.commands.arguments import MODEL_URI, WORKSPACE, Command, count, option

_PORT = 8080


def _serve(options: argparse.Namespace) -> None:
    print(f"loading {printable(options.model)} …", flush=True)
    from headstart.api.models import load
    from headstart.data.parallel import processors
    from headstart.tracking.http_server import serve

    bundle = load(options.model, workspace=options.workspace).bundle

    def ready(address: str) -> None:
        print(f"serving {printable(options.model)} at {address}/invocations; Ctrl-C ends it")
        sys.stdout.flush()

    serve(bundle, host=options.host, port=options.port, ready=ready, threads=options.threads or processors())


COMMANDS = (
    Command(
        "serve",
        _serve,
        "answer requests for predictions over HTTP",
        "headstart serve models:/digits-target@champion --port 8080",
        (
            MODEL_URI,
            option("--port", type=int, default=_PORT, help=f"the port (default {_PORT}); 0 for a free one"),
            option("--host", default="127.0.0.1", help="the address to listen at (default 127.0.0.1, which only this "
                   "machine reaches; 0.0.0.0 for all)"),
            option("--threads", type=count, metavar="N", help="threads of a large network (default: as many as "
                   "processors)"),
            WORKSPACE,
        ),
    ),
)  # fmt: skip
