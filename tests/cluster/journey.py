"""The way through infra/README.md on a cluster, command by command, and back."""

import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster.promises import IMAGES, INSTALLED, TAKING_AWAY, broken, promise_of
from tests.cluster.readme import Step
from tests.cluster.shell import Shell

ROOT = Path(__file__).parents[2]
# What a command may take: those that follow a run have the time of a run on two busy cores.
SECONDS = 7200.0
# What stands for the image in the README's commands.
OWN_IMAGE = "IMAGE=headstart:0.1.0"
_APPLIED = re.compile(r"^kubectl (?:apply|delete) .*-[kf] (\S+)")


class NotKept(Exception):  # noqa: N818
    """A command did not do what it promises."""


class NotPossible(Exception):  # noqa: N818
    """The journey must not be begun on this cluster."""


def copy_project(folder: Path, images: Mapping[str, str]) -> None:
    """Copies what git knows of the project, so that passwords, data and the images' names are the journey's own.

    Args:
        images: variables of infra/versions/images.env and the values that they get.
    """
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S607
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    file = folder / "infra" / "versions" / "images.env"
    text = file.read_text()
    for variable, image in images.items():
        text, found = re.subn(rf"^{variable}=.*$", f"{variable}={image}", text, flags=re.MULTILINE)
        assert found == 1, variable
    file.write_text(text)


@dataclass
class Journey:
    """One journey. `image` is that of a registry; None for one that is built here and brought to kind's nodes."""

    opened: Callable[[], Shell]
    image: str | None
    say: Callable[[str], None]
    applied: list[str] = field(default_factory=list)

    def travel(self, steps: Sequence[Step]) -> None:
        """Goes all steps, and takes away what they applied, whatever happens.

        Raises:
            NotPossible: the cluster has a namespace `headstart`, which taking away would take from somebody.
            NotKept: commands do not do what they promise.
        """
        wrong: list[str] = []
        try:
            with self.opened() as shell:
                if shell.run("kubectl get namespace headstart", 60).status == 0:
                    raise NotPossible(
                        "This cluster has a namespace headstart already, and the test takes away all that is in it: "
                        "use another cluster, or take it away yourself (kubectl delete -k infra/overlays/local)."
                    )
                wrong += self._there(shell, [step for step in steps if step.title not in TAKING_AWAY])
        finally:
            # A shell of its own: a command that has not ended holds the other, whose port-forwards end with it.
            with self.opened() as shell:
                wrong += self._back(shell, [step for step in steps if step.title in TAKING_AWAY])
        if wrong:
            raise NotKept("\n".join(wrong))

    def _there(self, shell: Shell, steps: Sequence[Step]) -> list[str]:
        """Goes the steps up to the first promise that is not kept; what is wrong with it."""
        for step in steps:
            if step.title == IMAGES and self.image:
                self.say(f"{step.number}. {step.title}: left out, the nodes pull {self.image}")
            elif step.title in INSTALLED and shell.run(INSTALLED[step.title], 60).status == 0:
                self.say(f"{step.number}. {step.title}: left out, it is there")
            else:
                self.say(f"{step.number}. {step.title}")
                for command in step.commands:
                    given = f"IMAGE={self.image}" if self.image and command == OWN_IMAGE else command
                    # What failed half-way is taken away too.
                    if given.startswith("kubectl apply") and (found := _APPLIED.match(given)):
                        self.applied.append(found[1])
                    if wrong := self._do(shell, step, given):
                        shell.run("kubectl get pods --all-namespaces; kubectl -n kubeflow get events | tail -n 40", 60)
                        return [wrong]
        return []

    def _back(self, shell: Shell, steps: Sequence[Step]) -> list[str]:
        """Deletes what was applied on the way, and nothing else; what is wrong."""
        wrong = []
        for step in steps:
            applied = [c for c in step.commands if (found := _APPLIED.match(c)) and found[1] in self.applied]
            self.say(f"{step.number}. {step.title}{'' if applied else ': nothing was applied'}")
            wrong += [found for command in applied if (found := self._do(shell, step, command))]
        return wrong

    def _do(self, shell: Shell, step: Step, command: str) -> str | None:
        """Runs a command; what is wrong with what it did."""
        self.say(f"$ {command}")
        outcome = shell.run(command, SECONDS)
        promise = promise_of(step.title, command, self.image or OWN_IMAGE)
        wrong = broken(promise, outcome.status, outcome.output)
        return wrong and f"step {step.number}, {step.title}: `{command}`: {wrong}"
