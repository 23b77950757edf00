"""Policy: the conditions that a version must meet to become the champion, one YAML file with a key for each gate."""

from pathlib import Path
from typing import Any

from pydantic import Field, create_model

from headstart.sections import read_mapping
from headstart.tracking.gate import GATES, SharedSettings


def policy_section() -> type[SharedSettings]:
    """Build the policy's section: one key for each installed gate, and the settings that gates share."""
    gates = {name: GATES[name] for name in GATES.in_order()}
    fields: dict[str, Any] = {
        name: (gate.kind, Field(gate.default, description=gate.note)) for name, gate in gates.items()
    }
    return create_model("Policy", __base__=SharedSettings, __doc__="The gates of a promotion.", **fields)


Policy = policy_section()


def load_policy(path: Path) -> SharedSettings:
    """Read a policy file.

    Raises:
        InputError: the file is missing, is not YAML, or does not describe a policy.
    """
    return Policy.of(read_mapping(path, "policy"), at=f"{path}")
