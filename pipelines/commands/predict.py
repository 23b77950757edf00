"""The commands that use a model: `headstart predict` and `headstart export`."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from headstart.errors import HeadstartError, InputError
from headstart.terminal import announce
from headstart_pipelines.commands.arguments import JSON, MODEL_URI, WORKSPACE, Command, count, option

if TYPE_CHECKING:
    from headstart.judging.int8 import Int8


def _predict(options: argparse.Namespace) -> None:
    announce(f"loading {options.model}")
    import pandas as pd

    from headstart.api.models import load
    from headstart.models.bundle import NotFinite
    from headstart.models.inputs import raw_samples
    from headstart.models.prediction import in_short, predict, table_format, to_json, write_table
    from headstart.terminal import printable
    from headstart.training.engine import move_to_training_device

    if options.output:
        table_format(options.output)
    bundle = load(options.model, workspace=options.workspace).bundle
    samples = raw_samples(options.paths, bundle.modality)
    move_to_training_device(bundle.network)
    tables = []
    try:
        for table in predict(bundle, samples, batch_size=options.batch_size):
            tables.append(table)
            if options.output or options.json:
                continue
            for row in table.to_dict(orient="records"):
                outcome = ["-", row["error"]] if row["error"] else in_short(bundle, row)
                print("\t".join(printable(text) for text in (row["path"], *outcome)))
    except NotFinite as error:
        raise InputError(f"{options.model}: {error}") from error
    whole = pd.concat(tables, ignore_index=True)
    if options.output:
        write_table(whole, options.output)
    if options.json:
        print(to_json(whole))
    elif options.output:
        print(f"{len(whole)} files: {options.output}")
    refused = whole.loc[whole["error"] != "", "path"]
    if folders := [path for path in refused if Path(path).is_dir()]:
        raise HeadstartError(
            f"{len(refused)} of {len(whole)} files and folders could not be read, and nothing in {', '.join(folders)} "
            "was; see the column error."
        )
    if len(refused):
        raise HeadstartError(f"{len(refused)} of {len(whole)} files could not be read; see the column error.")


def _export(options: argparse.Namespace) -> None:
    announce(f"loading {options.model}")
    from headstart.api.models import load
    from headstart.models.exporting import export, format_of, place_of

    format = format_of(options.format or ("onnx" if options.int8 is not None else None), options.output)
    if options.int8 is not None and format != "onnx":
        raise InputError(f"--int8 is for --format onnx, and --format {format} keeps the model as it is; leave out one.")
    model = load(options.model, workspace=options.workspace)
    bundle, place = model.bundle, options.output or place_of(options.model, format)
    if options.int8 is not None:
        _show_int8(model.export_int8(place, options.int8))
        return
    exported = export(bundle, place, format=format, digest=model.digest)
    outputs = bundle.answer if bundle.classes else f"{bundle.network.feature_dim} features, no head"
    print(
        f"{exported.path}: {format}, {outputs}, licence {bundle.provenance.get('license') or 'not known'}; outputs "
        f"differ by {exported.difference:.1g} at most from the model's"
    )


def _show_int8(found: "Int8") -> None:
    from rich.table import Column

    from headstart.figures import figure
    from headstart.metrics.metric import metric_title
    from headstart_pipelines import display

    console = display.console()
    headers = ("MB", "ms", metric_title(found.metric))
    table = display.table("", *(Column(each, justify="right") for each in headers))
    for name, cost, value in zip(("model", "int8"), (found.before, found.after), found.scores, strict=True):
        table.add_row(name, f"{cost.size / 1e6:.2f}", f"{cost.milliseconds:.3g}", figure(value))
    console.print(table)
    text = f"{found.path}: {found.sentence}; {found.calibrated_on} calibrated it"
    console.print(text, markup=False, highlight=False, soft_wrap=True)


COMMANDS = (
    Command(
        "predict",
        _predict,
        "predict the classes of files, folders, tables or objects in S3",
        "headstart predict models:/digits-target@champion photos/ s3://scans/new/ -o new.csv",
        (
            MODEL_URI,
            option("paths", nargs="+", metavar="PATH", help="files, folders of them, s3://bucket/key or "
                   "s3://bucket/prefix/, or a .csv or .parquet table with a column path or, in Parquet, a column of "
                   "bytes that is called as the modality is (image)"),
            option("-o", "--output", metavar="FILE", help="write .csv, .json or .parquet, here or to s3://…"),
            option("--batch-size", type=count, default=256, metavar="N", help="how many samples are in memory at once "
                   "(default 256)"),
            JSON,
            WORKSPACE,
        ),
    ),
    Command(
        "export",
        _export,
        "export a model to ONNX, PyTorch, timm or Hugging Face",
        "headstart export models:/digits-target@champion --format torch -o digits/",
        (
            MODEL_URI,
            option("--format", metavar="FORMAT", help="torch (a program for PyTorch alone, and the weights), onnx (one "
                   "file), timm or hf (a folder that timm, or transformers, loads); default: onnx where -o ends in "
                   ".onnx"),
            option("--int8", metavar="DATA_URI", help="to ONNX with 8-bit whole numbers, smaller and faster; labelled "
                   "samples, such as those that the model was trained on, calibrate it and compare it with the model"),
            option("-o", "--output", type=Path, metavar="PLACE", help="the .onnx file or new folder to write (default: "
                   "the model's name and the format, here)"),
            WORKSPACE,
        ),
    ),
)  # fmt: skip
