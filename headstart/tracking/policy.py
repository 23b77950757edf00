"""The policy: what a version must show before it becomes the champion, one YAML file put together from the gates."""

from pathlib import Path
from typing import Any

from pydantic import Field, create_model

from headstart.sections import read_mapping
from headstart.tracking.gate import GATES, SharedSettings, in_order


def policy_section() -> type[SharedSettings]:
    """The policy's section of one key for each gate that is installed, and the settings that they share."""
    gates = {name: GATES[name] for name in in_order()}
    fields: dict[str, Any] = {
        name: (gate.kind, Field(gate.default, description=gate.note)) for name, gate in gates.items()
    }
    return create_model("Policy", __base__=SharedSettings, __doc__="The gates of a promotion.", **fields)


Policy = policy_section()


def load_policy(path: Path) -> SharedSettings:
    """Reads a policy file.

    Raises:
        InputError: the file is missing, is not YAML, or does not describe a policy.
    """
    return Policy.of(read_mapping(path, "policy"), at=f"{path}")
