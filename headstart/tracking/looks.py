"""Looks at a test split: the pipeline runs that it decided and the promotions that it was asked for.

Every look is a tag with the split's digest on the run that it belongs to, and looks are counted by searching for them.
No number is kept, so that looks which race are all there, and a step that is run again is the same look. What is chosen
by several looks at one test split flatters itself there (Dwork et al. 2015, "The reusable holdout").
"""

from typing import TYPE_CHECKING

from headstart.tracking.client import explained, search_all
from headstart.tracking.names import LOOK

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from headstart.tracking.runs import Run

# Experiments that one search is about.
_AT_ONCE = 100


@explained()
def record_look(client: "MlflowClient", run_id: str, digest: str) -> None:
    """Record on a run that the test split with this digest was looked at."""
    client.set_tag(run_id, LOOK, digest)


@explained()
def count_looks(client: "MlflowClient", digest: str) -> int:
    """Return how many looks at the test split are recorded, in all experiments; deleted runs have looked, too."""
    from mlflow.entities import ViewType

    ids = [each.experiment_id for each in search_all(client.search_experiments, view_type=ViewType.ALL)]
    looked = f"tags.`{LOOK}` = '{digest}'"
    return sum(
        len(list(search_all(client.search_runs, ids[start : start + _AT_ONCE], looked, run_view_type=ViewType.ALL)))
        for start in range(0, len(ids), _AT_ONCE)
    )


def look(run: "Run", digest: str) -> int:
    """Record that the pipeline run of a step has looked at the test split, and return how many looks there are. A
    pipeline run looks once, however often its step is attempted."""
    record_look(run.client, run.parent_id or run.id, digest)
    return count_looks(run.client, digest)


def seen_before(looks: int) -> str | None:
    """The sentence that says how often a test split has been looked at, from the second look on."""
    if looks < 2:
        return None
    return (
        f"This is look {looks} at these test items: what is chosen among several looks flatters itself on them. Judge "
        "the last one on new items."
    )
