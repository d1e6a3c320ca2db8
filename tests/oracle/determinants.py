"""Billing determinants once more, in exact Python, from slots, days and reads as `rules.py` has them.

Written from the specification and not from the product's source, and read from the same configuration files. Amounts are whole
millionths or Fractions, and leave as Decimals.
"""

import ast
import math
import re
import tomllib
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import rules
from calendars import Calendar, Timeline
from rules import DAY, RANK, Civil, share_out

MICRO = 1_000_000
ESTIMATES = {RANK["estimated"], RANK["estimated_scaled"]}
QUALITIES = {rank: name for name, rank in RANK.items()}
STATES = [*(q for q in RANK), "verified", "edited"]


def micros(amount: Decimal) -> int:
    whole = amount.scaleb(6)
    assert whole == int(whole), amount
    return int(whole)


def amount(value: int) -> Decimal:
    return Decimal(value).scaleb(-6)


def rounded(value: Fraction, digits: int, mode: str) -> int:
    """Millionths of a value (in units), kept to so many decimals."""
    steps = abs(value) * 10**digits
    low = steps.numerator // steps.denominator
    rest = steps - low
    if mode == "down":
        up = False
    elif mode == "up":
        up = rest > 0
    elif mode == "half_up":
        up = rest >= Fraction(1, 2)
    else:
        assert mode == "half_even", mode
        up = rest > Fraction(1, 2) or (rest == Fraction(1, 2) and low % 2 == 1)
    size = (low + up) * 10 ** (6 - digits)
    return -size if value < 0 else size


