"""The command line. It imports nothing heavy before it knows which command is wanted."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from headstart.errors import HeadstartError, InputError
from headstart.version import __version__

if TYPE_CHECKING:
    from headstart.models.bundle import ModelBundle

_WORKSPACE = Path(".headstart")
_UI_PORT = 5000
# MLflow's page for comparing runs becomes slow beyond that many.
_COMPARABLE = 100


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

    def model(command: argparse.ArgumentParser) -> None:
        command.add_argument(
            "model",
            metavar="MODEL_URI",
            help="models:/name@alias, models:/name/version, torchvision://model/weights, or a bundle's path or s3:// "
            "URI",
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

    command = add("promote", _promote, "make a version the champion of its model, if every gate lets it",
                  'headstart promote digits-target --reason "beats the old one on site B"')  # fmt: skip
    command.add_argument("model", metavar="MODEL", help="a registered model's name")
    command.add_argument("--version", metavar="V", help="the version to promote (default: the challenger)")
    command.add_argument("--policy", type=Path, metavar="FILE",
                         help="the gates, a YAML file (default: better than the champion, no loss against scratch, no "
                         "class much worse, nothing leaked, lineage whole)")  # fmt: skip
    command.add_argument("--data", type=_folder, metavar="DIR",
                         help="the packed data set to evaluate both on, where their stored predictions are about "
                         "different items and it is not where it was")  # fmt: skip
    command.add_argument("--reason", metavar="TEXT", help="why, for the record")
    command.add_argument("--force", action="store_true", help="promote also what a gate refuses; needs --reason")
    command.add_argument("--json", action="store_true", help="print JSON")
    workspace(command)

    command = add("rollback", _rollback, "make the champion before the present one champion again",
                  'headstart rollback digits-target --reason "misses the new scanner"')  # fmt: skip
    command.add_argument("model", metavar="MODEL", help="a registered model's name")
    command.add_argument("--reason", metavar="TEXT", help="why, for the record")
    command.add_argument("--json", action="store_true", help="print JSON")
    workspace(command)

    command = add("history", _history, "show who made which version the champion, when and why, newest first",
                  "headstart history digits-target")  # fmt: skip
    command.add_argument("model", metavar="MODEL", help="a registered model's name")
    command.add_argument("--json", action="store_true", help="print JSON")
    workspace(command)

    command = add("lineage", _lineage, "show what a model came from and what came from it",
                  "headstart lineage digits-target/1\n"
                  "  headstart lineage torchvision://vgg16/IMAGENET1K_V1 --champions")  # fmt: skip
    command.add_argument("model", metavar="MODEL[/VERSION]", help="a registered model, its champion or latest version "
                         "unless one is given, or the address of a source outside of the registry")  # fmt: skip
    command.add_argument("--champions", action="store_true", help="list the champions that descend from it")
    form = command.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--mermaid", action="store_true", help="print a Mermaid flowchart")
    workspace(command)

    command = add("predict", _predict, "predict the classes of files, folders, tables or objects in S3",
                  "headstart predict models:/digits-target@champion photos/ s3://scans/new/ -o new.csv")  # fmt: skip
    model(command)
    command.add_argument("paths", nargs="+", metavar="PATH",
                         help="image files, folders of them, s3://bucket/key or s3://bucket/prefix/, or a .csv or "
                         ".parquet table with a column path or, in Parquet, image (bytes)")  # fmt: skip
    command.add_argument("-o", "--output", metavar="FILE", help="write .csv, .json or .parquet, here or to s3://…")
    command.add_argument("--batch-size", type=_count, default=256, metavar="N",
                         help="how many images are in memory at a time (default 256)")  # fmt: skip
    command.add_argument("--json", action="store_true", help="print JSON")
    workspace(command)

    command = add("export", _export, "export a model with its preprocessing to ONNX",
                  "headstart export models:/digits-target@champion -o digits.onnx")  # fmt: skip
    model(command)
    command.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the .onnx file to write")
    workspace(command)

    command = add("ui", _ui, "open the MLflow page on the workspace's store", "headstart ui --port 5000")
    command.add_argument("--port", type=int, default=_UI_PORT, help=f"the port on this machine (default {_UI_PORT})")
    workspace(command)
    return parser


def _folder(text: str) -> Path:
    """A folder that exists or can be made."""
    path = Path(text)
    if path.exists() and not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a file; give a folder")
    return path


def _count(text: str) -> int:
    """A whole number above 0."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number above 0")
    return int(text)


