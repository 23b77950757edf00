"""Pipelines of the small steps in steps.py."""

from kfp import dsl

from tests.pipelines.runner.steps import close, count, die, fail, make, report, say, use


@dsl.pipeline(name="inner")
def inner(text: str) -> str:
    made = make(text=text, number=1, ratio=1.0, flag=False, table={}, rows=[])
    say(text=f"inner {made.outputs['Output']}")
    return made.outputs["Output"]


@dsl.pipeline(name="all-kinds")
def all_kinds(word: str, rows: list[dict], limit: int = 4) -> None:
    """Every kind of task and input that a package may have and a local run knows."""
    with dsl.ExitHandler(close()):
        first = make(text=word, number=2, ratio=2.5, flag=True, table={"a": 1, "b": [1.5, "x"]}, rows=[1, "x", 2.0])
        with dsl.ParallelFor(rows, parallelism=2) as row:
            each = make(text=row.name, number=row.size, ratio=0.25, flag=False, table=row, rows=[row.name])
        use(
            data=first.outputs["data"],
            models=dsl.Collected(each.outputs["model"]),
            texts=dsl.Collected(each.outputs["Output"]),
        )
        size = count(text=first.outputs["Output"])
        with dsl.If(size.output > limit):
            say(text=f"{word} is long")
        with dsl.Elif(word == "ab"):
            say(text="it is ab")
        with dsl.Else():
            say(text=f"{size.output} is short")
        nested = inner(text=word)
        say(text=nested.output)


@dsl.pipeline(name="looped")
def looped(word: str, rows: list[dict]) -> None:
    """What the project's own pipelines are made of."""
    with dsl.ExitHandler(close()):
        first = make(text=word, number=2, ratio=2.5, flag=True, table={"a": 1.0, "b": ["x"]}, rows=[1, 2.5])
        with dsl.ParallelFor(rows) as row:
            make(text=first.outputs["Output"], number=1, ratio=0.5, flag=False, table=row, rows=[])
        say(text=first.outputs["Output"])


@dsl.pipeline(name="failing")
def failing(word: str) -> None:
    """One step fails, what depends on it does not run, and the exit task does."""
    with dsl.ExitHandler(close()):
        wrong = fail(text=word)
        say(text="after").after(wrong)


@dsl.pipeline(name="dying")
def dying(word: str) -> None:
    """A step's process is killed."""
    die(text=word)


@dsl.pipeline(name="reporting")
def reporting() -> None:
    """A step says what process it is in."""
    report()
