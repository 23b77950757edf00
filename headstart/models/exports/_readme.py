"""The README of an exported folder: what the model is, the lines that load it, where it comes from."""

import json
from pathlib import Path

from headstart.metrics.task import MULTI_LABEL, REGRESSION
from headstart.models.bundle import ModelBundle
from headstart.storage.local import write_text

_README = "README.md"
_SHOWN = 20


def described(bundle: ModelBundle) -> str:
    """The bundle in a few words, for messages: `convnet for image data`."""
    return f"{bundle.architecture.partition('?')[0][:100]} for {bundle.modality} data"


def pillow_mode(bundle: ModelBundle) -> str:
    """Pillow's name of the colours that the model reads."""
    return "L" if bundle.preprocessing.channels == 1 else "RGB"


def write_readme(
    path: Path, bundle: ModelBundle, *, digest: str, library: str, code: str, more: tuple[tuple[str, str], ...] = ()
) -> None:
    """Write README.md into the folder: a head as the hub's model cards have, `code` that loads and asks the model, and
    further lines of code, each with a sentence before it."""
    known = bundle.provenance
    head = {"license": known.get("license"), "library_name": library, "tags": [_task(bundle)]}
    # JSON is YAML.
    lines = ["---", *(f"{key}: {json.dumps(value)}" for key, value in head.items() if value is not None), "---", ""]
    lines += [f"# {_title(bundle)}", "", f"Reads {bundle.preprocessing.described}. Run these lines in this folder:", ""]
    lines += ["```python", code.rstrip("\n"), "```", ""]
    for sentence, further in more:
        lines += [sentence, "", "```python", further.rstrip("\n"), "```", ""]
    if bundle.classes:
        shown = ", ".join(json.dumps(name, ensure_ascii=False) for name in bundle.classes[:_SHOWN])
        rest = f" and {len(bundle.classes) - _SHOWN} more, in config.json" if len(bundle.classes) > _SHOWN else ""
        lines += [f"Classes, in the order of the outputs: {shown}{rest}.", ""]
    facts = {
        "model": digest,
        "source": known.get("source"),
        "data": known.get("data_digest"),
        "strategy": known.get("strategy"),
        "licence": known.get("license") or "not known",
    }
    lines += [f"- {name}: {str(value).replace(chr(10), ' ')}" for name, value in facts.items() if value]
    write_text(path / _README, "\n".join(lines) + "\n")


def _task(bundle: ModelBundle) -> str:
    return f"{bundle.modality}-{'classification' if bundle.classes else 'feature-extraction'}"


def _title(bundle: ModelBundle) -> str:
    architecture = bundle.architecture.partition("?")[0]
    if bundle.task == REGRESSION:
        return f"{architecture}, a number"
    if bundle.task == MULTI_LABEL:
        return f"{architecture}, {len(bundle.classes)} labels"
    return f"{architecture}, {len(bundle.classes)} classes" if bundle.classes else f"{architecture}, features"
