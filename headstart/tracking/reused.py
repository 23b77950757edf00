"""Steps that a pipeline run reused, in its note in MLflow."""

from collections.abc import Mapping, Sequence

from headstart.tracking.client import explained
from headstart.tracking.mlflow_pages import run_page
from headstart.tracking.names import NOTE, REUSED_STEPS
from headstart.tracking.runs import Run


@explained()
def note_reused_steps(parent: Run, steps: Mapping[str, Sequence[str]]) -> None:
    """Write which steps of a pipeline run were reused, with links to the runs that did the work, by step."""
    links = (
        " ".join([name, *(f"[↗]({run_page(parent.experiment_id, run)})" for run in runs)])
        for name, runs in steps.items()
    )
    before = parent.client.get_run(parent.id).data.tags.get(NOTE, "")
    paragraphs = [before, f"Reused, with the run that did the work: {' · '.join(links)}"]
    parent.set_tags({REUSED_STEPS: ", ".join(steps), NOTE: "\n\n".join(filter(None, paragraphs))})
