"""Model card: a registered model's description in Markdown, with its content, lineage, quality and use.

Class names, model names and addresses are untrusted text. They are written as code spans, which Markdown renders
literally.
"""

import re
import shlex
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from headstart.figures import figure
from headstart.judging.evidence import Evidence
from headstart.metrics.groups import count_groups, of_groups
from headstart.metrics.metric import metric_title
from headstart.metrics.task import MULTI_LABEL, REGRESSION
from headstart.modalities import modality
from headstart.models.reference import unpinned
from headstart.tracking.logged_model import EVIDENCE
from headstart.tracking.mlflow_pages import version_page

if TYPE_CHECKING:
    from headstart.models.bundle import ModelBundle

_CLASSES_SHOWN = 20
_LONGEST = 200
# Digits of a digest to show: enough to compare by eye; the tags hold the complete one.
_SHORT = 12


def card(uri: str, digest: str, bundle: "ModelBundle", evidence: Evidence | None) -> str:
    """Return the description of the version `uri`, models:/name/version."""
    paragraphs = [_what_it_is(digest, bundle), "### What it came from", _where_from(bundle.provenance, evidence)]
    if evidence:
        paragraphs += ["### How good it is", _text(evidence.sentence), _figures(evidence)]
    paragraphs += ["### How to use it", _code_block(*_commands(uri, bundle))]
    if evidence:
        parts = shlex.quote(f"{uri}/{EVIDENCE}")
        paragraphs += [
            "The recipe that gives it again (`recipe.json`), the report (`report.html`) and "
            f"{'the test predictions' if evidence.predictions.classes else 'what it was trained on'}:",
            _code_block(f"mlflow artifacts download -u {parts} -d ."),
        ]
    return "\n\n".join(filter(None, paragraphs))


def model_card(name: str, role: str) -> str:
    """Return the description of a registered model whose versions have this role."""
    of_target = (
        "Models for a target task: of each pipeline run, the best one by samples that were held out of training."
    )
    kind = {
        "source": "Pretrained models that give other tasks a head start.",
        "target": of_target,
        "baseline": of_target,
    }.get(role, "Models registered by headstart.")
    return (
        f"{kind} Each version says what it is, what it came from and how good it is.\n\n"
        "`@champion` is the version in use and `@challenger` the one that wants its place. Change the champion with "
        "these commands, which compare, refuse what is worse, and keep account:\n\n"
        + _code_block(*(f"headstart {command} {shlex.quote(name)}" for command in ("promote", "rollback", "history")))
    )


def _what_it_is(digest: str, bundle: "ModelBundle") -> str:
    known = bundle.provenance
    made = {"pretraining": "pretrained", "scratch": "trained from scratch"}.get(
        str(known.get("strategy")), f"transferred by the strategy {_code(known.get('strategy'))}"
    )
    if objective := known.get("objective"):
        made += f" without labels by the objective {_code(objective)}"
    shown = ", ".join(_code(name) for name in bundle.classes[:_CLASSES_SHOWN])
    more = len(bundle.classes) - _CLASSES_SHOWN
    if bundle.task == REGRESSION:
        margin = "" if bundle.margin is None else f", ± {figure(bundle.margin)} for 90% of new samples"
        does = f"answers with a number{margin}"
        return f"{_reads(bundle, made)} and {does}. Content {_digest(digest)}."
    if bundle.task == MULTI_LABEL:
        rest = f" and {more} more" if more > 0 else ""
        does = f"tells which of {len(bundle.classes)} labels a sample has: {shown}{rest}"
        return f"{_reads(bundle, made)} and {does}. Content {_digest(digest)}."
    does = (
        f"tells {len(bundle.classes)} classes apart: {shown}{f' and {more} more' if more > 0 else ''}"
        if bundle.classes
        else f"gives {bundle.network.feature_dim} features for a target to learn from; it knows no classes"
    )
    return f"{_reads(bundle, made)} and {does}. Content {_digest(digest)}."


