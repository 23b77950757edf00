"""Recipes that run by the clock: made, listed with what they started and did not start, switched, deleted."""

import json
from datetime import timedelta

import pytest

from tests.pipelines.cluster.conftest import IMAGE, PROFILE
from tests.pipelines.cluster.kfp_server import Fault
from tests.pipelines.cluster.kfp_server.workflows import START


@pytest.fixture
def schedule(cli, recipe):
    """Schedules a recipe."""

    def call(*options, **sections):
        return cli("schedule", recipe(**sections), "--profile", PROFILE, "--image", IMAGE, *options)

    return call


@pytest.fixture
def listed(cli):
    """The one schedule, as it is listed."""

    def call():
        (row,) = json.loads(cli("schedule", "--list", "--json").out)
        return row

    return call


@pytest.fixture
def each_minute(kfp, schedule, clock):
    """A schedule for every minute; `each_minute(n)` lets the server come to the next n ticks."""
    assert schedule("--cron", "* * * * *", "--name", "Five").code == 0
    ticks = iter(START + timedelta(minutes=number) for number in range(1, 100))

    def pass_by(number):
        for _ in range(number):
            tick = next(ticks)
            kfp.tick(tick)
            clock.at = tick + timedelta(seconds=30)

    return pass_by


def end_runs(kfp):
    """Lets every run come to its end."""
    for run in kfp.runs:
        while not kfp.workflows[run["run_id"]].is_final:
            kfp.run_service_get_run(run["run_id"])
        kfp.run_service_get_run(run["run_id"])


# Making one


def test_a_recipe_runs_by_the_clock(kfp, schedule, listed):
    answer = schedule("--cron", "0 3 * * 1")

    assert answer.code == 0, answer.err
    (made,) = kfp.recurring
    assert made["trigger"] == {"cron_schedule": {"cron": "0 0 3 * * 1"}}
    assert (made["display_name"], made["mode"], made["max_concurrency"]) == ("digits", "ENABLE", "1")
    assert made["no_catchup"] is True
    assert made["service_account"] == "headstart-step"
    row = listed()
    assert (row["schedule"], row["cron"], row["enabled"]) == ("digits", "0 0 3 * * 1", True)
    assert (row["overlap"], row["catch_up"], row["last_run"]) == ("forbid", False, None)


def test_at_its_tick_a_schedule_starts_a_run_of_its_recipe(kfp, each_minute, listed):
    each_minute(1)

    (run,) = kfp.runs
    assert run["runtime_config"]["parameters"]["name"] == "digits"
    assert listed()["last_run"] == run["display_name"]


def test_runs_to_come_take_the_data_as_they_are_then(kfp, schedule):
    schedule("--cron", "0 3 * * 1")

    sent = kfp.recurring[0]["runtime_config"]["parameters"]
    assert "fingerprint" not in sent["source_data"]
    package = kfp.versions[0]["pipeline_spec"]["pipeline_spec"]
    prepare = package["components"]["comp-exit-handler-1"]["dag"]["tasks"]["prepare-data"]
    assert not prepare["cachingOptions"].get("enableCache")


@pytest.mark.parametrize(("overlap", "runs"), [("forbid", 1), ("allow", 3)])
def test_a_run_that_goes_holds_back_the_next_unless_they_may_overlap(kfp, schedule, listed, overlap, runs):
    schedule("--cron", "* * * * *", "--overlap", overlap)
    for number in range(1, 4):
        kfp.tick(START + timedelta(minutes=number))

    assert len(kfp.runs) == runs
    assert listed()["overlap"] == overlap


def test_ticks_that_an_outage_left_out_are_made_up_for_where_that_is_asked_for(kfp, schedule, listed):
    schedule("--cron", "0 3 * * 1", "--catch-up")

    assert kfp.recurring[0]["no_catchup"] is False
    assert listed()["catch_up"] is True


def test_the_time_of_another_zone_is_sent_in_utc_and_told(kfp, schedule):
    answer = schedule("--cron", "0 3 * * 1", "--timezone", "Asia/Tokyo")

    assert kfp.recurring[0]["trigger"] == {"cron_schedule": {"cron": "0 0 18 * * 0"}}
    assert "digits runs at '0 0 18 * * 0' (seconds first, in UTC)." in answer.out


