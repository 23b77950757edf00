"""What the commands of infra/README.md promise, and which of them are left out where."""

import re
from dataclasses import dataclass
from typing import Literal

# What may be on a cluster already, and is then neither installed nor taken away: step → how it is found.
INSTALLED = {
    "Kubeflow Pipelines": "kubectl -n kubeflow get deployment ml-pipeline",
    "Kueue": "kubectl -n kueue-system get deployment kueue-controller-manager",
}
# Left out where the nodes get the images from a registry.
IMAGES = "The images"
# They come last, whatever happened before.
TAKING_AWAY = ("Take it away", "Take away what steps 1 and 2 installed")


@dataclass(frozen=True)
class Promise:
    """What comes of a command of a step: what it prints, and its exit status. A command without a promise ends with 0.

    `image` limits a promise to images that are named by their digest, or by a tag.
    """

    step: str
    command: str
    says: str = ""
    status: int = 0
    image: Literal["digest", "tag"] | None = None

    def is_of(self, step: str, command: str, image: str) -> bool:
        """Whether the command makes this promise with that image."""
        kind = "digest" if "@sha256:" in image else "tag"
        return step == self.step and self.image in (None, kind) and command.startswith(self.command)


_FOLLOW, _LOG = 'headstart runs "$RUN" --wait', 'headstart logs "$RUN" pretrain'
_SUCCEEDED = r"run succeeded"
_GOES_ON = r"goes on from its checkpoint|done before"

PROMISES = (
    Promise("The run", "headstart submit", _SUCCEEDED),
    Promise("What came of it", "headstart compare", r"full-l2sp"),
    Promise("What came of it", "headstart lineage", r"digits-source"),
    Promise("The same once more", _FOLLOW, r"pretrain +reused(.|\n)*run succeeded", image="digest"),
    Promise("The same once more", _FOLLOW, _SUCCEEDED, image="tag"),
    Promise("The same once more", _LOG, r"reused", status=1, image="digest"),
    Promise("The same once more", _LOG, r"done before", image="tag"),
    Promise("On two nodes", _FOLLOW, _SUCCEEDED),
    Promise("On two nodes", _LOG, r"TrainJob headstart-\w+ started on 2 nodes"),
    Promise("A process that dies", _FOLLOW, _SUCCEEDED),
    Promise("A process that dies", _LOG, _GOES_ON),
    Promise("A pod that is lost", _FOLLOW, _SUCCEEDED),
    Promise("A pod that is lost", _LOG, _GOES_ON),
    Promise("A failure for good", _FOLLOW, r"failed in 'pretrain'", status=1),
    Promise("A failure for good", "headstart retry", _SUCCEEDED),
    Promise("A failure for good", _LOG, _GOES_ON),
    Promise("A run that nobody wants", _FOLLOW, r"stopped|terminated|canceled", status=1),
    Promise("By the clock", "headstart schedule --list", r"minutely"),
    Promise("By the clock", _FOLLOW, _SUCCEEDED),
)


def promise_of(step: str, command: str, image: str) -> Promise:
    """The promise of a command."""
    made = [promise for promise in PROMISES if promise.is_of(step, command, image)]
    return made[0] if made else Promise(step, command)


def broken(promise: Promise, status: int | None, output: str) -> str | None:
    """What of the promise is not so; None if it is kept."""
    if status is None:
        return "it has not ended in time"
    if status != promise.status:
        return f"it ended with {status} instead of {promise.status}"
    if not re.search(promise.says, output):
        return f"it does not say {promise.says!r}"
    return None
