"""Cron expressions of Kubeflow Pipelines: seconds first, in the time zone of its server."""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import product
from typing import Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from headstart.errors import InputError

_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_WEEKDAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
# Name, minimum, maximum and value names of each field.
_FIELDS: tuple[tuple[str, int, int, dict[str, int]], ...] = (
    ("second", 0, 59, {}),
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day", 1, 31, {}),
    ("month", 1, 12, {name: number for number, name in enumerate(_MONTHS, 1)}),
    ("weekday", 0, 6, {name: number for number, name in enumerate(_WEEKDAYS)}),
)
_PART = re.compile(r"((?P<any>[*?])|(?P<first>\w+)(-(?P<last>\w+))?)(/(?P<step>\d+))?", re.ASCII)
_DAY = timedelta(days=1)
_DAY_MINUTES = 24 * 60


@dataclass(frozen=True)
class Cron:
    """A cron expression. `text` has six fields; `values` holds the values that each admits, in UTC.

    If the day or the weekday field begins with *, a date must match both; otherwise one of them.
    """

    text: str
    values: tuple[frozenset[int], ...]

    @classmethod
    def of(cls, expression: str) -> Self:
        """Parse an expression; the usual five fields start at second 0.

        Raises:
            InputError: it has another number of fields, or a field is invalid.
        """
        fields = expression.split()
        if len(fields) not in (5, 6):
            raise _refusal(expression, f"it has {len(fields)} fields")
        fields = fields if len(fields) == 6 else ["0", *fields]
        values = []
        for text, (name, least, most, names) in zip(fields, _FIELDS, strict=True):
            found = _values(text, least, most, names)
            if found is None:
                raise _refusal(expression, f"{name} {text!r} is not within {least} to {most}")
            values.append(found)
        return cls(" ".join(fields), tuple(values))

    def from_zone(self, zone: str, now: datetime) -> "Cron":
        """Convert an expression in a time zone, for example Asia/Tokyo, to UTC.

        Raises:
            InputError: there is no such zone, or no UTC expression is equivalent all year: the zone has daylight saving
                time, or the day changes in UTC.
        """
        try:
            clock = ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise InputError(
                f"There is no time zone {zone!r}; write its name as in Asia/Tokyo, or leave --timezone out for UTC."
            ) from None
        offsets = {clock.utcoffset((now + day * _DAY).replace(tzinfo=None)) for day in range(366)}
        shifted = {self._moved(offset or timedelta()) for offset in offsets}
        if len(shifted) > 1:
            raise InputError(
                f"The clocks of {zone} change during the year, and Kubeflow Pipelines' schedules, which are in UTC, "
                "would not follow; give --cron in UTC, without --timezone."
            )
        (text,) = shifted
        if text is None:
            raise InputError(
                f"--cron {self.text!r} in {zone} cannot be written in UTC, where its days or minutes are others; give "
                "--cron in UTC, without --timezone."
            )
        return Cron.of(text)

    def matches(self, at: datetime) -> bool:
        """Return whether `at` is a tick."""
        seconds, minutes, hours, *_ = self.values
        at = at.astimezone(UTC)
        return at.second in seconds and at.minute in minutes and at.hour in hours and self._on(at.date())

    def latest(self, after: datetime, until: datetime) -> datetime | None:
        """Return the last tick after `after` and not after `until`; None if there is none."""
        seconds, minutes, hours = (sorted(values, reverse=True) for values in self.values[:3])
        day = until.astimezone(UTC).date()
        while day >= after.astimezone(UTC).date():
            if self._on(day):
                for hour, minute, second in product(hours, minutes, seconds):
                    at = datetime.combine(day, time(hour, minute, second), UTC)
                    if at <= until:
                        return at if at > after else None
            day -= _DAY
        return None

    def _on(self, day: date) -> bool:
        *_, days, months, weekdays = self.values
        in_days, in_weekdays = day.day in days, day.isoweekday() % 7 in weekdays
        *_, day_field, _, weekday_field = self.text.split()
        either = day_field[0] not in "*?" and weekday_field[0] not in "*?"
        return day.month in months and (in_days or in_weekdays if either else in_days and in_weekdays)

    def _moved(self, offset: timedelta) -> str | None:
        """Return the UTC text for an expression in a zone that is `offset` ahead; None if there is no equivalent."""
        second, minute, hour, day, month, weekday = self.text.split()
        _, minutes, hours, days, months, weekdays = self.values
        ahead = offset // timedelta(minutes=1)
        times = {divmod(60 * each + at - ahead, _DAY_MINUTES) for each, at in product(hours, minutes)}
        carried = {carry for carry, _ in times}
        new_hours, new_minutes = {at // 60 for _, at in times}, {at % 60 for _, at in times}
        if len(times) != len(new_hours) * len(new_minutes):
            return None
        if carried != {0}:
            everyday = len(days) == 31 and len(months) == 12
            if not everyday or (len(carried) > 1 and len(weekdays) < 7):
                return None
            moved = frozenset((each + carry) % 7 for each in weekdays for carry in carried)
            weekday = weekday if moved == weekdays else _written(moved)
        hour = hour if new_hours == hours else _written(new_hours)
        minute = minute if new_minutes == minutes else _written(new_minutes)
        return " ".join((second, minute, hour, day, month, weekday))


def _written(values: frozenset[int] | set[int]) -> str:
    return ",".join(str(each) for each in sorted(values))


def _values(text: str, least: int, most: int, names: dict[str, int]) -> frozenset[int] | None:
    """Return the values that a field admits; None if it is invalid for Kubeflow Pipelines."""
    found: set[int] = set()
    for part in text.split(","):
        match = _PART.fullmatch(part)
        if match is None:
            return None
        first = least if match["any"] else _number(match["first"], names)
        is_open = match["any"] or (match["step"] and not match["last"])
        last = most if is_open else _number(match["last"] or match["first"], names)
        step = int(match["step"] or 1)
        if first is None or last is None or not (least <= first <= last <= most) or step == 0:
            return None
        found.update(range(first, last + 1, step))
    return frozenset(found)


def _number(text: str, names: dict[str, int]) -> int | None:
    return names.get(text.upper(), int(text) if text.isdecimal() and len(text) < 4 else None)


def _refusal(expression: str, why: str) -> InputError:
    return InputError(
        f"--cron {expression!r} is not understood, as {why}; write minute, hour, day, month and weekday, for example "
        '"0 3 * * 1" for Mondays at three.'
    )