def test_a_schedule_is_not_made_twice(kfp, schedule):
    schedule("--cron", "0 3 * * 1")

    answer = schedule("--cron", "0 4 * * 1")

    assert answer.code == 2
    assert "There is a schedule digits already" in answer.err
    assert len(kfp.recurring) == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--cron", "0 3 * *"], "it has 4 fields"),
        (["--cron", "0 3 * * 1", "--timezone", "Europe/Zurich"], "The clocks of Europe/Zurich change"),
        ([], "Give a recipe and when it is to run"),
        (["--cron", "0 3 * * 1", "--force"], "they belong to --delete NAME"),
    ],
)
def test_what_is_no_plan_is_refused_before_anything_is_sent(kfp, schedule, options, said):
    answer = schedule(*options)

    assert answer.code == 2
    assert said in answer.err
    assert kfp.requests == []


# Listing


def test_the_last_run_is_listed_with_its_state(kfp, each_minute, listed, cli):
    each_minute(1)
    assert (listed()["last_state"], listed()["last_tick"]) == ("pending", "2026-03-01T03:01:00+00:00")
    end_runs(kfp)
    each_minute(1)
    end_runs(kfp)

    row = listed()
    assert (row["last_state"], row["last_tick"]) == ("succeeded", "2026-03-01T03:02:00+00:00")
    assert row["last_run_id"] == kfp.runs[-1]["run_id"]
    assert "2026-03-01 03:02  succeeded" in cli("schedule", "--list").out


def test_ticks_at_which_nothing_started_are_told_with_the_object_that_says_why(kfp, each_minute, listed, cli):
    # As a schedule that somebody made with `plugins_input` is: accepted, and every run of it refused.
    kfp.recurring[0]["plugins_input"] = {"mlflow": {"experiment_name": "digits"}}
    each_minute(5)

    assert listed()["missed"] == "2026-03-01T03:03:00+00:00"
    answer = cli("schedule", "--list")
    assert "Five: nothing was started at 2026-03-01 03:03 UTC. The server does not say why" in answer.out
    assert "kubectl describe -n kubeflow scheduledworkflow five\n" in answer.out


def test_the_object_is_named_whole_where_a_run_of_it_tells_its_name(kfp, each_minute, listed):
    each_minute(1)
    end_runs(kfp)
    kfp.recurring[0]["plugins_input"] = {"mlflow": {}}
    each_minute(20)

    assert listed()["look"] == "kubectl describe -n kubeflow scheduledworkflow fiveczlzn"


def happen(kfp, clock, case):
    """What may keep a schedule of every minute from starting a run."""
    clock.at = START + timedelta(hours=1)
    match case:
        case "its first tick is to come":
            clock.at = START + timedelta(seconds=59)
        case "its run may be on its way":
            clock.at = START + timedelta(minutes=2, seconds=30)
        case "it is disabled":
            kfp.recurring[0]["status"] = "DISABLED"
        case "it was enabled a moment ago":
            kfp.recurring[0]["updated_at"] = (START + timedelta(minutes=58)).isoformat()
        case "its run goes on":
            kfp.tick(START + timedelta(minutes=1))
        case "its run has ended a moment ago":
            kfp.tick(START + timedelta(minutes=1))
            end_runs(kfp)
            kfp.runs[0]["finished_at"] = (START + timedelta(minutes=59)).isoformat()
        case "its server's clock is in another zone":
            kfp.recurring[0]["trigger"]["cron_schedule"]["cron"] = "0 0 3 * * *"
            kfp.tick(START - timedelta(hours=1))
            end_runs(kfp)
        case "it is not ours and has no cron":
            kfp.recurring[0]["trigger"] = {"periodic_schedule": {"interval_second": "60"}}


@pytest.mark.parametrize(
    "case",
    ["its first tick is to come", "its run may be on its way", "it is disabled", "it was enabled a moment ago",
     "its run goes on", "its run has ended a moment ago", "its server's clock is in another zone",
     "it is not ours and has no cron"],
)  # fmt: skip
def test_a_schedule_has_missed_no_tick_where(kfp, each_minute, listed, clock, case):
    clock.at = START + timedelta(hours=1)
    assert listed()["missed"]

    happen(kfp, clock, case)

    assert listed()["missed"] is None


