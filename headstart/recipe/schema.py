"""The JSON schema of recipes: by it editors complete keys, explain them and mark what is wrong."""

from typing import Any

from headstart.modalities import MODALITIES
from headstart.recipe.recipe import Recipe
from headstart.strategies.section import STRATEGIES, Strategy

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def recipe_schema() -> dict[str, Any]:
    """Return the schema of what people write: beside what `Recipe` holds, a strategy may be its name alone and has the
    settings of its kind, and `size` and `channels` of pictures may stand beside `uri`.

    What depends on several keys at once is left to `headstart check`.
    """
    schema = Recipe.model_json_schema()
    sections = schema["$defs"]
    strategy = sections["Strategy"]
    for name in STRATEGIES:
        member = STRATEGIES[name].model_json_schema()
        strategy["properties"] |= {
            key: value for key, value in member["properties"].items() if key not in Strategy.model_fields
        }
        # One that names another strategy has a definition of them all, which lacks the settings above.
        schema["$defs"] = sections = {**member.get("$defs", {}), **sections}
    # A name, a kind or settings describe one; the rest follows.
    strategy["required"] = []
    schema["properties"]["strategies"]["items"] = {
        "anyOf": [{"type": "string", "examples": list(STRATEGIES)}, {"$ref": "#/$defs/Strategy"}]
    }
    data = sections["Data"]["properties"]
    data |= {key: MODALITIES["image"].input.model_json_schema()["properties"][key] for key in ("size", "channels")}
    inputs = {
        key: value
        for name in MODALITIES.built_in
        for key, value in MODALITIES[name].input.model_json_schema()["properties"].items()
    }
    data["input"] = {"type": "object", "properties": inputs, "description": "what is read of a sample"}
    return {"$schema": _DIALECT, **schema, "title": "headstart recipe"}
