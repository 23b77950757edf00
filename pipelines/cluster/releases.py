"""Releases that headstart was tested with on a cluster, named only here."""

KUBERNETES = "1.35.4"
KUBEFLOW_PIPELINES = "2.17.0"
KUEUE = "0.19.2"
TRAINER = "2.3.0"


def difference(release: str | None) -> str | None:
    """Return a sentence if a Kubeflow Pipelines server has another release; None for the tested or an unknown one."""
    if release in (None, KUBEFLOW_PIPELINES):
        return None
    return f"This server is Kubeflow Pipelines {release}; headstart was tested with {KUBEFLOW_PIPELINES}."
