"""The server that commands talk to, and what is compiled for it."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from headstart.errors import InputError
from headstart.terminal import printable
from headstart_pipelines.commands.arguments import group, option

if TYPE_CHECKING:
    from rich.console import Console

    from headstart.recipe.recipe import Recipe
    from headstart_pipelines.catalog import Job
    from headstart_pipelines.cluster.connection import Server
    from headstart_pipelines.cluster.submission import Package, Submission
    from headstart_pipelines.profile import Profile

SERVER = group(
    "server", "A token comes from a file or from HEADSTART_KFP_TOKEN, a session's cookie from HEADSTART_KFP_COOKIE.",
    option("--host", metavar="URL", help="Kubeflow Pipelines' address (default: HEADSTART_KFP_HOST)"),
    option("--namespace", metavar="NAME", help="the namespace of a server with several users (default: "
           "HEADSTART_KFP_NAMESPACE, or kfp's context)"),
    option("--token-file", type=Path, metavar="FILE", help="a token, read anew for each request (default: a "
           "pod's own)"),
    option("--ca", type=Path, metavar="FILE", help="the authority of the server's certificate (default: "
           "HEADSTART_KFP_CA)"),
    option("--timeout", type=float, default=30.0, metavar="S", help="how long an answer may take, in seconds (default "
           "30; to start a run, 150)"),
)  # fmt: skip


def connected(options: argparse.Namespace) -> "Server":
    from headstart_pipelines.cluster.connection import connect

    return connect(
        options.host,
        namespace=options.namespace,
        token_file=options.token_file,
        ca=options.ca,
        timeout=options.timeout,
    )


def profile_of(options: argparse.Namespace) -> "Profile":
    """InputError if none is named, or it is not usable."""
    from headstart_pipelines.profile import load_profile

    if options.profile is None:
        raise InputError(
            "Which profile? Name with --profile the file that says what the cluster gives each step; "
            "infra/profiles/cpu.yaml is one to start from."
        )
    return load_profile(options.profile)


def built(options: argparse.Namespace, *, live: bool = False) -> "tuple[Recipe, Package, Profile]":
    """The recipe, resolved and compiled for the cluster; all of it before anything is sent."""
    from headstart.recipe.recipe import load_recipe

    return compiled(load_recipe(options.recipe, options.set), options, live=live)


def compiled(recipe: "Recipe", options: argparse.Namespace, *, live: bool = False) -> "tuple[Recipe, Package, Profile]":
    """A recipe, resolved and compiled for the cluster that the options' profile describes."""
    from headstart_pipelines.cluster.submission import build_package
    from headstart_pipelines.resolve import resolve_for_cluster

    profile = profile_of(options)
    resolved = resolve_for_cluster(
        recipe,
        {volume.path for volume in profile.light.volumes},
        model_mounts={volume.path for volume in (profile.selection or profile.training).volumes},
        live=live,
    )
    package = build_package(
        resolved.recipe.pipeline,
        image=options.image,
        profile=profile,
        unfingerprinted=resolved.unknown,
        allow_tag=options.allow_tag,
    )
    return resolved.recipe, package, profile


def started(
    server: "Server", job: "Job", package: "Package", profile: "Profile", options: argparse.Namespace
) -> "Submission":
    """Start a run, and print where it is to be seen, or with --json the submission."""
    from headstart_pipelines import display

    submission = submitted(server, job, package, profile, display.console(stderr=options.json))
    if options.json:
        print(json.dumps(asdict(submission), indent=2), flush=True)
    return submission


def submitted(server: "Server", job: "Job", package: "Package", profile: "Profile", console: "Console") -> "Submission":
    """Start a run, and show where it is to be seen."""
    from headstart_pipelines import display
    from headstart_pipelines.cluster.releases import difference
    from headstart_pipelines.cluster.size import warning
    from headstart_pipelines.cluster.submission import submit

    if other := difference(server.release):
        console.print(printable(other), markup=False, highlight=False, soft_wrap=True)
    console.print(f"[bold]{job.experiment}[/]  pipeline {job.pipeline}", highlight=False)
    if said := warning(package.text, job.parameters):
        console.print(said, markup=False, highlight=False, soft_wrap=True)
    submission = submit(server, job, package, profile)
    facts = [
        ("pipeline", f"{submission.version} ({'uploaded' if submission.uploaded else 'there already'})"),
        ("run", f"{submission.run}  {submission.run_id}"),
        ("KFP page", submission.page),
    ]
    if submission.mlflow_page:
        facts.append(("MLflow page", submission.mlflow_page))
    display.show_facts(console, facts)
    if submission.mlflow_problem:
        console.print(f"MLflow's plugin: {submission.mlflow_problem}", markup=False, highlight=False, soft_wrap=True)
    return submission
