"""`headstart evaluate`: a model's figures on labelled samples."""

import argparse
import json
from typing import TYPE_CHECKING

from headstart.terminal import announce
from headstart_pipelines.commands.arguments import JSON, MODEL_URI, WORKSPACE, Command, option

if TYPE_CHECKING:
    from rich.table import Table

    from headstart.judging.measurement import Measurement

# The classes that are recognised worst, and the most frequent mistakes.
_SHOWN, _MISTAKES = 10, 3


def _evaluate(options: argparse.Namespace) -> None:
    if options.output:
        from headstart.models.prediction import table_format

        table_format(options.output)
    # Where none is named, the metric is known from the model.
    if options.metric:
        _check_bounds(options, options.metric)
    announce(f"loading {options.model}")
    from headstart.api.measuring import evaluate
    from headstart.models.prediction import write_table
    from headstart_pipelines import display

    found = evaluate(options.model, options.data, metric=options.metric, workspace=options.workspace)
    _check_bounds(options, found.metric)
    if options.output:
        write_table(found.table, options.output)
    if options.json:
        print(json.dumps(found.to_dict(), indent=2))
    else:
        console = display.console()
        console.print(_figures(found))
        if found.classes:
            console.print(_classes(found))
        console.print(display.verdict(found.sentence), highlight=False)
        display.show_facts(console, [*_facts(found), *([("samples", options.output)] if options.output else [])])
    _require_bounds(options, found)


def _check_bounds(options: argparse.Namespace, metric: str) -> None:
    from headstart.errors import InputError
    from headstart.metrics.metric import METRICS

    if metric not in METRICS:
        return
    is_error = METRICS[metric].lower_is_better
    if options.at_least is not None and is_error:
        raise InputError(f"--at-least is for metrics of which more is better, and {metric} is an error; say --at-most.")
    if options.at_most is not None and not is_error:
        raise InputError(f"--at-most is for errors, and of {metric} more is better; say --at-least.")


def _require_bounds(options: argparse.Namespace, found: "Measurement") -> None:
    from headstart.errors import HeadstartError
    from headstart.figures import figure
    from headstart.metrics.metric import metric_title

    value = found.value
    reached = f"{metric_title(found.metric)} is {figure(value.value)} [{figure(value.low)}, {figure(value.high)}]"
    if options.at_least is not None and value.low < options.at_least:
        raise HeadstartError(f"{reached}, which begins below {options.at_least:g} (--at-least).")
    if options.at_most is not None and value.high > options.at_most:
        raise HeadstartError(f"{reached}, which ends above {options.at_most:g} (--at-most).")


def _figures(found: "Measurement") -> "Table":
    from rich.table import Column

    from headstart.figures import figure
    from headstart.metrics.metric import metric_title
    from headstart_pipelines import display

    table = display.table("metric", Column("value", justify="right"), Column("interval", no_wrap=True))
    for name, each in sorted(found.figures.items(), key=lambda item: item[0] != found.metric):
        title = "calibration error" if name == "ece" else metric_title(name)
        table.add_row(title, figure(each.value), f"\\[{figure(each.low)}, {figure(each.high)}]")
    return table


def _classes(found: "Measurement") -> "Table":
    from rich.table import Column

    from headstart_pipelines import display

    counts = [Column(name, justify="right") for name in ("samples", "recall")]
    table = display.table("class", *counts, Column("interval", no_wrap=True), Column("precision", justify="right"))
    for each in sorted(found.classes, key=lambda one: one.recall.value)[:_SHOWN]:
        recall, precision = each.recall, each.precision.value
        table.add_row(
            display.plain(each.name),
            f"{each.support:,}",
            f"{recall.value:.3f}",
            f"\\[{recall.low:.3f}, {recall.high:.3f}]",
            f"{precision:.3f}" if precision == precision else "",
        )
    if len(found.classes) > _SHOWN:
        table.caption = f"the {_SHOWN} worst of {len(found.classes):,} classes"
    return table


def _facts(found: "Measurement") -> list[tuple[str, str]]:
    taken = [f"{label} for {given} ({count})" for label, given, count in found.mistakes[:_MISTAKES]]
    facts = [("mistakes", "takes " + ", ".join(taken))] if taken else []
    return facts + ([("refused", f"{found.refused:,} samples that cannot be read")] if found.refused else [])


COMMANDS = (
    Command(
        "evaluate",
        _evaluate,
        "measure a model on labelled samples, without those that it was trained on",
        "headstart evaluate models:/digits-target@champion photos/labelled --at-least 0.9",
        (
            MODEL_URI,
            option("data", metavar="DATA_URI", help="labelled samples: class folders, an archive, a table"),
            option("--metric", metavar="NAME", help="the metric that decides (default: the one that the model was "
                   "chosen by, else accuracy)"),
            option("--at-least", type=float, metavar="VALUE", help="end with status 1 where the interval of the metric "
                   "begins below VALUE"),
            option("--at-most", type=float, metavar="VALUE", help="likewise of an error, such as mae, where it ends "
                   "above VALUE"),
            option("-o", "--output", metavar="FILE", help="write each sample with its prediction to .csv, .json or "
                   ".parquet"),
            JSON,
            WORKSPACE,
        ),
    ),
)  # fmt: skip
