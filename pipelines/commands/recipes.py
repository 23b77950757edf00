"""The commands that carry a recipe out on this machine, or write down what carries it out elsewhere."""

import argparse
import json
from pathlib import Path

from headstart.errors import InputError
from headstart.version import __version__
from headstart_pipelines import rank
from headstart_pipelines.commands.arguments import Commands, placement, recipe, workspace
from headstart_pipelines.commands.tracking import is_server

# The options of `prepare` that are keys of a recipe's data section, and are checked as those are.
_OF_DATA = ("size", "labels_per_class", "duplicates", "max_refused", "max_refused_per_class", "store")


def add(commands: Commands) -> None:
    """Adds them."""
    command = commands.add(
        "check",
        _check,
        "validate a recipe and reach its data, sources and MLflow, without training; without one, the installation",
        "headstart check pipelines/recipes/digits.yaml",
    )
    recipe(command, nargs="?")
    workspace(command)

    command = commands.add(
        "prepare",
        _prepare,
        "verify, split, pack and report one data set",
        "headstart prepare photos/ -o packed/ --size 224 --duplicates drop --max-refused 0.05 --store jpeg",
    )
    command.add_argument("data", metavar="DATA_URI", help="a folder of images, one folder a class")
    command.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="the packed data set")
    command.add_argument("--modality", default="image", help="what the samples are (default image)")
    command.add_argument("--size", type=int, default=224, help="side of the stored samples in pixels (default 224)")
    command.add_argument("--labels-per-class", type=int, metavar="K", help="keep K training samples of each class")
    command.add_argument(
        "--duplicates",
        metavar="report|drop|fail",
        help="keep copies and what looks the same within a split and report them, keep one of each, or end (default "
        "report)",
    )
    command.add_argument(
        "--max-refused",
        type=float,
        metavar="SHARE",
        help="end if more of all files cannot be read, and more than 10 (default 0.01)",
    )
    command.add_argument(
        "--max-refused-per-class",
        type=float,
        metavar="SHARE",
        help="end if more of a class's files cannot be read, and more than 5 (default 0.05)",
    )
    command.add_argument(
        "--store",
        metavar="auto|raw|jpeg",
        help="keep samples as pixels, which read fastest, or as JPEG, a fifth of the bytes of photographs and a little "
        "different (default auto: raw up to 16 GiB)",
    )
    command.add_argument("--seed", type=int, default=0, help="decides the splits (default 0)")
    command.add_argument("--json", action="store_true", help="print the manifest as JSON")

    command = commands.add(
        "rank",
        rank.rank,
        "rank models by how well a data set would start from them",
        "headstart rank --data photos/ --candidates torchvision://resnet18/IMAGENET1K_V1 'models:/*-source'",
    )
    rank.add_arguments(command)
    workspace(command)

    command = commands.add("run", _run, "run a recipe on this machine", "headstart run pipelines/recipes/digits.yaml")
    recipe(command)
    workspace(command)
    command.add_argument(
        "--runner",
        choices=("subprocess", "docker"),
        default="subprocess",
        help="steps are processes, or containers as on a cluster, on the Docker network that HEADSTART_DOCKER_NETWORK "
        "names (default subprocess)",
    )
    command.add_argument(
        "--image", metavar="NAME", help=f"the image of --runner docker (default headstart:{__version__})"
    )
    command.add_argument("--verbose", action="store_true", help="stream the steps' logs")

    command = commands.add(
        "compile",
        _compile,
        "compile a pipeline for Kubeflow Pipelines",
        "headstart compile transfer -o transfer.yaml --profile infra/profiles/single-gpu.yaml --image NAME@sha256:…",
    )
    command.add_argument("pipeline", choices=("pretrain", "finetune", "transfer"), metavar="PIPELINE",
                         help="pretrain, finetune or transfer")  # fmt: skip
    command.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the YAML file to write")
    placement(command, default=f"the profile's, and without one headstart:{__version__}")


def _check(options: argparse.Namespace) -> None:
    from headstart.recipe.recipe import load_recipe

    if options.set and not options.recipe:
        raise InputError("--set changes a recipe; name its file, or remove --set.")
    # Before what takes seconds to import: it may be all that there is to say.
    recipe = load_recipe(options.recipe, options.set) if options.recipe else None
    from headstart_pipelines.check import check
    from headstart_pipelines.health import health

    for line in check(recipe, options.workspace) if recipe else health():
        print(line)


def _prepare(options: argparse.Namespace) -> None:
    from headstart.data.prepare import prepare
    from headstart.data.section import Data

    given = {key: value for key in _OF_DATA if (value := getattr(options, key)) is not None}
    section = Data.of({"uri": options.data, **given})
    packed = prepare(section, options.output, modality=options.modality, labels="optional", seed=options.seed)
    if options.json:
        print(json.dumps(packed.manifest, indent=2))
        return
    counts = ", ".join(f"{count} {name}" for name, count in packed.counts.items())
    print(f"{len(packed.classes) or 'no'} classes; {counts}; {packed.digest}")
    print(f"report: {packed.path / 'report.html'}")


def _run(options: argparse.Namespace) -> None:
    from headstart.recipe.recipe import load_recipe

    # Before what takes seconds to import: it may be all that there is to say.
    recipe = load_recipe(options.recipe, options.set)
    from headstart.credentials import without_password
    from headstart_components import IMAGE
    from headstart_pipelines import display
    from headstart_pipelines.local import run
    from headstart_pipelines.resolve import resolve
    from headstart_pipelines.store import open_record

    if options.image and options.runner != "docker":
        raise InputError(
            f"--image {options.image} has a meaning with --runner docker only; add that, or remove --image."
        )
    image = (options.image or IMAGE) if options.runner == "docker" else None
    uri = open_record(options.workspace.absolute(), writing=True)
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
    page = without_password(uri) if is_server(uri) else f"headstart ui --workspace {options.workspace}"
    lines.append(("MLflow page", page))
    display.show_facts(console, lines)


def _short(path: Path) -> Path:
    """`path` relative to the working directory where it is below it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _compile(options: argparse.Namespace) -> None:
    from headstart_pipelines.catalog import compile_pipeline
    from headstart_pipelines.placement import Placement
    from headstart_pipelines.profile import load_profile

    if options.output.suffix not in (".yaml", ".yml", ".json"):
        raise InputError(f"-o {options.output}: the file's name must end in .yaml, .yml or .json.")
    if not options.output.parent.is_dir():
        raise InputError(f"-o {options.output}: the folder {options.output.parent} does not exist; make it first.")
    profile = load_profile(options.profile) if options.profile else None
    compile_pipeline(
        options.pipeline, options.output, Placement(image=options.image, profile=profile), allow_tag=options.allow_tag
    )
    print(options.output)