def _connect(workspace: Path) -> Any:
    """The MLflow client of the workspace's store or of the server that the environment names."""
    from headstart.tracking.client import connect, reach
    from pipelines.store import store_file, tracking_uri

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
        labels="optional",
        labels_per_class=section.labels_per_class,
        seed=options.seed,
    )
    if options.json:
        print(json.dumps(packed.manifest, indent=2))
        return
    counts = ", ".join(f"{count} {name}" for name, count in packed.counts.items())
    print(f"{len(packed.classes) or 'no'} classes; {counts}; {packed.digest}")
    print(f"report: {packed.path / 'report.html'}")


def _run(options: argparse.Namespace) -> None:
    from components import IMAGE
    from headstart.config import load_recipe
    from headstart.tracking.client import reach, without_password
    from pipelines import display
    from pipelines.local import run
    from pipelines.resolve import resolve
    from pipelines.store import tracking_uri

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
        console.print(display.leaderboard_table(board.rows(), chosen=[entry.chosen for entry in board.entries]))
        console.print(display.verdict(board.sentence), highlight=False)
    lines = [("registered", "  ".join(outcome.registered))]
    if outcome.reused:
        lines.append(("reused", f"{len(outcome.reused)} unchanged steps: {', '.join(outcome.reused)}"))
    if outcome.report:
        lines.append(("report", str(_short(outcome.report))))
    lines.append(("log", str(_short(outcome.log))))
    page = without_password(uri) if _is_server(uri) else f"headstart ui --workspace {options.workspace}"
    lines.append(("MLflow page", page))
    display.show_facts(console, lines)


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
    from headstart.tracking import links
    from headstart.tracking.comparison import compare
    from pipelines import display

    found = compare(_connect(options.workspace), options.experiment, sort=options.sort, every_run=options.all)
    if options.json:
        print(json.dumps(found.rows, indent=2))
        return
    console = display.console()
    console.print(
        display.leaderboard_table(
            found.rows,
            chosen=[entry.chosen for entry in found.entries],
            pipeline_runs=[entry.pipeline_run for entry in found.entries] if options.all else (),
        )
    )
    console.print(display.verdict(found.sentence) if found.sentence and not options.all else "", highlight=False)
    run_ids = [entry.figures["run_id"] for entry in found.entries]
    pages = {}
    if not options.all:
        pages["charts"] = links.charts_page(found.experiment_id, found.entries[0].parent_id, found.metric)
    if len(run_ids) <= _COMPARABLE:
        pages["compare page"] = links.compare_page(found.experiment_id, run_ids)
    pages["all runs"] = links.runs_page(found.experiment_id)
    uri = os.environ["MLFLOW_TRACKING_URI"]
    if not _is_server(uri):
        console.print(
            f"While `headstart ui --workspace {options.workspace}` runs:", markup=False, soft_wrap=True, highlight=False
        )
    display.show_facts(console, [(label, links.address(_page(uri), page)) for label, page in pages.items()])


def _promote(options: argparse.Namespace) -> None:
    from dataclasses import asdict

    from headstart.tracking.policy import Policy, load_policy
    from headstart.tracking.promotion import promote
    from pipelines import display

    policy = load_policy(options.policy) if options.policy else Policy()
    outcome = promote(
        _connect(options.workspace),
        options.model,
        version=options.version,
        policy=policy,
        data=options.data,
        reason=options.reason,
        force=options.force,
    )
    model, change = outcome.model, outcome.change
    if options.json:
        record = {
            "model": model,
            "version": outcome.version,
            "previous": outcome.champion,
            "promoted": change is not None,
            "at": change.at if change else None,
            "by": change.by if change else None,
            "reason": change.reason if change else None,
            "forced": change.forced if change else False,
            "gates": [asdict(gate) for gate in outcome.gates],
            "run_id": change.run_id if change else None,
        }
        print(json.dumps(record, indent=2))
    elif outcome.gates:
        display.console().print(display.gates_table(outcome.gates))
        print()
    if outcome.refusals and not change:
        closed = ", ".join(gate.name for gate in outcome.refusals)
        stays = f"version {outcome.champion} stays" if outcome.champion else "there is no"
        raise HeadstartError(
            f"{model} version {outcome.version} was not promoted and {stays} champion: {closed} refused it. Mend that, "
            "change the policy, or override it for the record with --force --reason TEXT."
        )
    if options.json:
        return
    if change is None:
        print(f"{model} version {outcome.version} is the champion already.")
    else:
        before = f"version {change.previous}" if change.previous else "no version"
        forced = ", forced" if change.forced else ""
        print(f"{model}: version {change.version} is the champion now{forced}; before, {before} was.")


def _rollback(options: argparse.Namespace) -> None:
    from dataclasses import asdict

    from headstart.tracking.promotion import rollback

    change = rollback(_connect(options.workspace), options.model, reason=options.reason)
    if options.json:
        print(json.dumps({"model": options.model, **asdict(change)}, indent=2))
    else:
        before = f"version {change.previous}" if change.previous else "no version"
        print(f"{options.model}: version {change.version} is the champion again; before, {before} was.")


