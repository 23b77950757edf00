"""`headstart prepare`: one data set alone."""

import argparse
import json
from pathlib import Path

from headstart_pipelines.commands.arguments import INPUT, LABEL_BUDGET, TASK, Command, given_input, option

# The options that are keys of a recipe's data section, and are checked as those are.
_OF_DATA = (
    "task", "labels_per_class", "label_budget", "duplicates", "max_refused", "max_refused_per_class", "store", "stream",
)  # fmt: skip


def _prepare(options: argparse.Namespace) -> None:
    from headstart.api.data import prepare
    from headstart.metrics.task import MULTI_LABEL, REGRESSION

    given = {key: value for key in _OF_DATA if (value := getattr(options, key)) is not None}
    packed = prepare(
        options.data,
        options.output,
        modality=options.modality,
        seed=options.seed,
        input=given_input(options),
        **given,
    )
    if options.json:
        print(json.dumps(packed.manifest, indent=2))
        return
    counts = ", ".join(f"{count} {name}" for name, count in packed.counts.items())
    classes = f"{len(packed.classes) or 'no'} {'labels' if packed.task == MULTI_LABEL else 'classes'}"
    if packed.task == REGRESSION:
        classes = "numbers"
    print(f"{classes}; {counts}; {packed.digest}")
    print(f"report: {packed.path / 'report.html'}")


COMMANDS = (
    Command(
        "prepare",
        _prepare,
        "verify, split, pack and report one data set",
        "headstart prepare photos/ -o packed/ --size 224 --duplicates drop --max-refused 0.05 --store jpeg",
        (
            option("data", metavar="DATA_URI", help="a folder of samples, one folder a class"),
            option("-o", "--output", type=Path, required=True, metavar="DIR", help="the packed data set"),
            option("--modality", default="image", help="what the samples are (default image)"),
            INPUT,
            option("--size", type=int, metavar="N", help="side of stored pictures in pixels, as --input size=N "
                   "(default 224)"),
            TASK,
            option("--labels-per-class", type=int, metavar="K", help="keep K training samples of each class"),
            LABEL_BUDGET,
            option("--duplicates", metavar="report|drop|fail", help="keep copies and what looks the same within a "
                   "split and report them, keep one of each, or end (default report)"),
            option("--max-refused", type=float, metavar="SHARE", help="end if more of all files cannot be read, and "
                   "more than 10 (default 0.01)"),
            option("--max-refused-per-class", type=float, metavar="SHARE", help="end if more of a class's files cannot "
                   "be read, and more than 5 (default 0.05)"),
            option("--store", metavar="auto|raw|jpeg", help="keep samples as pixels, which read fastest, or as JPEG, a "
                   "fifth of the bytes of photographs and a little different (default auto: raw up to 16 GiB)"),
            option("--stream", metavar="auto|always|never", help="leave samples in HEADSTART_STATE, from where they "
                   "are read as they are needed (default auto: where it is in S3 and they take more than "
                   "HEADSTART_STORE_LIMIT)"),
            option("--seed", type=int, default=0, help="decides the splits (default 0)"),
            option("--json", action="store_true", help="print the manifest as JSON"),
        ),
    ),
)  # fmt: skip
