"""How long `headstart compare` takes beside `import mlflow`, in an experiment of many runs.

    python -m benchmarks.compare [--server URI] [--runs 200] [--metrics 50] [--repetitions 7]

Without --server it starts the servers of the tests: MLflow with passwords on PostgreSQL. Every repetition runs each
command once in a process of its own; the table has medians in seconds.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
import uuid
from contextlib import ExitStack

from headstart.tracking.client import connect
from tests.services.experiments import write_experiment
from tests.services.stack import running_stack


def main() -> None:
    """Writes an experiment, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", metavar="URI", help="an MLflow server (default: one that is started for this)")
    parser.add_argument("--runs", type=int, default=200, help="evaluated runs, a multiple of 5 (default 200)")
    parser.add_argument("--metrics", type=int, default=50, help="metrics of each (default 50)")
    parser.add_argument("--repetitions", type=int, default=7, help="of each command (default 7)")
    options = parser.parse_args()
    with ExitStack() as stack:
        environment = (
            {"MLFLOW_TRACKING_URI": options.server}
            if options.server
            else stack.enter_context(running_stack()).environment
        )
        os.environ.update(environment, MLFLOW_DISABLE_TELEMETRY="true")
        name = f"benchmark-{uuid.uuid4().hex[:8]}"
        write_experiment(connect(), name, runs=options.runs, metrics=options.metrics)
        _report(_measure(name, options.repetitions))


def _measure(experiment: str, repetitions: int) -> dict[str, list[float]]:
    compare = [sys.executable, "-m", "headstart_pipelines.cli", "compare", experiment]
    commands = {
        "import mlflow": [sys.executable, "-c", "import mlflow"],
        "headstart compare": compare,
        "headstart compare --all": [*compare, "--all"],
        "headstart compare --all --json": [*compare, "--all", "--json"],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    # The first time fills caches, of files and of the server.
    for repetition in range(repetitions + 1):
        for name, command in commands.items():
            start = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            if repetition:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def _report(seconds: dict[str, list[float]]) -> None:
    imported = statistics.median(seconds["import mlflow"])
    print(f"{'':<32} median   min    max  beyond the import")
    for name, values in seconds.items():
        median = statistics.median(values)
        print(f"{name:<32} {median:6.2f} {min(values):6.2f} {max(values):6.2f}  {median - imported:+.2f}")


if __name__ == "__main__":
    main()