def _history(options: argparse.Namespace) -> None:
    from dataclasses import asdict

    from headstart.tracking.history import read_history
    from pipelines import display

    history = read_history(_connect(options.workspace), options.model)
    changes = [asdict(change) for change in reversed(history.changes)]
    if options.json:
        print(json.dumps(changes, indent=2))
    elif changes:
        display.console().print(display.history_table(changes))
    else:
        print(f"{options.model} never had a champion; `headstart promote {options.model}` makes its challenger one.")


def _lineage(options: argparse.Namespace) -> None:
    from headstart.tracking.lineage import champions, lineage, mermaid
    from pipelines import display

    uri = (
        options.model if "://" in options.model or options.model.startswith("models:/") else f"models:/{options.model}"
    )
    client = _connect(options.workspace)
    if options.champions:
        descendants = champions(client, uri)
        if options.json:
            print(json.dumps(descendants, indent=2))
        elif descendants:
            display.console().print(display.champions_table(descendants))
        else:
            print(f"No champion descends from {options.model}.")
        return
    family = lineage(client, uri)
    if options.json:
        print(json.dumps(family, indent=2))
    elif options.mermaid:
        print(mermaid(family))
    else:
        display.console().print(display.lineage_tree(family))


def _predict(options: argparse.Namespace) -> None:
    import pandas as pd

    from headstart.models.inputs import raw_samples
    from headstart.models.prediction import predict, table_format, to_json, write_table

    if options.output:
        table_format(options.output)
    bundle, _ = _load(options)
    samples = raw_samples(options.paths, bundle.modality)
    tables = []
    for table in predict(bundle, samples, batch_size=options.batch_size):
        tables.append(table)
        if options.output or options.json:
            continue
        for row in table.to_dict(orient="records"):
            outcome = f"-\t{row['error']}" if row["error"] else f"{row['label']}\t{row['probability']:.3f}"
            print(f"{row['path']}\t{outcome}")
    whole = pd.concat(tables, ignore_index=True)
    if options.output:
        write_table(whole, options.output)
    if options.json:
        print(to_json(whole))
    elif options.output:
        print(f"{len(whole)} files: {options.output}")
    refused = int((whole["error"] != "").sum())
    if refused:
        raise HeadstartError(f"{refused} of {len(whole)} files could not be read; see the column error.")


def _export(options: argparse.Namespace) -> None:
    from headstart.models.onnx import export

    if options.output.suffix != ".onnx":
        raise InputError(f"-o {options.output}: the file's name must end in .onnx.")
    bundle, digest = _load(options)
    difference = export(bundle, options.output, digest=digest)
    print(f"{options.output}: {len(bundle.classes)} classes, probabilities differ by {difference:.1g} at most")


def _load(options: argparse.Namespace) -> "tuple[ModelBundle, str]":
    """The bundle that MODEL_URI names, and its digest."""
    from headstart.models.reference import pin_of
    from headstart.models.sources import load_source, pin_source
    from headstart.tracking import registry

    if options.model.startswith("models:/"):
        _connect(options.workspace)
    reference = pin_source(options.model, resolve_registered=registry.resolve)
    return load_source(reference, fetch_registered=registry.fetch), pin_of(reference) or ""


def _ui(options: argparse.Namespace) -> None:
    from headstart.tracking import links
    from pipelines import display
    from pipelines.ui import serve

    client = _connect(options.workspace)
    uri = os.environ["MLFLOW_TRACKING_URI"]
    server = _page(uri, options.port)

    def show() -> None:
        experiments = client.search_experiments(order_by=["last_update_time DESC"], max_results=10)
        pages = [(each.name, links.runs_page(each.experiment_id)) for each in experiments if each.name != "Default"]
        pages.append(("registered models", links.models_page()))
        display.show_facts(display.console(), [(label, links.address(server, page)) for label, page in pages])
        sys.stdout.flush()

    if _is_server(uri):
        show()
        return
    print("starting the MLflow page …", flush=True)
    serve(uri, options.port, options.workspace / "logs" / "ui.log", show)


def _is_server(uri: str) -> bool:
    """Whether the record is kept by a server, which shows it, and not in a store of the workspace."""
    return uri.startswith(("http://", "https://"))


def _page(uri: str, port: int = _UI_PORT) -> str:
    """The address of MLflow's page on the record: the server's, or where `headstart ui` shows a store."""
    return uri if _is_server(uri) else f"http://127.0.0.1:{port}"


if __name__ == "__main__":
    main()
