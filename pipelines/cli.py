"""The command line. It imports nothing heavy before it knows which command is wanted."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from headstart.errors import HeadstartError, InputError
from headstart.version import __version__

_WORKSPACE = Path(".headstart")


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs one command and exits: 0 done, 1 the work failed, 2 the input is not usable."""
    try:
        code = _answer(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of a pipe, head for instance, had enough; that is no failure of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code)


def _answer(arguments: Sequence[str] | None) -> int:
    """Runs one command; its exit code."""
    try:
        options = _parser().parse_args(arguments)
    except SystemExit as ended:
        # After --help, --version or wrong usage.
        return int(ended.code or 0)
    try:
        options.command(options)
    except HeadstartError as error:
        if options.debug:
            raise
        print(f"headstart: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("headstart: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        raise
    except Exception as error:
        if options.debug:
            raise
        print(f"headstart: {type(error).__name__}: {error}; --debug shows where.", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="headstart",
        description="Transfer a model from one domain to another, and prove that it helped.",
        epilog="Begin with: headstart check RECIPE, then headstart run RECIPE. "
        "Each command explains itself: headstart run --help",
    )
    parser.add_argument("--version", action="version", version=f"headstart {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(name: str, function: Any, summary: str, example: str) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.set_defaults(command=function)
        command.add_argument("--debug", action="store_true", help="show the traceback of an error")
        return command

    def workspace(command: argparse.ArgumentParser) -> None:
        command.add_argument(
            "--workspace",
            type=_folder,
            default=_WORKSPACE,
            metavar="DIR",
            help="where runs keep artifacts, cache, logs and, unless MLFLOW_TRACKING_URI is set, the MLflow store "
            f"(default {_WORKSPACE})",
        )

    def recipe(command: argparse.ArgumentParser) -> None:
        command.add_argument("recipe", type=Path, metavar="RECIPE", help="the experiment's YAML file")
        command.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            help="override a key of the recipe, for example target.data.labels_per_class=10; may be repeated",
        )

    command = add("check", _check, "validate a recipe and reach its data, sources and MLflow, without training",
                  "headstart check pipelines/recipes/digits.yaml")  # fmt: skip
    recipe(command)
    workspace(command)

    command = add("prepare", _prepare, "verify, split, pack and report one data set",
                  "headstart prepare photos/ -o packed/ --size 224")  # fmt: skip
    command.add_argument("data", metavar="DATA_URI", help="a folder of images, one folder a class")
    command.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="the packed data set")
    command.add_argument("--size", type=int, default=224, help="side of the stored samples in pixels (default 224)")
    command.add_argument("--labels-per-class", type=int, metavar="K", help="keep K training samples of each class")
    command.add_argument("--seed", type=int, default=0, help="decides the splits (default 0)")
    command.add_argument("--json", action="store_true", help="print the manifest as JSON")

    command = add("run", _run, "run a recipe on this machine", "headstart run pipelines/recipes/digits.yaml")
    recipe(command)
    workspace(command)
    command.add_argument(
        "--runner",
        choices=("subprocess", "docker"),
        default="subprocess",
        help="steps are processes, or containers as on a cluster (default subprocess)",
    )
    command.add_argument(
        "--image", metavar="NAME", help=f"the image of --runner docker (default headstart:{__version__})"
    )
    command.add_argument("--verbose", action="store_true", help="stream the steps' logs")

    command = add("compile", _compile, "compile a pipeline for Kubeflow Pipelines",
                  "headstart compile transfer -o transfer.yaml")  # fmt: skip
    command.add_argument("pipeline", choices=("pretrain", "finetune", "transfer"), metavar="PIPELINE",
                         help="pretrain, finetune or transfer")  # fmt: skip
    command.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the YAML file to write")
    command.add_argument("--image", help=f"the image of every step (default headstart:{__version__})")

    command = add("compare", _compare, "show the leaderboard of an experiment", "headstart compare digits")
    command.add_argument("experiment", metavar="EXPERIMENT", help="a recipe's name")
    command.add_argument("--sort", metavar="KEY", help="sort by this column (default: the experiment's metric)")
    command.add_argument("--all", action="store_true", help="every pipeline run, not only the latest")
    command.add_argument("--json", action="store_true", help="print JSON")
    workspace(command)

    command = add("promote", _promote, "make a version the champion of its model",
                  'headstart promote digits-target --reason "beats the old one on site B"')  # fmt: skip
    command.add_argument("model", metavar="MODEL", help="a registered model's name")
    command.add_argument("--version", metavar="V", help="the version to promote (default: the challenger)")
    command.add_argument("--reason", metavar="TEXT", help="why, for the record")
    command.add_argument("--json", action="store_true", help="print JSON")
    workspace(command)

    command = add("lineage", _lineage, "show what a model came from and what came from it",
                  "headstart lineage digits-target/1")  # fmt: skip
    command.add_argument("model", metavar="MODEL[/VERSION]", help="a registered model, its champion or latest version "
                         "unless one is given")  # fmt: skip
    command.add_argument("--json", action="store_true", help="print JSON")
    workspace(command)

    command = add("predict", _predict, "predict the classes of files or of all files in folders",
                  "headstart predict models:/digits-target@challenger photos/ -o predictions.csv")  # fmt: skip
    command.add_argument("model", metavar="MODEL_URI", help="models:/name@alias, models:/name/version or a bundle")
    command.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="image files or folders of them")
    command.add_argument("-o", "--output", type=Path, metavar="FILE", help="write .csv, .json or .parquet")
    workspace(command)

    command = add("ui", _ui, "open the MLflow page on the workspace's store", "headstart ui --port 5000")
    command.add_argument("--port", type=int, default=5000, help="the port on this machine (default 5000)")
    workspace(command)
    return parser


