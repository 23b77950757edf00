"""Cron expressions: what they admit, and what those of another time zone are in UTC."""

from datetime import UTC, datetime, timedelta

import pytest

from headstart.errors import InputError
from headstart_pipelines.cluster.cron import Cron

NOW = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)  # a Sunday


def utc(day, hour, minute=0, second=0):
    return datetime(2026, 3, day, hour, minute, second, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "meant"), [("0 3 * * 1", "0 0 3 * * 1"), ("30 0 3 * * MON-FRI", "30 0 3 * * MON-FRI")]
)
def test_an_expression_may_have_seconds(text, meant):
    assert Cron.of(text).text == meant


@pytest.mark.parametrize(
    "text",
    ["", "daily", "0 3 * *", "0 3 * * 1; rm", "1 2 3 4 5 6 7", "60 3 * * *", "0 24 * * *", "0 3 0 * *", "0 3 * 13 *",
     "0 3 * * 7", "0 3 * * FUN", "5-1 3 * * *", "*/0 3 * * *", "*-5 3 * * *", "0 3 * * ,", "٣ 3 * * *"],
)  # fmt: skip
def test_what_the_server_would_not_understand_is_refused(text):
    with pytest.raises(InputError, match="is not understood"):
        Cron.of(text)


@pytest.mark.parametrize(
    ("text", "ticks"),
    [
        ("0 3 * * 1", [utc(2, 3), utc(9, 3)]),
        ("*/20 5 * * *", [utc(1, 5), utc(1, 5, 20), utc(1, 5, 40), utc(2, 5)]),
        ("10/20 5 1 * *", [utc(1, 5, 10), utc(1, 5, 30), utc(1, 5, 50)]),
        ("0 3 * * MON,Wed", [utc(2, 3), utc(4, 3)]),
        # Of a day and a weekday that both say something, either is enough.
        ("0 3 10 * 1", [utc(2, 3), utc(9, 3), utc(10, 3)]),
        ("0 3 10 * ?", [utc(10, 3)]),
        ("0 0 3 2-3 MAR *", [utc(2, 3), utc(3, 3)]),
    ],
)
def test_the_ticks_of_an_expression_are_those_that_the_servers_cron_has(text, ticks):
    cron = Cron.of(text)
    after = NOW
    for tick in ticks:
        assert (cron.latest(after, tick), cron.matches(tick)) == (tick, True)
        # None before it.
        assert cron.latest(after, tick - timedelta(seconds=1)) is None
        after = tick


def test_an_expression_that_never_comes_true_has_no_tick():
    assert Cron.of("0 3 30 2 *").latest(NOW, NOW + timedelta(days=1000)) is None


@pytest.mark.parametrize(
    ("text", "zone", "meant"),
    [
        ("0 3 * * 1", "Asia/Tokyo", "0 0 18 * * 0"),
        ("0 12 * * MON-FRI", "Asia/Tokyo", "0 0 3 * * MON-FRI"),
        ("0 22 * * FRI,SAT", "America/Bogota", "0 0 3 * * 0,6"),
        ("30 3 * * *", "Asia/Kolkata", "0 0 22 * * *"),
        ("0 8,9 1 * *", "UTC", "0 0 8,9 1 * *"),
        # Every hour is every hour anywhere, and so in a zone whose clocks change by one.
        ("*/5 * * * *", "Europe/Zurich", "0 */5 * * * *"),
    ],
)
def test_an_expression_of_another_zone_is_converted(text, zone, meant):
    assert Cron.of(text).from_zone(zone, NOW).text == meant


@pytest.mark.parametrize(
    ("text", "zone", "said"),
    [
        ("0 3 * * 1", "Europe/Zurich", "The clocks of Europe/Zurich change during the year"),
        ("0 3 1 * *", "Asia/Tokyo", "cannot be written in UTC"),
        ("0 3,12 * * 1", "Asia/Tokyo", "cannot be written in UTC"),
        ("15,45 3 * * *", "Asia/Kolkata", "cannot be written in UTC"),
        ("0 3 * * *", "Mars/Olympus", "There is no time zone 'Mars/Olympus'"),
        ("0 3 * * *", "../../etc/passwd", "There is no time zone"),
    ],
)
def test_what_no_expression_in_utc_means_is_refused(text, zone, said):
    with pytest.raises(InputError, match=said):
        Cron.of(text).from_zone(zone, NOW)
