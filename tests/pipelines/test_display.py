"""What a person sees: no word of a log, a recipe or the record is a command to the terminal."""

import io

from rich.console import Console

from headstart_pipelines.display import Steps

ESCAPES = "\x1b[2J\x1b]0;owned\x07\x9b31m"


def test_the_lines_of_a_run_hold_no_commands_to_the_terminal_from_what_its_steps_say():
    screen = Console(file=io.StringIO(), force_terminal=True, color_system=None)
    for steps in (Steps(screen, verbose=True), Steps(screen)):
        steps.started(f"train{ESCAPES}")
        steps.progressed("epoch", 1, 2, ESCAPES)
        steps.logged(f"cat{ESCAPES}\tdog")
        steps.finished(f"train{ESCAPES}", 1.0)
    shown = screen.file.getvalue()
    assert "cat�[2J�]0;owned��31m" in shown
    # Rich itself moves the cursor for the bar.
    assert "\x1b[2J\x1b" not in shown
    assert "\x1b]" not in shown
    assert not set("\x07\x9b") & set(shown)
