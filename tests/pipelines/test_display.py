import io

from rich.console import Console

from headstart_pipelines import display


def row(strategy, **changes):
    gains = {"gain": 0.1, "gain_low": 0.05, "gain_high": 0.15}
    score = {"accuracy": 0.9, "accuracy_low": 0.85, "accuracy_high": 0.95, "macro_f1": 0.9}
    ours = {"strategy": strategy, "source": None, "seconds": 1.0, "run_id": "run", "same_as": None}
    return {**ours, **score, **gains, **changes}


def test_the_leaderboard_shows_a_strategy_that_predicts_the_same_as_another_as_equal_to_it():
    console = Console(file=io.StringIO(), width=80)
    console.print(display.leaderboard_table([row("partial"), row("zero", same_as="partial")], chosen=[True, False]))
    first, second = console.file.getvalue().splitlines()[1:3]
    assert first.startswith("partial ← ")
    assert second.startswith("zero = partial ")