def _folder(text: str) -> Path:
    """A folder that exists or can be made."""
    path = Path(text)
    if path.exists() and not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a file; give a folder")
    return path


def _connect(workspace: Path) -> Any:
    """The MLflow client of the workspace's store or of the server that the environment names."""
    from headstart.tracking.client import connect, reach
    from pipelines.local import store_file, tracking_uri

    uri = tracking_uri(workspace)
    reach(uri)
    database = store_file(uri)
    if database and not database.exists():
        raise InputError(
            f"There is no record in the workspace {workspace}; run a recipe first, or name the workspace of an earlier "
            "run with --workspace."
        )
    os.environ["MLFLOW_TRACKING_URI"] = uri
    return connect()


def _check(options: argparse.Namespace) -> None:
    from headstart.config import load_recipe
    from pipelines.check import check

    for line in check(load_recipe(options.recipe, options.set), options.workspace):
        print(line)


def _prepare(options: argparse.Namespace) -> None:
    from headstart.config import Data
    from headstart.data.prepare import prepare

    section = Data.of({"uri": options.data, "size": options.size, "labels_per_class": options.labels_per_class})
    packed = prepare(
        section.uri,
        options.output,
        size=options.size,
        split=section.split.model_dump(),
        labels_per_class=section.labels_per_class,
        seed=options.seed,
    )
    if options.json:
        print(json.dumps(packed.manifest, indent=2))
        return
    counts = ", ".join(f"{count} {name}" for name, count in packed.counts.items())
    print(f"{len(packed.classes)} classes; {counts}; {packed.digest}")
    print(f"report: {packed.path / 'report.html'}")


def _run(options: argparse.Namespace) -> None:
    from components import IMAGE
    from headstart.config import load_recipe
    from headstart.tracking.client import reach
    from pipelines import display
    from pipelines.local import run, tracking_uri
    from pipelines.resolve import resolve

    if options.image and options.runner != "docker":
        raise InputError(
            f"--image {options.image} has a meaning with --runner docker only; add that, or remove --image."
        )
    image = (options.image or IMAGE) if options.runner == "docker" else None
    recipe = load_recipe(options.recipe, options.set)
    os.environ["MLFLOW_TRACKING_URI"] = uri = tracking_uri(options.workspace.absolute())
    reach(uri)
    options.workspace.mkdir(parents=True, exist_ok=True)
    console = display.console()
    console.print(
        f"[bold]{recipe.name}[/]  pipeline {recipe.pipeline}"
        + (f", {len(recipe.strategies)} strategies, {len(recipe.baselines)} baselines" if recipe.target else ""),
        highlight=False,
    )
    outcome = run(
        resolve(recipe),
        options.workspace,
        display.Steps(console, verbose=options.verbose),
        image=image,
    )
    console.print()
    if outcome.leaderboard:
        board = outcome.leaderboard
        console.print(display.leaderboard_table(board.rows(), chosen=board.chosen.strategy))
        console.print(f"\n[bold]{board.sentence}[/]\n", highlight=False)
    lines = [("registered", "  ".join(outcome.registered))]
    if outcome.reused:
        lines.append(("reused", f"{len(outcome.reused)} unchanged steps: {', '.join(outcome.reused)}"))
    if outcome.report:
        lines.append(("report", str(_short(outcome.report))))
    lines.append(("log", str(_short(outcome.log))))
    lines.append(("MLflow page", f"headstart ui --workspace {options.workspace}"))
    for label, text in lines:
        console.print(f"{label:<12} {text}", highlight=False, soft_wrap=True, markup=False)


