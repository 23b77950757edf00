"""How a run that cannot succeed ends."""

import pytest


def test_a_failed_step_ends_the_command_with_exit_code_1(failed):
    assert failed.code == 1


def test_a_failed_step_is_explained_in_one_sentence_that_names_step_cause_and_log(failed):
    sentence, where = failed.err.splitlines()

    assert sentence.startswith("headstart: prepare source failed: Class '1' in ")
    assert "1/text.png" in sentence
    assert where == f"The complete log is {failed.log}."


def test_a_failed_steps_line_is_marked(failed):
    assert "  ✗ prepare source " in failed.out
    assert failed.worked == ["close record"]


def test_the_log_of_a_failed_run_has_the_steps_traceback(failed):
    assert "Traceback (most recent call last)" in failed.log.read_text()


def test_a_failed_run_is_marked_as_failed_in_the_record(failed):
    assert failed.parent.info.status == "FAILED"
    assert {name: run.info.status for name, run in failed.children.items()} == {"prepare-source": "FAILED"}


def test_a_failed_run_registers_nothing(failed):
    assert failed.before == failed.after


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ("source: {data: {uri: nowhere}}", "nowhere"),
        ("source: {candidates: [models:/nothing@champion]}\ntarget: {data: {uri: .}}", "models:/nothing@champion"),
        ("source: {data: {uri: .}}\nstrategys: [full]", "strategys"),
    ],
)
def test_an_input_error_ends_the_command_with_exit_code_2_before_any_step(tmp_path, cli, recipe, words):
    (tmp_path / "recipe.yaml").write_text(f"name: broken\n{recipe}\n")

    answer = cli("run", "recipe.yaml", "--workspace", tmp_path / "workspace")

    assert answer.code == 2
    assert words in answer.err
    assert "✓" not in answer.out
    assert not (tmp_path / "workspace" / "logs").exists()


def test_an_error_that_nobody_foresaw_is_one_line_too(cli, tmp_path):
    (tmp_path / "folder.yaml").mkdir()

    answer = cli("compile", "pretrain", "-o", "folder.yaml")

    (line,) = answer.err.splitlines()
    assert answer.code == 1
    assert "folder.yaml" in line
    assert "--debug" in line


def test_debug_shows_the_traceback_of_an_error(cli, tmp_path):
    with pytest.raises(Exception, match="There is no recipe at") as raised:
        cli("check", "absent.yaml", "--debug")

    assert raised.traceback[-1].path.name == "sections.py"
