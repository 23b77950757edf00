"""`headstart ui`: the MLflow page on a workspace's store."""

import argparse
import os
import sys

from headstart_pipelines.commands.arguments import UI_PORT, WORKSPACE, Command, option
from headstart_pipelines.commands.tracking import connect, is_server, page_server


def _ui(options: argparse.Namespace) -> None:
    from headstart.tracking import mlflow_pages
    from headstart_pipelines import display
    from headstart_pipelines.ui import serve

    client = connect(options.workspace)
    uri = os.environ["MLFLOW_TRACKING_URI"]
    server = page_server(uri, options.port)

    def show() -> None:
        experiments = client.search_experiments(order_by=["last_update_time DESC"], max_results=10)
        pages = [
            (each.name, mlflow_pages.runs_page(each.experiment_id)) for each in experiments if each.name != "Default"
        ]
        pages.append(("registered models", mlflow_pages.models_page()))
        display.show_facts(display.console(), [(label, mlflow_pages.address(server, page)) for label, page in pages])
        sys.stdout.flush()

    if is_server(uri):
        show()
        return
    print("starting the MLflow page …", flush=True)
    serve(uri, options.port, options.workspace / "logs" / "ui.log", show)


COMMANDS = (
    Command(
        "ui",
        _ui,
        "open the MLflow page on the workspace's store",
        "headstart ui --port 5000",
        (option("--port", type=int, default=UI_PORT, help=f"the port on this machine (default {UI_PORT})"), WORKSPACE),
    ),
)