def _short(path: Path) -> Path:
    """`path` relative to the working directory where it is below it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _compile(options: argparse.Namespace) -> None:
    from pipelines.catalog import compile_pipeline
    from pipelines.placement import Placement

    if options.output.suffix not in (".yaml", ".yml", ".json"):
        raise InputError(f"-o {options.output}: the file's name must end in .yaml, .yml or .json.")
    if not options.output.parent.is_dir():
        raise InputError(f"-o {options.output}: the folder {options.output.parent} does not exist; make it first.")
    compile_pipeline(options.pipeline, options.output, Placement(image=options.image))
    print(options.output)


def _compare(options: argparse.Namespace) -> None:
    from headstart.tracking.comparison import compare
    from pipelines import display

    rows = compare(_connect(options.workspace), options.experiment, sort=options.sort, every_run=options.all)
    if options.json:
        print(json.dumps(rows, indent=2))
    else:
        display.console().print(display.leaderboard_table(rows))


def _promote(options: argparse.Namespace) -> None:
    from dataclasses import asdict

    from headstart.tracking.promotion import promote

    change = promote(_connect(options.workspace), options.model, version=options.version, reason=options.reason)
    if options.json:
        print(json.dumps(asdict(change), indent=2))
    elif change.previous == change.version:
        print(f"{change.model} version {change.version} is the champion already.")
    else:
        before = f"version {change.previous}" if change.previous else "no version"
        print(f"{change.model}: version {change.version} is the champion now; before, {before} was.")


def _lineage(options: argparse.Namespace) -> None:
    from headstart.tracking.lineage import lineage
    from pipelines import display

    family = lineage(_connect(options.workspace), f"models:/{options.model.removeprefix('models:/')}")
    if options.json:
        print(json.dumps(family, indent=2))
    else:
        display.console().print(display.lineage_tree(family))


def _predict(options: argparse.Namespace) -> None:
    from headstart.models.prediction import predict_files, write_table
    from headstart.models.sources import load_source
    from headstart.tracking import registry

    if options.model.startswith("models:/"):
        _connect(options.workspace)
    bundle = load_source(options.model, fetch_registered=registry.fetch)
    table = predict_files(bundle, options.paths)
    if options.output:
        write_table(table, options.output)
        print(f"{len(table)} files: {options.output}")
    else:
        for row in table.to_dict(orient="records"):
            outcome = f"-\t{row['error']}" if row["error"] else f"{row['label']}\t{row['probability']:.3f}"
            print(f"{row['path']}\t{outcome}")
    refused = int((table["error"] != "").sum())
    if refused:
        raise HeadstartError(f"{refused} of {len(table)} files could not be read; see the column error.")


def _ui(options: argparse.Namespace) -> None:
    from pipelines.local import store_file
    from pipelines.ui import serve

    client = _connect(options.workspace)
    uri = os.environ["MLFLOW_TRACKING_URI"]
    local = store_file(uri)
    page = f"http://127.0.0.1:{options.port}" if local else uri.rstrip("/")

    def show() -> None:
        for experiment in client.search_experiments(order_by=["last_update_time DESC"], max_results=10):
            if experiment.name != "Default":
                # Without the workflow in its address, MLflow's page opens on agents and their traces.
                runs = f"{page}/#/experiments/{experiment.experiment_id}/runs?workflowType=machine_learning"
                print(f"{experiment.name:<20} {runs}")
        print(f"{'registered models':<20} {page}/#/models", flush=True)

    if not local:
        show()
        return
    print("starting the MLflow page …", flush=True)
    serve(uri, options.port, options.workspace / "logs" / "ui.log", show)


if __name__ == "__main__":
    main()
