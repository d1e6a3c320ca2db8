"""Tariff calendars once more: out of the product's configuration files, asked minute by minute what they say of the wall clock.

Nothing is derived about borders: that is what the product does, and what is compared.
"""

import tomllib
from bisect import bisect_right
from datetime import date, datetime, timedelta
from pathlib import Path

from rules import DAY, Civil

WEEKDAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


def day_range(text: str) -> list[date]:
    first, _, last = text.partition("..")
    day, last = date.fromisoformat(first), date.fromisoformat(last or first)
    return [day + timedelta(days=n) for n in range((last - day).days + 1)]


def minute_of(text: str) -> int:
    hours, minutes = text.split(":")
    return int(hours) * 60 + int(minutes)


class Calendar:
    """What `[calendar.NAME]` says of each minute."""

    def __init__(self, table: dict, folder: Path, holidays: Path):
        self.civil = Civil(table["zone"])
        self.default = table.get("default")
        self.years = table.get("years")
        self.rules = table.get("rules", [])
        self.events = table.get("events", [])
        self.seasons = table.get("seasons", {})
        self.holiday_as, self.holiday_like = table.get("holiday_as"), table.get("holiday_like")
        self.holidays: dict[date, str] = {}
        self.worked: set[date] = set()
        name = table.get("holidays")
        if name:
            path = folder / name if name.endswith(".toml") else holidays / f"{name}.toml"
            file = tomllib.loads(path.read_text(encoding="utf-8"))
            self.worked = {date.fromisoformat(day) for day in file.get("working_days", [])}
            for one in file["holiday"]:
                if one["name"] not in table.get("holidays_except", []):
                    for text in one["days"]:
                        self.holidays |= dict.fromkeys(day_range(text), one["name"])
        named = [self.default, self.holiday_as, *(rule["bucket"] for rule in self.rules), *(e["bucket"] for e in self.events)]
        self.buckets = table.get("buckets") or list(dict.fromkeys(bucket for bucket in named if bucket))
        self.painted: dict[date, list[str | None]] = {}
        self.known: dict[tuple, Timeline] = {}

    def in_season(self, rule: dict, day: date) -> bool:
        if "months" in rule and day.month not in rule["months"]:
            return False
        if "season" in rule:
            first, _, last = self.seasons[rule["season"]].partition("..")
            here = f"{day.month:02}-{day.day:02}"
            return first <= here <= last if first <= last else here >= first or here <= last
        return True

    def is_for(self, rule: dict, day: date, holiday: str | None, weekday: str) -> bool:
        """Whether a rule is for a kind of day. On a holiday that counts as a weekday, `holiday` is None."""
        days = rule.get("days")
        if holiday is not None:
            return days is not None and ("holiday" in days or holiday in days)
        if days is None:
            return True
        worked = weekday not in ("sat", "sun") or (day in self.worked and day not in self.holidays)
        return weekday in days or ("workday" in days and worked) or ("weekend" in days and not worked)

    def rules_of(self, day: date, holiday: str | None, weekday: str | None) -> list[tuple[int, int, int, str]]:
        """Rules of a day, the highest first: from, to, priority, bucket."""
        found = [
            (minute_of(rule["from"]), minute_of(rule["to"]), rule.get("priority", 0), rule["bucket"])
            for rule in self.rules
            if self.in_season(rule, day) and self.is_for(rule, day, holiday, weekday)
        ]
        return sorted(found, key=lambda rule: -rule[2])

    def day(self, day: date) -> list[str | None]:
        """The bucket of each minute of the wall clock: holiday > rules of seasons and weekdays > default."""
        if day not in self.painted:
            holiday, weekday = self.holidays.get(day), WEEKDAYS[day.weekday()]
            if self.years is not None and day.year not in self.years:
                layers, rest = [], None
            elif holiday is None:
                layers, rest = [self.rules_of(day, None, weekday)], self.default
            elif self.holiday_as is not None:
                layers, rest = [self.rules_of(day, holiday, None)], self.holiday_as
            else:
                like = weekday if self.holiday_like == "its_weekday" else self.holiday_like
                layers, rest = [self.rules_of(day, holiday, None), self.rules_of(day, None, like)], self.default
            self.painted[day] = [bucket_at(minute, layers, rest) for minute in range(1440)]
        return self.painted[day]

    def paint(self, first: date, after: date):
        """Ahead of what is asked."""
        while first < after:
            self.day(first)
            first += timedelta(days=1)

    def timeline(self, point: str, first: date, after: date) -> "Timeline":
        """Every minute from one civil day to another, for a usage point."""
        events = [e for e in self.events if not e.get("points") or point in e["points"]]
        key = (first, after, *(id(e) for e in events))
        if key not in self.known:
            start = self.civil.midnight(first)
            minutes: list[str | None] = []
            day = first
            while day < after:
                midnight, following = self.civil.midnight(day), self.civil.midnight(day + timedelta(days=1))
                painted = self.day(day)
                if following - midnight == DAY:
                    minutes += painted
                else:
                    minutes += (painted[self.civil.clock(at)[1] // 60] for at in range(midnight, following, 60))
                day += timedelta(days=1)
            for event in events:
                since, until = (int(datetime.fromisoformat(str(event[key])).timestamp()) for key in ("from", "to"))
                for n in range(max(0, (since - start) // 60), min(len(minutes), (until - start) // 60)):
                    minutes[n] = event["bucket"]
            self.known[key] = Timeline(start, minutes)
        return self.known[key]


def bucket_at(minute: int, layers: list[list[tuple[int, int, int, str]]], rest: str | None) -> str | None:
    for rules_of_day in layers:
        for start, end, _, bucket in rules_of_day:
            if start <= minute < end if start < end else minute >= start or minute < end:
                return bucket
    return rest


class Timeline:
    """Stretches of one bucket, one after the other."""

    def __init__(self, start: int, minutes: list):
        self.starts, self.buckets = [], []
        for n, bucket in enumerate(minutes):
            if n == 0 or bucket != self.buckets[-1]:
                self.starts.append(start + 60 * n)
                self.buckets.append(bucket)
        self.starts.append(start + 60 * len(minutes))

    def stretches(self, start: int, end: int) -> list[tuple[int, int, str | None]]:
        n = bisect_right(self.starts, start) - 1
        found = []
        while start < end:
            until = min(end, self.starts[n + 1])
            found.append((start, until, self.buckets[n]))
            start, n = until, n + 1
        return found