def test_the_list_of_schedules_fits_into_a_terminal(kfp, each_minute, cli, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    each_minute(1)
    kfp.recurring[0]["trigger"]["cron_schedule"]["cron"] = "0 0,15,30,45 8-18 * * MON-FRI"

    assert max(map(len, cli("schedule", "--list").out.splitlines())) <= 80


def test_a_server_without_schedules_says_so(kfp, cli):
    assert "There are no schedules on" in cli("schedule", "--list").out


# Looking after one


def test_a_schedule_is_disabled_enabled_and_deleted_by_its_name(kfp, schedule, cli):
    for name in ("one", "two", "three"):
        schedule("--cron", "0 3 * * *", "--name", name)

    assert cli("schedule", "--disable", "three").out == "three is disabled.\n"
    assert [each["status"] for each in kfp.recurring] == ["ENABLED", "ENABLED", "DISABLED"]
    assert "disabled" in cli("schedule", "--list").out
    cli("schedule", "--enable", "three")
    assert kfp.recurring[2]["status"] == "ENABLED"
    assert cli("schedule", "--delete", "one").out == "one is deleted.\n"
    assert [each["display_name"] for each in kfp.recurring] == ["two", "three"]


def test_a_schedule_that_is_not_there_is_named(kfp, cli):
    answer = cli("schedule", "--delete", "nothing")

    assert answer.code == 2
    assert "There is no schedule nothing on" in answer.err


def test_deleting_a_schedule_takes_no_run_that_goes_with_it_unaware(kfp, each_minute, cli):
    each_minute(1)

    answer = cli("schedule", "--delete", "Five")

    assert answer.code == 2
    assert f"The run {kfp.runs[0]['display_name']} of Five is going, and would be deleted with it" in answer.err
    for way in ("headstart schedule --disable Five", "--terminate", "--force"):
        assert way in answer.err
    assert [each["status"] for each in kfp.recurring] == ["ENABLED"]
    end_runs(kfp)
    assert cli("schedule", "--delete", "Five").code == 0
    assert kfp.recurring == []


def test_a_schedule_is_deleted_with_its_run_terminated_before(kfp, each_minute, cli):
    each_minute(1)

    assert cli("schedule", "--delete", "Five", "--terminate").out == "Five is deleted.\n"

    assert kfp.recurring == []
    states = [each["state"] for each in kfp.runs[0]["state_history"]]
    assert states == ["PENDING", "CANCELING", "FAILED"]


def test_a_schedule_is_deleted_with_its_run_lost_where_that_is_said(kfp, each_minute, cli):
    each_minute(1)

    answer = cli("schedule", "--delete", "Five", "--force")

    assert answer.code == 0
    assert f"Its run {kfp.runs[0]['display_name']} is lost" in answer.out
    assert kfp.recurring == []
    assert kfp.called("run_service_terminate_run") == []


def test_a_run_that_starts_while_its_schedule_is_deleted_is_seen(kfp, each_minute, cli, monkeypatch):
    disable = kfp.recurring_run_service_disable_recurring_run

    def disabled(recurring_run_id):
        each_minute(1)
        return disable(recurring_run_id)

    monkeypatch.setattr(kfp, "recurring_run_service_disable_recurring_run", disabled)

    answer = cli("schedule", "--delete", "Five")

    assert answer.code == 2
    assert "started just now. The schedule is disabled; delete it when the run has ended" in answer.err
    assert [each["status"] for each in kfp.recurring] == ["DISABLED"]


def test_a_run_that_does_not_end_keeps_its_schedule(kfp, each_minute, cli):
    each_minute(1)
    kfp.looked = lambda workflow: setattr(workflow, "end", "CANCELING")

    answer = cli("schedule", "--delete", "Five", "--terminate")

    assert answer.code == 1
    assert "was told to end and has not for 180 seconds" in answer.err
    assert len(kfp.recurring) == 1


def test_a_server_that_does_not_answer_while_a_run_ends_is_asked_again(kfp, each_minute, cli):
    each_minute(1)
    kfp.faults.append(Fault("run_service_get_run", 503, 2))

    assert cli("schedule", "--delete", "Five", "--terminate").code == 0
