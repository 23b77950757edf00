import json
import logging

import pytest

from headstart.training.progress import PROGRESS_VARIABLE, RECORD, progress


@pytest.fixture(autouse=True)
def no_terminal(monkeypatch, capsys):
    """Output goes to a file, as in a pod."""
    monkeypatch.delenv(PROGRESS_VARIABLE, raising=False)


def test_a_supervising_process_gets_every_step_as_a_record(monkeypatch, capsys):
    monkeypatch.setenv(PROGRESS_VARIABLE, "records")
    show = progress()
    show("full", 1, 3, "loss 0.5")
    show("full", 3, 3)
    lines = capsys.readouterr().out.rstrip("\n").split("\n")
    assert all(line.startswith(RECORD) for line in lines)
    assert [json.loads(line.removeprefix(RECORD)) for line in lines] == [
        {"label": "full", "done": 1, "total": 3, "note": "loss 0.5"},
        {"label": "full", "done": 3, "total": 3, "note": ""},
    ]


def test_a_log_gets_the_first_and_the_last_step_of_quick_work(caplog, capsys):
    caplog.set_level(logging.INFO)
    show = progress()
    for done in range(1, 51):
        show("full", done, 50)
    assert [record.getMessage().strip() for record in caplog.records] == ["full 1/50", "full 50/50"]
    assert capsys.readouterr().out == ""


def test_a_terminal_gets_a_bar_for_each_piece_of_work_and_clean_output_stays_clean(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    show = progress()
    for label in ("scratch", "full"):
        for done in (1, 2):
            show(label, done, 2, "loss 0.5")
    shown = capsys.readouterr()
    assert "scratch" in shown.err
    assert "full" in shown.err
    assert shown.out == ""
