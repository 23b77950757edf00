"""Small steps that write down all that they are given, for comparisons of ways to run a package."""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from headstart_components import component
from headstart_components.types import Artifact, Dataset, Input, Model, Output, PipelineTaskFinalStatus


def told(value: Any) -> Any:
    """An artifact as JSON values; anything else as it is."""
    if isinstance(value, list):
        return [told(each) for each in value]
    if not isinstance(value, Artifact):
        return value
    return [type(value).__name__, value.name, value.uri, value.path, value.metadata]


def write(path: str, **values: Any) -> None:
    """Write the values to a file."""
    Path(path).write_text(json.dumps({name: told(value) for name, value in values.items()}, indent=1))


@component
def make(
    text: str,
    number: int,
    ratio: float,
    flag: bool,
    table: dict,
    rows: list,
    data: Output[Dataset],
    model: Output[Model],
    note: str = "none",
) -> str:
    write(data.path, text=text, number=number, ratio=ratio, flag=flag, table=table, rows=rows, note=note)
    write(model.path, text=text)
    data.metadata.update(digest="d", count=3, share=0.5, listed=[1, 2.0], inner={"a": 1.0})
    model.metadata["of"] = text
    return f"{text}-{int(number)}"


@component
def count(text: str) -> int:
    return len(text)


@component
def use(
    data: Input[Dataset],
    models: Input[list[Model]],
    texts: list,
    seen: Output[Artifact],
    absent: Input[Model] = None,
    size: int = 7,
):
    write(seen.path, data=data, models=models, texts=texts, absent=absent, size=size)


@component
def say(text: str, seen: Output[Artifact]):
    write(seen.path, text=text)


@component
def close(status: PipelineTaskFinalStatus, seen: Output[Artifact]):
    write(seen.path, state=status.state, task=status.pipeline_task_name, code=status.error_code)


@component
def fail(text: str):
    raise ValueError(f"no {text}")


@component
def die(text: str):
    print(f"{text} before", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


@component
def report(seen: Output[Artifact]):
    threads = len(os.listdir("/proc/self/task"))
    torch = sys.modules.get("torch")
    found = [threads, torch.get_num_threads() if torch else None, os.getsid(0) == os.getpid()]
    write(seen.path, found=found, variable=os.environ.get("OF_THE_STEP"))


@component
def end_slowly(text: str) -> None:
    """Return before a thread that waits for the end of the main one has written."""
    import atexit
    import threading

    atexit.register(print, text, "at exit")
    main = threading.main_thread()

    def write() -> None:
        main.join()
        print(text, "in a thread")

    threading.Thread(target=write).start()


@component
def leave(text: str) -> None:
    """Exit with a number as the status, or with other words."""
    import sys

    sys.exit(int(text) if text.isdigit() else text)
