"""headstart's commands, called in this process: to start Python and import MLflow takes longer than most of them."""

import contextlib
import io

import pytest

from headstart_pipelines import cli
from tests.cluster.stand_in import Answer


def answer_of(arguments: list[str]) -> Answer:
    """The exit code of a command, what it prints, and what it says beside that."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    return int(ended.value.code or 0), out.getvalue(), err.getvalue()


def headstart(*arguments: str) -> str:
    """What a command prints that ends well."""
    code, out, err = answer_of(list(arguments))
    assert code == 0, out[-3000:] + err[-3000:]
    return out
