"""`headstart compile`: a pipeline as a file for Kubeflow Pipelines."""

import argparse
from pathlib import Path

from headstart.errors import InputError
from headstart.terminal import waiting
from headstart.version import __version__
from headstart_pipelines.commands.arguments import Command, option, placement


def _compile(options: argparse.Namespace) -> None:
    if options.output.suffix not in (".yaml", ".yml", ".json"):
        raise InputError(f"-o {options.output}: the file's name must end in .yaml, .yml or .json.")
    if not options.output.parent.is_dir():
        raise InputError(f"-o {options.output}: the folder {options.output.parent} does not exist; make it first.")
    with waiting(f"compiling {options.pipeline}"):
        from headstart_pipelines.catalog import compile_pipeline
        from headstart_pipelines.placement import Placement
        from headstart_pipelines.profile import load_profile

        profile = load_profile(options.profile) if options.profile else None
        compile_pipeline(
            options.pipeline,
            options.output,
            Placement(image=options.image, profile=profile),
            allow_tag=options.allow_tag,
        )
    print(options.output)


COMMANDS = (
    Command(
        "compile",
        _compile,
        "compile a pipeline for Kubeflow Pipelines",
        "headstart compile transfer -o transfer.yaml --profile infra/profiles/single-gpu.yaml --image NAME@sha256:…",
        (
            option("pipeline", choices=("pretrain", "finetune", "transfer", "monitor", "survey", "trial"),
                   metavar="PIPELINE", help="pretrain, finetune, transfer or monitor; survey and trial are those of a "
                   "search on a cluster"),
            option("-o", "--output", type=Path, required=True, metavar="FILE", help="the YAML file to write"),
            *placement(default=f"the profile's, and without one headstart:{__version__}"),
        ),
    ),
)  # fmt: skip
