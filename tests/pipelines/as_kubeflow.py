"""`headstart` with a kfp.local that hands an artifact's metadata on as Kubeflow's backend does."""

from typing import Any

from headstart_pipelines import cli
from tests.pipelines.cluster.backend import kept


def main() -> None:
    """The command line."""
    from kfp.local import executor_output_utils

    read = executor_output_utils.runtime_artifact_to_dsl_artifact

    def as_kubeflow_hands_it_on(artifact: Any) -> Any:
        found = read(artifact)
        found.metadata = kept("a step", found.name, found.metadata)
        return found

    executor_output_utils.runtime_artifact_to_dsl_artifact = as_kubeflow_hands_it_on
    cli.main()


if __name__ == "__main__":
    main()
