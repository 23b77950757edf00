"""`headstart` with a local runner that hands an artifact's metadata on as Kubeflow's backend does."""

import functools

from headstart_pipelines import cli
from tests.pipelines.cluster.backend import kept


def main() -> None:
    """The command line."""
    from headstart_pipelines.runner import graph

    graph.metadata_of = functools.partial(kept, "a step")
    cli.main()


if __name__ == "__main__":
    main()
