"""What a person sees: every result as what it is, and no word of a log, a recipe or the record as a command."""

import io

from rich.console import Console

from headstart_pipelines.display import Steps, leaderboard_table, show_facts, verdict

ESCAPES = "\x1b[2J\x1b]0;owned\x07\x9b31m"


def row(strategy, **changes):
    gains = {"gain_over_best": 0.1, "gain_over_best_low": 0.05, "gain_over_best_high": 0.15}
    score = {"accuracy": 0.9, "accuracy_low": 0.85, "accuracy_high": 0.95, "macro_f1": 0.9}
    ours = {"strategy": strategy, "source": None, "seconds": 1.0, "run_id": "run", "same_as": None, "members": None}
    return {**ours, **score, **gains, **changes}


def test_the_leaderboard_shows_a_strategy_that_predicts_the_same_as_another_as_equal_to_it():
    console = Console(file=io.StringIO(), width=80)
    console.print(leaderboard_table([row("partial"), row("zero", same_as="partial")], chosen=[True, False]))
    first, second = console.file.getvalue().splitlines()[1:3]
    assert first.startswith("partial ← ")
    assert second.startswith("zero = partial ")


def test_the_leaderboard_shows_how_many_networks_a_combination_runs_for_a_prediction():
    console = Console(file=io.StringIO(), width=80)
    console.print(leaderboard_table([row("ensemble", members="full, partial, zero")], chosen=[True]))
    assert console.file.getvalue().splitlines()[1].startswith("ensemble of 3 ← ")


def test_facts_stand_below_the_answer_a_line_each():
    console = Console(file=io.StringIO(), width=80)
    console.print(verdict("helped: it gains.", ["It [bold]guesses[/].", "One class is all."]), highlight=False)
    assert console.file.getvalue() == "\nhelped: it gains.\n! It [bold]guesses[/].\n! One class is all.\n\n"


def test_no_facts_are_no_lines():
    console = Console(file=io.StringIO(), width=80)
    show_facts(console, [])
    assert console.file.getvalue().strip() == ""


def test_the_column_of_gains_names_the_best_baseline():
    nothing = dict.fromkeys(("gain_over_best", "gain_over_best_low", "gain_over_best_high"))
    baselines = [row("scratch", accuracy=0.7, **nothing), row("classical", accuracy=0.8, **nothing)]
    console = Console(file=io.StringIO(), width=80)
    console.print(leaderboard_table([row("full"), *baselines]))
    assert "gain over classical" in console.file.getvalue()


def test_the_lines_of_a_run_hold_no_commands_to_the_terminal_from_what_its_steps_say():
    screen = Console(file=io.StringIO(), force_terminal=True, color_system=None)
    for steps in (Steps(screen, verbose=True), Steps(screen)):
        steps.started(f"train{ESCAPES}")
        steps.progressed(f"train{ESCAPES}", "epoch", 1, 2, ESCAPES)
        steps.logged(f"cat{ESCAPES}\tdog")
        steps.finished(f"train{ESCAPES}", 1.0)
    shown = screen.file.getvalue()
    assert "cat�[2J�]0;owned��31m" in shown
    # Rich itself moves the cursor for the bar.
    assert "\x1b[2J\x1b" not in shown
    assert "\x1b]" not in shown
    assert not set("\x07\x9b") & set(shown)
