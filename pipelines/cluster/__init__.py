"""Kubeflow Pipelines client: connection, submission, runs, schedules, logs and their display."""
