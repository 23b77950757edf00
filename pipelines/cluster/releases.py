"""The releases that headstart was tested with on a cluster: the one place that names them."""

KUBERNETES = "1.35.4"
KUBEFLOW_PIPELINES = "2.17.0"
KUEUE = "0.19.2"
TRAINER = "2.3.0"


def difference(release: str | None) -> str | None:
    """A sentence for a Kubeflow Pipelines server of another release; None for the tested one or one that tells none."""
    if release in (None, KUBEFLOW_PIPELINES):
        return None
    return f"This server is Kubeflow Pipelines {release}; headstart was tested with {KUBEFLOW_PIPELINES}."
