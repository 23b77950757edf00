"""A recipe on a Kubeflow Pipelines server: connection, submission, and what is done with runs there."""
