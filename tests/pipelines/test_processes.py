"""Steps as processes."""

import pytest

from headstart_pipelines.processes import Processes


@pytest.mark.parametrize("command", [["sh", "-c", "kill -9 $$"], ["sh", "-c", "sh -c 'kill -9 $$'; exit $?"]])
def test_a_step_that_the_system_killed_says_why_that_is_likely(command, capsys):
    assert Processes().run(command) != 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "MemoryError: the step was killed, most likely because memory ran out."


def test_a_step_that_the_run_killed_is_not_short_of_memory(capsys):
    class Stopped(Processes):
        """Is stopped twice, as by a second Ctrl-C, as soon as its step speaks."""

        def write(self, text: str) -> None:
            self.stop()
            self.stop()

    steps = Stopped()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("builtins.print", lambda text, end="": steps.write(text))
        assert steps.run(["sh", "-c", "trap '' TERM; echo begun; while :; do sleep 1; done"]) == -9
    assert capsys.readouterr().out == ""


def test_a_step_that_failed_gives_its_status_and_what_it_wrote(capsys):
    assert Processes().run(["sh", "-c", "echo $GREETING; exit 3"], {"GREETING": "hello"}) == 3
    assert capsys.readouterr().out == "hello\n"