def parts_of(total: int, values: list[int], digits: int) -> list[int]:
    """Parts rounded so that they add up to their rounded sum: down, and what is left to the largest remainders."""
    step = 10 ** (6 - digits)
    steps = [value // step for value in values]
    left = total // step - sum(steps)
    order = sorted(range(len(values)), key=lambda n: (-(values[n] - steps[n] * step), n))
    for n in range(abs(left)):
        steps[order[n % len(order)] if left > 0 else order[-1 - n % len(order)]] += 1 if left > 0 else -1
    return [one * step for one in steps]


def share_ppm(part: int, whole: int) -> int:
    part, whole = abs(part), abs(whole)
    if part == 0:
        return 0
    return MICRO if whole == 0 else (2 * min(part, whole) * MICRO + whole) // (2 * whole)


# ---------------------------------------------------------------------------------------------------------------------
# What a determinant is computed from


class Tariffs:
    """Calendars and determinants out of the product's configuration files."""

    def __init__(self, files: list[Path], holidays: Path):
        self.calendars: dict[str, Calendar] = {}
        self.determinants: list[dict] = []
        for path in files:
            table = tomllib.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
            for name, calendar in table.get("calendar", {}).items():
                self.calendars[name] = Calendar(calendar, path.parent, holidays)
            self.determinants += table.get("determinant", [])


class Series:
    """Slots of one usage point and channel, in order of time, with running sums."""

    def __init__(self, slots: list, step: int):
        slots = sorted(slots, key=lambda slot: slot.start)
        self.step = step
        self.starts = [slot.start for slot in slots]
        self.ends = [slot.end for slot in slots]
        self.values = [micros(slot.use) for slot in slots]
        self.ranks = [RANK[slot.quality] for slot in slots]
        self.at_start = {at: n for n, at in enumerate(self.starts)}
        self.at_end = {at: n + 1 for n, at in enumerate(self.ends)}
        self.use, self.estimated, self.unread, self.failed, self.seconds = [0], [0], [0], [0], [0]
        for start, end, value, rank in zip(self.starts, self.ends, self.values, self.ranks):
            self.use.append(self.use[-1] + value)
            self.estimated.append(self.estimated[-1] + (value if rank in ESTIMATES else 0))
            self.unread.append(self.unread[-1] + (rank < RANK["valid"]))
            self.failed.append(self.failed[-1] + (rank == RANK["failed"]))
            self.seconds.append(self.seconds[-1] + end - start)

    def within(self, start: int, end: int) -> range:
        """Places of the slots that lie whole in a time."""
        return range(bisect_left(self.starts, start), bisect_right(self.ends, end))

    def tiled(self, start: int, end: int) -> tuple[int, int] | None:
        """Places of the slots that fill a time without a hole."""
        a, b = self.at_start.get(start), self.at_end.get(end)
        if a is None or b is None or self.seconds[b] - self.seconds[a] != end - start:
            return None
        return a, b


@dataclass
class Source:
    """A usage point and channel: what the oracle knows of its year."""

    series: Series
    days: list  # rules.Day of all its meters
    reads: dict[date, rules.Read]  # by first day
    hung: list  # its installations
    walks: list
    findings: list[tuple[str, int, int]]  # rule, start and end


@dataclass
class Figure:
    part: str
    value: int | None  # millionths
    unit: str
    quality: int  # rank
    estimated: int = 0
    at: tuple[int | None, int | None] = (None, None)
    notes: set[str] = field(default_factory=set)
    held: bool = False


UNITS = {"kwh": ("kWh", "kW"), "kvarh": ("kvarh", "kvar"), "m3": ("m3", "m3/h")}


def unit(channel: str, rate: bool = False) -> str:
    return UNITS[channel.rpartition("_")[2]][rate]


def around(first: date, after: date) -> tuple[date, date]:
    """Cycles that a run asks for may begin and end beside it."""
    return first - timedelta(days=70), after + timedelta(days=40)


def unknown(days: list, start: int, end: int) -> bool:
    return any(day.use is None and start <= day.start and day.end <= end for day in days)


class Billing:
    """All determinants of one usage point."""

    def __init__(
        self, tariffs: Tariffs, point: rules.Point, sources: dict[str, Source], first: date, after: date, others=None
    ):
        self.tariffs, self.point, self.sources = tariffs, point, sources
        self.others = others  # the source of another usage point and channel
        self.civil = Civil(point.zone)
        self.first, self.after = around(first, after)
        self.measured: dict[tuple[str, date], int | None] = {}

    def rows(self):
        """Determinant, part, cycle and figure."""
        cycles = sorted({day for source in self.sources.values() for day in source.reads})
        for n, first in enumerate(cycles):
            self.figures: dict[tuple[str, str], Figure] = {}
            for d in self.tariffs.determinants:
                if d.get("points") and self.point.id not in d["points"]:
                    continue
                if "channel" in d and d["channel"] not in self.sources:
                    continue
                self.cycle = next(s.reads[first] for s in self.sources.values() if first in s.reads)
                self.earlier = cycles[:n]
                found = getattr(self, f"of_{d['kind']}")(d)
                for figure in found or []:
                    self.figures[d["id"], figure.part] = figure
                    yield d["id"], figure.part, self.cycle, figure

    # Helpers

    def timeline(self, calendar: str) -> Timeline:
        return self.tariffs.calendars[calendar].timeline(self.point.id, self.first, self.after)

    @staticmethod
    def round(d: dict, value: Fraction) -> int:
        how = d.get("round", {})
        return rounded(value, how.get("digits", 6), how.get("mode", "half_even"))

    def source(self, d: dict) -> tuple[Source, rules.Read] | None:
        source = self.sources[d["channel"]]
        read = source.reads.get(self.cycle.first_day)
        return None if read is None else (source, read)

    def total(self, source: Source, read: rules.Read) -> Figure:
        """The use of a cycle as the bill has it."""
        figure = Figure("", None, "", RANK["none"])
        if read.use is not None:
            figure.value = micros(read.use)
            figure.estimated = share_ppm(micros(read.estimated), figure.value)
            # The lowest of the registers that it is the difference of.
            inside = self.meters(source, read)
            ends = [read.start_register, read.end_register]
            ends += [walk.course[walk.end] for walk in inside[:-1]] + [walk.course[walk.start] for walk in inside[1:]]
            figure.quality = min(RANK[quality] for _, quality in ends)
        if all(c.installed is not None and c.installed > read.start for c in source.hung):
            figure.notes.add("begins")
        for rule, note in (("V11", "backward"), ("V14", "capacity")):
            if any(found[0] == rule and found[1] < read.end and found[2] > read.start for found in source.findings):
                figure.notes.add(note)
        inside = self.meters(source, read)
        if inside and any(walk.channel.installed is None for walk in inside):
            # Without dates a meter hangs from its first to its last reading.
            if inside[0].start > read.start or inside[-1].end < read.end:
                figure.notes.add("clipped")
        if read.use is None and all(c.installed is None for c in source.hung):
            # Nobody says when the meter was taken down, and there is no reading.
            figure.notes |= {"clipped", "nothing"}
        if figure.estimated > rules.ESTIMATED_LIMIT_PPM:
            figure.notes.add("estimated")
        figure.held = read.state != "ready"
        return figure

    @staticmethod
    def meters(source: Source, read: rules.Read) -> list:
        """The meters of a cycle, one after the other."""
        return [w for w in source.walks if max(w.start, read.start) < min(w.end, read.end)]

    # Kinds

    def of_boundary(self, d):
        source, read = self.source(d)
        name = unit(d["channel"])
        if read.use is None:
            for part in ("start", "end"):
                yield Figure(part, None, name, RANK["none"], notes={"missing"}, held=True)
            return
        for part, at, (value, quality) in (
            ("start", read.start_read_at, read.start_register),
            ("end", read.end_read_at, read.end_register),
        ):
            yield self.register(part, value, quality, name, at)
        inside = self.meters(source, read)
        for walk, following in zip(inside, inside[1:]):
            units, quality = walk.course[walk.end]
            yield self.register(f"removed:{walk.channel.meter}", walk.shown(units), quality, name, walk.end)
            units, quality = following.course[following.start]
            meter = following.channel.meter
            yield self.register(f"installed:{meter}", following.shown(units), quality, name, following.start)

    @staticmethod
    def register(part: str, value: Decimal, quality: str, unit: str, at: int) -> Figure:
        estimated = MICRO if RANK[quality] in ESTIMATES else 0
        return Figure(part, micros(value), unit, RANK[quality], estimated, (at, at))

    def of_use(self, d):
        source, read = self.source(d)
        figure = self.total(source, read)
        figure.unit = unit(d["channel"])
        if figure.value is not None:
            figure.value = self.round(d, Fraction(figure.value, MICRO))
        yield figure

    def of_bucket(self, d):
        source, read = self.source(d)
        calendar, series = self.tariffs.calendars[d["calendar"]], source.series
        timeline, name = self.timeline(d["calendar"]), unit(d["channel"])
        use = dict.fromkeys(calendar.buckets, 0)
        estimated, ranks, cut = dict(use), dict.fromkeys(use, RANK["valid"]), dict(use)
        outside = False
        for n in series.within(read.start, read.end):
            start, end, value, rank = series.starts[n], series.ends[n], series.values[n], series.ranks[n]
            stretches = timeline.stretches(start, end)
            shares = [value]
            if len(stretches) > 1:
                assert value % series.step == 0
                lengths = [e - s for s, e, _ in stretches]
                shares = [share * series.step for share in share_out(value // series.step, lengths)]
                rank = min(rank, RANK["derived"])
            for (_, _, bucket), share in zip(stretches, shares):
                if bucket is None:
                    outside = True
                    continue
                use[bucket] += share
                ranks[bucket] = min(ranks[bucket], rank)
                if rank in ESTIMATES:
                    estimated[bucket] += share
            for bucket in {bucket for _, _, bucket in stretches} if len(stretches) > 1 else ():
                if bucket is not None:
                    cut[bucket] += 1
        notes, held, closing = set(), False, read
        if d["close_to"] != "use":
            other = self.sources.get(d["close_to"])
            closing = other and other.reads.get(read.first_day)
        known = closing is not None and closing.use is not None and closing.whole
        shares = {bucket: share_ppm(estimated[bucket], use[bucket]) for bucket in use}
        # A part is not shown as a whole.
        hole = not read.whole
        if known and not outside and not hole:
            whole = micros(closing.use)
            rest = whole - sum(use.values())
            if rest and abs(rest) <= max(2 * series.step, abs(whole) // 100):
                use[max(use, key=lambda bucket: use[bucket])] += rest
            elif rest:
                notes, held = {"V16"}, True
                scaled = share_out(whole // series.step, list(use.values()))
                use = dict(zip(use, (share * series.step for share in scaled)))
        # All buckets are rounded to the rounded sum, whichever are asked for.
        values = list(use.values())
        total = self.round(d, Fraction(sum(values), MICRO))
        values = dict(zip(use, parts_of(total, values, d.get("round", {}).get("digits", 6))))
        for bucket in d.get("buckets") or calendar.buckets:
            value = values[bucket]
            marks = notes | ({"V04"} if cut[bucket] else set())
            if hole:
                yield Figure(bucket, None, name, RANK["none"], shares[bucket], notes=marks | {"missing"}, held=True)
            elif outside:
                yield Figure(bucket, None, name, RANK["none"], held=True)
            else:
                yield Figure(bucket, value, name, ranks[bucket], shares[bucket], notes=marks, held=held)

    def windows(self, d: dict, read: rules.Read):
        """Windows that count: start, end and civil day."""
        length, step = (seconds(d[key]) for key in ("window", "step"))
        stretches = None
        if "calendar" in d:
            # Times that lie whole in the buckets, neighbours put together.
            stretches = []
            for start, end, bucket in self.timeline(d["calendar"]).stretches(read.start, read.end):
                if bucket in d["within"]:
                    if stretches and stretches[-1][1] == start:
                        start = stretches.pop()[0]
                    stretches.append((start, end))
        day, n = read.first_day, 0
        while day <= read.last_day:
            midnight, following = self.civil.midnight(day), self.civil.midnight(day + timedelta(days=1))
            for start in range(midnight, following, step):
                end = start + length
                if end > read.end or (step == length and end > following):
                    continue
                if stretches is not None:
                    while n < len(stretches) and stretches[n][1] <= start:
                        n += 1
                    if n == len(stretches) or start < stretches[n][0] or end > stretches[n][1]:
                        continue
                yield start, end, day
            day += timedelta(days=1)

    def of_coincident(self, d):
        """The window in which all points used most together, and what this one used in it."""
        _, read = self.source(d)
        length, name = seconds(d["window"]), unit(d["channel"], rate=True)
        members = [self.others(point, d["channel"]) for point in d["points"]]
        best = None
        for start, end, _ in self.windows(d, read):
            places = [member.series.tiled(start, end) for member in members]
            if None in places:
                continue
            both = list(zip(members, places))
            if any(m.series.unread[b] != m.series.unread[a] for m, (a, b) in both):
                continue
            used = sum(m.series.use[b] - m.series.use[a] for m, (a, b) in both)
            if best is None or used > best[0]:
                best = (used, start, end)
        if best is None:
            for part in ("", "together"):
                yield Figure(part, None, name, RANK["none"], notes={"nothing"}, held=True)
            return
        used, start, end = best
        series = self.sources[d["channel"]].series
        a, b = series.tiled(start, end)
        own = self.round(d, Fraction((series.use[b] - series.use[a]) * 3600, length * MICRO))
        yield Figure("", own, name, RANK["valid"], 0, (start, end))
        yield Figure("together", self.round(d, Fraction(used * 3600, length * MICRO)), name, RANK["valid"], 0, (start, end))

    def of_peak(self, d):
        source, read = self.source(d)
        series, length = source.series, seconds(d["window"])
        included = d.get("estimated", "exclude") == "include"
        found, passed, missing, counted = [], None, False, False
        for start, end, day in self.windows(d, read):
            counted = True
            places = series.tiled(start, end)
            if places is None:
                missing = True
                continue
            a, b = places
            use = series.use[b] - series.use[a]
            # What failed is no maximum even where estimates may be.
            barred = series.failed if included else series.unread
            if barred[b] != barred[a]:
                passed = max(passed or 0, use)
                continue
            found.append((-use, start, end, day, a, b))
        found.sort()
        by_day = d.get("of_each") == "day"
        chosen = []
        for window in found:
            _, start, end, day, *_ = window
            # What overlaps a higher one is left out, and where one a day counts, all others of the day.
            if all((end <= other[1] or other[2] <= start) and not (by_day and other[3] == day) for other in chosen):
                chosen.append(window)
                if len(chosen) == d.get("nth", 1):
                    break
        name = unit(d["channel"], rate=True)
        notes = {"missing"} if missing else set()
        if len(chosen) < d.get("nth", 1):
            # Where no window lies in the buckets, such as out of season, there is nothing to wait for.
            notes |= {"nothing" if counted else "out_of_season"} | (set() if passed is None else {"higher"})
            figure = Figure("", None, name, RANK["none"], notes=notes, held=counted)
        else:
            use, start, end, _, a, b = chosen[-1]
            value = self.round(d, Fraction(-use * 3600, length * MICRO))
            estimated = share_ppm(series.estimated[b] - series.estimated[a], -use)
            if passed is not None and passed > -use:
                notes.add("higher")
            figure = Figure("", value, name, min(series.ranks[a:b]), estimated, (start, end), notes)
        if "ratchet" not in d:
            yield figure
            return
        floors = [self.measured.get((d["id"], first)) for first in self.earlier[-d["ratchet"]["cycles"] :]]
        self.measured[d["id"], read.first_day] = figure.value
        best = max((value for value in floors if value is not None), default=0)
        floor = self.round(d, Fraction(best * int(d["ratchet"]["percent"] * 10), 1000 * MICRO))
        measured = replace(figure, part="measured")
        if floor > (figure.value or 0):
            figure = replace(figure, value=floor, notes=figure.notes | {"ratchet"})
        yield figure
        yield measured

    def of_tier(self, d):
        source, read = self.source(d)
        total = self.total(source, read)
        name = unit(d["channel"])
        limits = [Fraction(limit) * MICRO for limit in d["limits"]]
        tiers = [Fraction(0)] * (len(limits) + 1)
        if total.value is None or not read.whole:
            for n in range(len(tiers)):
                yield replace(total, part=f"t{n + 1}", value=None, unit=name)
            return
        for first, until, anew in self.years(d, read):
            use = self.used(source, max(first, read.start), min(until, read.end))
            before = self.used(source, first, read.start) if first < read.start else 0
            if first < read.start and unknown(source.days, first, read.start):
                # What of the year was used before is no less than this.
                total = replace(total, notes=total.notes | {"missing"}, held=True)
            allowed = self.prorated(d, source, limits, anew)
            edges = [0, *allowed, None]
            for n, (low, high) in enumerate(zip(edges, edges[1:])):
                top = before + use if high is None else min(before + use, high)
                tiers[n] += max(0, top - max(before, low))
        whole = self.round(d, Fraction(sum(tiers)) / MICRO)
        assert all(tier.denominator == 1 for tier in tiers)
        values = parts_of(whole, [int(tier) for tier in tiers], d.get("round", {}).get("digits", 6))
        for n, value in enumerate(values):
            yield replace(total, part=f"t{n + 1}", value=value, unit=name)

    def years(self, d: dict, read: rules.Read):
        """The years of tiers that a cycle lies in: first instant, end, first day."""
        if d.get("period", "year") == "cycle":
            yield read.start, read.end, read.first_day
            return
        month, day = map(int, d.get("year_start", "01-01").split("-"))
        for year in range(read.first_day.year - 1, read.last_day.year + 1):
            anew, next_year = date(year, month, day), date(year + 1, month, day)
            start, end = self.civil.midnight(anew), self.civil.midnight(next_year)
            if start < read.end and read.start < end:
                yield start, end, anew

    @staticmethod
    def used(source: Source, start: int, end: int) -> int:
        days = (day for day in source.days if start <= day.start and day.end <= end)
        return sum(micros(day.use) for day in days if day.use is not None)

    def prorated(self, d: dict, source: Source, limits: list, anew: date) -> list:
        if not d.get("prorate") or d.get("period", "year") == "cycle":
            return limits
        moved = [c.installed for c in source.hung]
        if not moved or any(at is None for at in moved):
            return limits
        first = self.civil.day(min(moved))
        if first <= anew:
            return limits
        gone = (first.year - anew.year) * 12 + first.month - anew.month - (first.day < anew.day)
        if gone >= 12:
            return limits
        return [Fraction(rounded(limit * (12 - gone) / 12 / MICRO, 6, "half_even")) for limit in limits]

    def of_curve(self, d):
        source, read = self.source(d)
        series, interval, name = source.series, seconds(d["interval"]), unit(d["channel"])
        day = read.first_day
        while day <= read.last_day:
            midnight, following = self.civil.midnight(day), self.civil.midnight(day + timedelta(days=1))
            for start in range(midnight, following, interval):
                end = min(start + interval, following)
                part = datetime.fromtimestamp(start, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
                places = series.tiled(start, end)
                if places is None:
                    continue
                a, b = places
                value = series.use[b] - series.use[a]
                estimated = share_ppm(series.estimated[b] - series.estimated[a], value)
                value = self.round(d, Fraction(value, MICRO))
                yield Figure(part, value, name, min(series.ranks[a:b]), estimated, (start, end))
            day += timedelta(days=1)

    def of_evidence(self, d):
        source, read = self.source(d)
        series = source.series
        length = read.end - read.start
        time = dict.fromkeys(STATES, 0)
        for n in series.within(read.start, read.end):
            time[QUALITIES[series.ranks[n]]] += series.ends[n] - series.starts[n]
        time["none"] += length - sum(time.values())
        yield Figure("days", ((read.last_day - read.first_day).days + 1) * MICRO, "d", RANK["valid"])
        inside = [day for day in source.days if read.start <= day.start and day.end <= read.end]
        known = dict.fromkeys((day.day for day in inside), 0)
        for day in inside:
            known[day.day] += 0 if day.use is None else day.end - day.start
        whole = {day: self.civil.midnight(day + timedelta(days=1)) - self.civil.midnight(day) for day in known}
        covered = [day for day in known if known[day] == whole[day]]
        yield Figure("days_covered", len(covered) * MICRO, "d", RANK["valid"])
        yield Figure("estimated", read.share_ppm, "1", RANK["valid"])
        for state in STATES:
            yield Figure(f"share_{state}", share_ppm(time[state], length), "1", RANK["valid"])
        for part, what in (("missing_slots", "1"), ("outage_h", "h")):
            yield Figure(part, 0, what, RANK["valid"])
        found = sum(start < read.end and (end > read.start or start >= read.start) for _, start, end in source.findings)
        yield Figure("findings", found * MICRO, "1", RANK["valid"])

    def of_formula(self, d):
        """Python's own arithmetic over Fractions; names are looked up."""
        text = re.sub(r'(\w+)@"([^"]+)"', r'at("\1", "\2")', d["formula"])
        tree = ast.parse(text, mode="eval")
        used: list[Figure] = []

        def look(name: str, part: str = "") -> Fraction | None:
            if name in self.sources:
                source = self.sources[name]
                figure = self.total(source, source.reads[self.cycle.first_day])
            else:
                figure = self.figures[name, part]
            used.append(figure)
            return None if figure.value is None else Fraction(figure.value, MICRO)

        def value(node):
            match node:
                case ast.Expression(body):
                    return value(body)
                case ast.Constant(number):
                    return Fraction(ast.get_source_segment(text, node)) if not isinstance(number, str) else number
                case ast.Name(name):
                    return look(name)
                case ast.Subscript(ast.Name(name), ast.Constant(part)):
                    return look(name, part)
                case ast.UnaryOp(ast.USub(), operand):
                    return -value(operand)
                case ast.BinOp(left, operator, right):
                    a, b = value(left), value(right)
                    operate = {ast.Add: Fraction.__add__, ast.Sub: Fraction.__sub__, ast.Mult: Fraction.__mul__}
                    operate[ast.Div] = Fraction.__truediv__
                    return operate[type(operator)](a, b)
                case ast.Call(ast.Name(name), arguments):
                    return {"max": max, "min": min, "abs": abs}[name](*map(value, arguments))
            raise SystemExit(f"{d['formula']}: {ast.dump(node)}")

        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} - {"max", "min", "abs"}
        if any(name not in self.sources and not any(known == name for known, _ in self.figures) for name in names):
            return
        try:
            result = value(tree)
        except TypeError:  # something is not known
            yield Figure("", None, d["unit"], RANK["none"], held=True)
            return
        quality = min(figure.quality for figure in used)
        held = any(figure.held for figure in used)
        estimated = max(figure.estimated for figure in used)
        yield Figure("", self.round(d, result), d["unit"], quality, estimated, notes={"held"} if held else set(), held=held)

    def of_unmetered(self, d):
        hours = Fraction(self.cycle.end - self.cycle.start, 3600)
        days = (self.cycle.last_day - self.cycle.first_day).days + 1
        if "calendar" in d:
            stretches = self.timeline(d["calendar"]).stretches(self.cycle.start, self.cycle.end)
            hours = Fraction(sum(end - start for start, end, bucket in stretches if bucket in d["within"]), 3600)
        use = sum(
            item["count"] * (Fraction(item["a_day"]) * days if "a_day" in item else Fraction(item["an_hour"]) * hours)
            for item in d["items"]
        )
        yield Figure("", self.round(d, use), d["unit"], RANK["derived"])

    def of_power_factor(self, d):
        """cos phi of the cycle's energies, reactive ones by their size, and what is added to the bill for it."""
        both = [self.uses(d["active"]), self.uses(d["reactive"])]
        if None in both:
            return
        (active, *ours), (reactive, *theirs) = both
        square = active * active + reactive * reactive
        if square == 0:
            yield Figure("", None, "1", RANK["none"], notes={"nothing"})
            return
        quality, estimated, held = min(ours[0], theirs[0]), max(ours[1], theirs[1]), ours[2] or theirs[2]
        notes = {"held"} if held else set()

        def cos(steps: int) -> int:
            """In steps of 1, half up: exactly, out of the square root's whole part in half steps."""
            return (math.isqrt(4 * steps * steps * active * active // square) + 1) // 2

        yield Figure("", self.round(d, Fraction(cos(MICRO), MICRO)), "1", quality, estimated, notes=notes, held=held)
        standard = int(Decimal(d["standard"]) * 100)
        hundredths = cos(100)
        if hundredths >= standard:
            percent = -min(Fraction(75, 100), Fraction(15, 100) * (hundredths - standard))
        else:
            # Half a percent for each hundredth, from 20 hundredths on a whole one, from 25 on two.
            short = standard - hundredths
            percent = Fraction(min(short, 20), 2) + max(0, min(short, 25) - 20) + 2 * max(0, short - 25)
        yield Figure("adjustment", rounded(percent, 6, "half_even"), "%", quality, estimated, notes=set(notes), held=held)

    def uses(self, channels: list[str]) -> tuple[int, int, int, bool] | None:
        """Sum of uses by their size, the lowest quality, the largest share estimated, and whether one is held."""
        sources = [self.sources[channel] for channel in channels if channel in self.sources]
        found = [self.total(source, source.reads[self.cycle.first_day]) for source in sources]
        if len(found) < len(channels) or any(figure.value is None for figure in found):
            return None
        return (
            sum(abs(figure.value) for figure in found),
            min(figure.quality for figure in found),
            max(figure.estimated for figure in found),
            any(figure.held for figure in found),
        )


def seconds(text: str) -> int:
    return int(text[:-1]) * {"s": 1, "m": 60, "h": 3600, "d": DAY}[text[-1]]
