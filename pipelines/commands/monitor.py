"""`headstart monitor`: whether a model in use still meets what it was tested on."""

import argparse
import contextlib
import json
from typing import TYPE_CHECKING, get_args

from headstart.errors import HeadstartError, InputError
from headstart.figures import figure
from headstart.terminal import waiting
from headstart_pipelines.commands.arguments import (
    AMOUNT,
    CLOCK,
    JSON,
    WORKSPACE,
    Command,
    folder,
    group,
    option,
    placement,
)
from headstart_pipelines.commands.promotion import tell
from headstart_pipelines.commands.retraining import RETRAINING, recipe_to_repeat, repeat_here, repeat_on_cluster
from headstart_pipelines.commands.schedule import cron_of, schedule_job
from headstart_pipelines.commands.server import SERVER, compiled, connected, profile_of, started

if TYPE_CHECKING:
    from rich.table import Table

    from headstart.judging.monitoring import Monitoring
    from headstart_pipelines.cluster.connection import Server

# The shares of the classes that moved most.
_SHOWN = 10


def _monitor(options: argparse.Namespace) -> None:
    # Not HEADSTART_KFP_HOST: who has set it still looks at models from here.
    if options.host or options.profile or options.cron:
        _monitor_on_cluster(options)
    else:
        _monitor_here(options)


def _monitor_here(options: argparse.Namespace) -> None:
    for name in ("image", "allow_tag", "wait", "timezone", "name"):
        if getattr(options, name):
            raise InputError(
                f"--{name.replace('_', '-')} has a meaning on a cluster only; name that with --host and --profile."
            )
    to_repeat = recipe_to_repeat(options)
    given = {} if options.tolerance is None else {"tolerance": options.tolerance}
    with waiting(f"comparing {options.data} with what {options.model} was tested on"):
        from headstart.api.registry import monitor
        from headstart_pipelines import display

        found = monitor(options.model, options.data, reference=options.reference, workspace=options.workspace, **given)
    if not options.json:
        console = display.console()
        console.print(_table(found))
        console.print(display.verdict(found.sentence), highlight=False)
        refused = [("refused", f"{found.refused} samples that cannot be read")] if found.refused else []
        chance = f"{found.distance:.4f}, as large by chance with p = {found.distance_p:.3f}"
        display.show_facts(console, [("distance", chance), *refused])
    again = repeat_here(*to_repeat, options, found.run_id) if to_repeat and found.state != "as before" else None
    if options.json:
        print(json.dumps({**found.to_dict(), **(again.to_dict() if again else {})}, indent=2))
    if again and again.promotion:
        tell(again.promotion, quiet=options.json)
    if options.fail and found.state != "as before":
        raise SystemExit(1)


def _refuse_contradictions(options: argparse.Namespace) -> None:
    """InputError if options for a cluster do not fit together."""
    if options.reference:
        raise InputError(
            "--reference is a folder of this machine, which no pod sees; remove it, or --host and --profile."
        )
    if options.cron and options.wait:
        raise InputError("--wait follows a run, and --cron starts none now; remove one of them.")
    if not options.cron and (options.timezone or options.name):
        raise InputError("--timezone and --name are about a schedule; add --cron, or remove them.")
    if options.retrain and not options.wait:
        raise InputError(
            "--retrain starts a second run after the one that compares; add --wait, and instead of --cron let a "
            "scheduler run this command."
        )
    if options.retrain and options.json:
        raise InputError("--json is about one run, and --retrain may start a second one; remove one of them.")