def _reads(bundle: "ModelBundle", made: str) -> str:
    reads = f"It reads {_code(bundle.modality)} data ({bundle.preprocessing.described})"
    return f"{_code(bundle.architecture)}, {made}. {reads}"


def _where_from(known: Mapping[str, Any], evidence: Evidence | None) -> str:
    digests = {"all of it": known.get("data_digest"), "training split": known.get("train_digest")}
    if evidence:
        digests["test split"] = evidence.digests.get("test_digest")
    versions = {**(known.get("versions") or {}), "seed": known.get("seed")}
    source = known.get("source")
    facts = {
        "source": f"{_link(unpinned(source))}, content {_digest(known.get('source_digest'))}" if source else "",
        "data": ", ".join(f"{name} {_digest(digest)}" for name, digest in digests.items() if digest),
        "made with": ", ".join(f"{name} {_code(value)}" for name, value in versions.items() if value is not None),
    }
    return "\n".join(f"- {label}: {fact}" for label, fact in facts.items() if fact)


def _figures(evidence: Evidence) -> str:
    """Return a table of the figures with their intervals; empty text if there are none."""
    figures, metric = evidence.figures, evidence.metric
    names = {f"test/{metric}": metric_title(metric)}
    names |= {"test/accuracy": "accuracy", "test/macro_f1": "macro F1", "test/ece": "calibration error"}
    names |= {
        "test/rmse": "RMSE",
        "test/r2": "R²",
        "test/coverage": "share within the interval, of which 90% should be",
    }
    rows = [
        f"| {title} | {figure(figures[name])} | {_interval(figures, name)} |"
        for name, title in names.items()
        if name in figures
    ]
    for name, title in (("gain", "scratch"), ("gain_over_best", "the best baseline")):
        gain = f"{name}/{metric}"
        if gain in figures:
            value = figure(figures[gain], signed=True)
            rows.append(f"| gain over {title} | {value} | {_interval(figures, gain, signed=True)} |")
    if not rows:
        return ""
    tested = evidence.predictions
    items = f"{len(tested.labels):,} test items{of_groups(count_groups(tested.groups))}"
    return "\n".join([f"| on {items} | | interval |", "|:--|--:|:--|", *rows])


def _interval(figures: Mapping[str, float], name: str, *, signed: bool = False) -> str:
    low, high = figures.get(f"{name}_low"), figures.get(f"{name}_high")
    return "" if low is None or high is None else f"{figure(low, signed=signed)} to {figure(high, signed=signed)}"


def _commands(uri: str, bundle: "ModelBundle") -> Iterator[str]:
    if not bundle.classes:
        yield "# in a recipe, as a source:"
        yield f"source: {{candidates: [{uri}]}}"
        return
    yield f"headstart predict {shlex.quote(uri)} {modality(bundle.modality).noun}s/"
    yield f"mlflow models serve -m {shlex.quote(uri)} --env-manager local"


def _link(source: str) -> str:
    """Return a registered version as a link inside MLflow's page; any other source as a code span."""
    found = re.fullmatch(r"models:/([^/]+)/(\d+)", source)
    return f"[{_code(source)}]({version_page(found[1], found[2])})" if found else _code(source)


def _digest(digest: Any) -> str:
    return _code(str(digest).removeprefix("sha256:")[:_SHORT])


def _code(value: Any) -> str:
    """Return a code span that shows `value` on one line, with any content escaped."""
    text = _one_line(str(value))
    text = text[:_LONGEST] + "…" if len(text) > _LONGEST else text
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    # Renderers strip one space at either end; without it, a backtick there would be read as part of the fence.
    space = " " if len(fence) > 1 or not text.strip() else ""
    return f"{fence}{space}{text}{space}{fence}"


def _code_block(*lines: str) -> str:
    return "\n".join(f"    {_one_line(line)}" for line in lines)


def _one_line(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)


def _text(sentence: str) -> str:
    """Escape the characters of a sentence that Markdown and HTML interpret. Brackets stay, but cannot form links."""
    text = sentence.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_|~#]|(?<=\])\()", r"\\\1", _one_line(text))
