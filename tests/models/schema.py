"""The documented JSON schema of what a bundle says of itself."""

import json
from pathlib import Path
from typing import Any

import jsonschema

_SCHEMA = Path(__file__).parents[2] / "docs" / "reference" / "model.schema.json"


def validate(description: dict[str, Any]) -> None:
    """jsonschema.ValidationError if the schema does not describe this model.json."""
    jsonschema.validate(description, json.loads(_SCHEMA.read_text()))