def _monitor_on_cluster(options: argparse.Namespace) -> None:
    _refuse_contradictions(options)
    profile, to_repeat = profile_of(options), recipe_to_repeat(options)
    with waiting(f"looking up {options.model}"):
        from headstart.judging.monitoring import TOLERANCE
        from headstart_pipelines.cluster.follow import DetachedError
        from headstart_pipelines.cluster.monitoring import monitor_job, name_of
        from headstart_pipelines.cluster.submission import build_package

    cron = cron_of(options) if options.cron else None
    # Before anything is sent: its data may be where no pod sees them.
    work = compiled(to_repeat[1], options) if to_repeat else None
    job = monitor_job(
        options.model,
        options.data,
        {volume.path for volume in profile.light.volumes},
        tolerance=TOLERANCE if options.tolerance is None else options.tolerance,
        fail=options.fail,
    )
    package = build_package(
        job.pipeline, image=options.image, profile=profile, unfingerprinted=frozenset(), allow_tag=options.allow_tag
    )
    if cron:
        schedule_job(options, job, package, cron, options.name or name_of(job))
        return
    server = connected(options)
    # The comparison is a run of its own, not a step below one that KFP's plugin opens.
    submission = started(server, job, package, profile.model_copy(update={"mlflow_plugin": False}), options)
    if not options.wait:
        return
    rung = None
    try:
        _follow(server, submission.run_id, submission.run, as_json=options.json)
    except HeadstartError as error:
        # An alarm does not keep the recipe from running again.
        if not work or isinstance(error, DetachedError):
            raise
        rung = error
    if to_repeat and work:
        repeat_on_cluster(*to_repeat, work, server, submission.run_id, options)
    if rung:
        raise rung


def _follow(server: "Server", run_id: str, name: str, *, as_json: bool) -> None:
    from headstart.judging.monitoring import State
    from headstart_pipelines import display
    from headstart_pipelines.cluster.follow import watch_run
    from headstart_pipelines.cluster.logs import log_parts
    from headstart_pipelines.cluster.runs import find_run

    try:
        watch_run(server, run_id, name, stderr=as_json)
    finally:
        # The step prints what it found, also where the run then fails by that.
        with contextlib.suppress(HeadstartError):
            for _, lines in log_parts(server, find_run(server, run_id), "monitor", follow=False, own=True):
                for sentence in (line for line in lines if line.partition(":")[0] in get_args(State)):
                    display.console(stderr=as_json).print(display.verdict(sentence), highlight=False)


def _table(found: "Monitoring") -> "Table":
    from rich.table import Column

    from headstart.metrics.task import MULTI_LABEL, REGRESSION
    from headstart_pipelines import display

    noun = {MULTI_LABEL: "label", REGRESSION: "number"}.get(found.task, "class")
    table = display.table(noun, Column("before", justify="right"), Column("estimated now", no_wrap=True))
    moved = sorted(found.classes, key=lambda each: -abs(each.now.value - each.before))
    for each in moved[:_SHOWN]:
        now = f"{figure(each.now.value)} \\[{figure(each.now.low)}, {figure(each.now.high)}]"
        table.add_row(display.plain(each.name), figure(each.before), now)
    return table


COMMANDS = (
    Command(
        "monitor",
        _monitor,
        "say whether new samples are as before, drifted, or the model worse on them",
        "headstart monitor models:/digits-target@champion photos/new --fail\n"
        "  headstart monitor models:/digits-target@champion s3://data/new --fail --cron \"0 6 * * *\" \\\n"
        "    --host https://kubeflow.example.com/pipeline --profile infra/profiles/cpu.yaml --image NAME@sha256:…",
        (
            option("model", metavar="MODEL", help="models:/name@alias, models:/name/version, or a registered model's "
                   "name: its champion, else its latest version"),
            option("data", metavar="DATA_URI", help="new samples; where folders are classes, the metric is measured"),
            option("--reference", type=folder, metavar="DIR", help="the packed data set that it was tested on, where "
                   "that is not where it was"),
            option("--tolerance", type=float, metavar="SHARE", help="how far above 0.5 the area under the curve of a "
                   "classifier that tells new from old samples may surely be (default 0.1)"),
            option("--fail", action="store_true", help="end with status 1 where it is not as before"),
            *RETRAINING,
            AMOUNT,
            JSON,
            WORKSPACE,
            group("on a cluster", "With --host, --profile or --cron a pod compares the samples, which are then at\n"
                  "s3://… or on a volume of the profile.",
                  *placement(default="the profile's"),
                  *CLOCK,
                  option("--name", metavar="NAME", help="the schedule's name (default: monitor-MODEL)"),
                  option("--wait", action="store_true", help="follow the run to its end and say what it found; Ctrl-C "
                         "leaves it going")),
            SERVER,
        ),
    ),
)  # fmt: skip
