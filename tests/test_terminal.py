import io
import logging
import sys

import pytest

from headstart.terminal import announce, make_printable, message, printable, waiting

# Clears the screen, names the terminal's window, rings, and begins a command as one character of Latin-1.
ESCAPES = "\x1b[2J\x1b]0;owned\x07\x9b31m\r"


def test_a_name_holds_no_command_to_the_terminal_and_is_one_line():
    assert printable(f"cat{ESCAPES}\n\tdog", keep="\t") == "cat�[2J�]0;owned��31m��\tdog"
    assert printable("Käse 猫 →") == "Käse 猫 →"


def test_a_message_holds_no_command_and_no_password_and_keeps_its_lines():
    assert message(f"http://ann:canary@host{ESCAPES[:1]}:\n\tgone") == "http://host�:\n\tgone"


def test_what_a_server_says_reaches_no_terminal_as_a_command_through_a_log():
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    log = logging.Logger("server")
    log.addHandler(handler)
    for _ in range(2):
        make_printable(handler, None)
    try:
        raise ValueError(ESCAPES)
    except ValueError:
        log.warning("answered %s", ESCAPES, exc_info=sys.exc_info())
    written = stream.getvalue()
    assert written.startswith("WARNING answered �[2J")
    assert "ValueError: �[2J" in written
    assert all(each.isprintable() or each in "\n\t" for each in written)


def test_who_waits_at_a_terminal_is_told_for_what_and_a_log_is_not(monkeypatch, capsys):
    announce("loading models:/a/1")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    announce(f"loading models:/{ESCAPES}a/1")
    assert capsys.readouterr().err == f"headstart: loading models:/{message(ESCAPES)}a/1\n"


def test_the_line_that_says_what_is_waited_for_is_gone_when_the_answer_comes(monkeypatch, capsys):
    with waiting("reading the record"):
        pass
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "30")
    with pytest.raises(KeyError), waiting(f"reading {ESCAPES} and much more than a line holds"):
        raise KeyError
    line, rest = capsys.readouterr().err.split("\r")
    assert line.startswith("headstart: reading �")
    assert len(line) == 29
    assert rest == "\x1b[K"
