"""The server that commands talk to, and what is compiled for it."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from headstart.errors import InputError
from headstart_pipelines.commands.arguments import group, option

if TYPE_CHECKING:
    from headstart.recipe.recipe import Recipe
    from headstart_pipelines.cluster.connection import Server
    from headstart_pipelines.cluster.submission import Package
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


def built(options: argparse.Namespace, *, live: bool = False) -> "tuple[Recipe, Package, Profile]":
    """The recipe, resolved and compiled for the cluster; all of it before anything is sent."""
    from headstart.recipe.recipe import load_recipe
    from headstart_pipelines.cluster.submission import build_package
    from headstart_pipelines.profile import load_profile
    from headstart_pipelines.resolve import resolve_for_cluster

    loaded = load_recipe(options.recipe, options.set)
    if options.profile is None:
        raise InputError(
            "Which profile? Name with --profile the file that says what the cluster gives each step; "
            "infra/profiles/cpu.yaml is one to start from."
        )
    profile = load_profile(options.profile)
    resolved = resolve_for_cluster(
        loaded,
        {volume.path for volume in profile.light.volumes},
        model_mounts={volume.path for volume in (profile.selection or profile.training).volumes},
        live=live,
    )
    package = build_package(
        resolved.recipe,
        image=options.image,
        profile=profile,
        unfingerprinted=resolved.unknown,
        allow_tag=options.allow_tag,
    )
    return resolved.recipe, package, profile
