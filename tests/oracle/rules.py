"""The rules of usage and billing once more, in exact Python, for comparison with the product.

Written from the specification and not from the product's source. Registers are integers of the installation's resolution,
weights are Fractions, amounts that leave are Decimals: no float touches a number that bears money. Times are whole seconds
since 1970, UTC; civil time comes from Python's zoneinfo.

The stages, each a function of the one before:

1. `accept`: readings of one installation and register channel, as they came, to the readings that stand.
2. `pieces`: each stretch between two standing readings, cut at the borders of slots and days and shared out exactly.
3. `slots_and_days`: the pieces of a slot, and of a civil day, added up.
4. `bill`: the days of a cycle, added up.
"""

from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from zoneinfo import ZoneInfo

HOUR, DAY = 3600, 86_400

JITTER_STEPS = 20  # a fall of at most so many steps of the resolution jitters
SETTLE = 6 * HOUR  # later readings must stay below for so long before a deeper fall is a reset
MARGIN = Fraction(11, 10)  # of the physical maximum
ACTUAL_GAP = {"water": 2 * HOUR}  # an hour between readings at most so far apart is actual
LINEAR_GAP = 2 * HOUR
BOUNDARY_GAP = 24 * HOUR
LOOKBACK_DAYS = 90
AVERAGE = 28 * DAY
PROJECT = 31 * DAY
ESTIMATED_LIMIT_PPM = 50_000

RANK = {q: n for n, q in enumerate(("none", "failed", "estimated", "estimated_scaled", "derived", "valid"))}
NAMES = list(RANK)
CLEAN = RANK["derived"]


@dataclass
class Channel:
    """A register channel of one installation, as the registry has it."""

    name: str
    commodity: str
    meter: str
    installed: int | None
    removed: int | None
    multiplier: Decimal = Decimal(1)
    digits: int | None = None
    resolution: Decimal = Decimal("0.001")
    interval: int = 900
    capacity: Decimal | None = None
    start: Decimal | None = None
    end: Decimal | None = None

    def units(self, value: Decimal) -> int | None:
        """The register in steps of its resolution; None when it has more decimals or more digits than that."""
        units = value / self.resolution
        if units != int(units) or value < 0 or (self.digits is not None and value >= 10**self.digits):
            return None
        return int(units)

    @property
    def wrap(self) -> int | None:
        return None if self.digits is None else int(Decimal(10) ** self.digits / self.resolution)

    def __post_init__(self):
        self.most = None  # steps a second
        if self.capacity is not None:
            step = Fraction(self.resolution) * Fraction(self.multiplier)
            self.most = MARGIN * Fraction(self.capacity) / step / HOUR

    def too_much(self, steps: int, seconds: int) -> bool:
        """Whether so many steps are more than can be used in the time."""
        return self.most is not None and steps * self.most.denominator > self.most.numerator * seconds


@dataclass
class Point:
    id: str
    zone: str
    billing_day: int
    customer: str
    channels: list[Channel] = field(default_factory=list)


class Civil:
    """Days of one zone."""

    def __init__(self, zone: str):
        self.zone = ZoneInfo(zone)
        self.midnights: dict[date, int] = {}
        self.around: tuple[date, int, int] = (date.min, 0, 0)

    def window(self, at: int) -> tuple[date, int, int]:
        """The civil day of an instant, its first instant and the next day's."""
        if not self.around[1] <= at < self.around[2]:
            day = datetime.fromtimestamp(at, self.zone).date()
            self.around = (day, self.midnight(day), self.midnight(day + timedelta(days=1)))
        return self.around

    def day(self, at: int) -> date:
        return self.window(at)[0]

    def midnight(self, day: date) -> int:
        """The first instant of a civil day. Where midnight itself is skipped, that is the change."""
        known = self.midnights.get(day)
        if known is None:
            known = int(datetime(day.year, day.month, day.day, tzinfo=self.zone).timestamp())
            while datetime.fromtimestamp(known - 1, self.zone).date() >= day:
                known -= 1800
            while datetime.fromtimestamp(known, self.zone).date() < day:
                known += 1800
            self.midnights[day] = known
        return known

    def clock(self, at: int) -> tuple[date, int]:
        """Civil day and seconds of the wall clock."""
        day, midnight, following = self.window(at)
        if following - midnight == DAY:
            return day, at - midnight
        local = datetime.fromtimestamp(at, self.zone)
        return day, local.hour * 3600 + local.minute * 60 + local.second

    def both(self, local: datetime) -> list[int]:
        """The instants at which the clock shows a local time: none, one or two."""
        found = {int(local.replace(tzinfo=self.zone, fold=fold).timestamp()) for fold in (0, 1)}
        return sorted(at for at in found if datetime.fromtimestamp(at, self.zone).replace(tzinfo=None) == local)


def share_out(units: int, weights: list) -> list[int]:
    """Integers in proportion to the weights that add up exactly: largest remainder, ties to the earliest."""
    total = sum(weights)
    exact = [units * Fraction(weight) / total for weight in weights]
    shares = [share.numerator // share.denominator for share in exact]
    order = sorted(range(len(exact)), key=lambda n: (shares[n] - exact[n], n))
    for n in order[: units - sum(shares)]:
        shares[n] += 1
    return shares


# ---------------------------------------------------------------------------------------------------------------------
# 1. Which readings stand


def one_a_time(channel: Channel, readings: list[tuple[int, int]], findings: list) -> list[tuple[int, int]]:
    """Readings by time, exact repeats dropped; of values that contradict, the latest that keeps the order."""
    by_time: dict[int, list[int]] = {}
    for at, units in readings:
        values = by_time.setdefault(at, [])
        if units not in values:
            values.append(units)
    times = sorted(by_time)
    chosen: list[tuple[int, int]] = []
    for n, at in enumerate(times):
        values = by_time[at]
        if len(values) > 1:
            if max(values) - min(values) > 1:
                findings.append(("V05", at, at))
            floor = chosen[-1][1] if chosen else 0
            later = [by_time[time] for time in times[n + 1 : n + 4]]
            # What is in doubt itself is a poor judge.
            judges = [v for vs in later if len(vs) == 1 for v in vs] + [v for vs in later for v in vs]
            ceiling = next((v for v in judges if v >= floor - JITTER_STEPS), None)
            for room in (JITTER_STEPS, 0):
                fits = [v for v in values if v >= floor - room and (ceiling is None or v <= ceiling + room)]
                values = fits or values
        chosen.append((at, values[-1]))
    return chosen


@dataclass(frozen=True, slots=True)
class Knot:
    """A reading that stands."""

    at: int
    units: int  # wraps counted on
    quality: str = "valid"  # derived: the register stood at its maximum while it showed a little less
    too_much: bool = False  # more than the connection can carry since the knot before


def accept(channel: Channel, readings: list[tuple[int, int]], findings: list) -> list[list[Knot]]:
    """The readings that stand, with wraps counted on; what was found on the way, as rule, start and end.

    A line ends where the register fell for good without an exchange on file, and another begins.
    """
    wrap = channel.wrap
    points = one_a_time(channel, readings, findings)
    line: list[Knot] = []
    lines = [line]
    top: Knot | None = None
    turns = 0
    for n, (at, units) in enumerate(points, 1):
        if top is None:
            top = Knot(at, units)
            line.append(top)
            continue
        shown = top.units - turns
        step = units - shown
        if step < 0:
            if -step <= JITTER_STEPS:
                line.append(Knot(at, top.units, "derived"))
                continue
            if wrap is not None and 10 * shown >= 9 * wrap and not channel.too_much(step + wrap, at - top.at):
                turns += wrap
                findings.append(("V12", top.at, at))
                top = Knot(at, units + turns)
                line.append(top)
            elif stays_below(points[n:], at, shown):
                findings.append(("V11", top.at, at))
                turns, top = 0, Knot(at, units)
                line = [top]
                lines.append(line)
            else:
                findings.append(("V13", at, at))
            continue
        if channel.too_much(step - 1, at - top.at):
            following = points[n : n + 2]
            confirmed = len(following) == 2 and all(
                later >= units and not channel.too_much(later - units - 1, later_at - at) for later_at, later in following
            )
            if not confirmed:
                findings.append(("V13", at, at))
                continue
        too_much = channel.too_much(step, max(at - top.at, channel.interval))
        if too_much:
            findings.append(("V14", top.at, at))
        top = Knot(at, units + turns, "valid", too_much)
        line.append(top)
    return [without_near_lows(line, actual_gap(channel)) for line in lines]


def stays_below(points: list[tuple[int, int]], since: int, shown: int) -> bool:
    """Whether a deep fall is another register: it does not return for long enough."""
    for at, units in points:
        if units >= shown - JITTER_STEPS:
            return False
        if at - since >= SETTLE:
            return True
    return False


def actual_gap(channel: Channel) -> int:
    """Readings nearer than this leave nothing to fill: water's limit, or no room for another reading."""
    return max(ACTUAL_GAP.get(channel.commodity, 0), channel.interval * 3 // 2)


def without_near_lows(line: list[Knot], near: int) -> list[Knot]:
    """A low reading is dropped where the readings around it are near enough; else the maximum stands there."""
    kept: list[Knot] = []
    n = 0
    while n < len(line):
        if line[n].quality == "valid":
            kept.append(line[n])
            n += 1
            continue
        end = n
        while end < len(line) and line[end].quality != "valid":
            end += 1
        if end == len(line) or line[end].at - line[n - 1].at > near:
            kept += line[n:end]
        n = end
    return kept


# ---------------------------------------------------------------------------------------------------------------------
# 2. Pieces between readings


@dataclass(slots=True)
class Piece:
    start: int
    end: int
    units: int
    quality: str


class History:
    """What the same customer used before, by slot: what fills are made of."""

    def __init__(self, civil: Civil):
        self.civil = civil
        self.slots: dict[tuple[date, int, int], Decimal] = {}

    def add(self, slot):
        if RANK[slot.quality] >= CLEAN:
            day, clock = self.civil.clock(slot.start)
            # Of the hour that autumn repeats, the second.
            self.slots[day, clock, slot.end - slot.start] = slot.use

    def like_day(self, day: date, clock: int, length: int) -> Fraction | None:
        """E4: mean of the same slot of the three nearest same weekdays of 90 days, of two at least."""
        return self.mean((clock, length), day, range(7, LOOKBACK_DAYS + 1, 7), 3, 2)

    def day_type(self, day: date, clock: int, length: int) -> Fraction | None:
        """E5: mean of the same slot of the ten nearest days that are workdays, or rest days, like it; of five at least."""
        rest = day.weekday() >= 5
        alike = (n for n in range(1, LOOKBACK_DAYS + 1) if ((day - timedelta(days=n)).weekday() >= 5) == rest)
        return self.mean((clock, length), day, alike, 10, 5)

    def mean(self, slot: tuple[int, int], day: date, back, most: int, least: int) -> Fraction | None:
        found = []
        for days in back:
            use = self.slots.get((day - timedelta(days=days), *slot))
            if use is not None:
                found.append(use)
                if len(found) == most:
                    break
        return Fraction(sum(found)) / len(found) if len(found) >= least else None


@dataclass(slots=True)
class Slot:
    start: int
    end: int
    use: Decimal | None
    quality: str


def grid(civil: Civil, interval: int, start: int, end: int) -> list[int]:
    """Borders of slots strictly inside a stretch of time: steps of the interval from each midnight on."""
    borders: list[int] = []
    at = start
    while True:
        _, midnight, following = civil.window(at)
        first = midnight + ((at - midnight) // interval + 1) * interval
        borders += range(first, min(end, following), interval)
        if following >= end:
            return borders
        borders.append(following)
        at = following


def midnights(civil: Civil, start: int, end: int) -> list[int]:
    """Midnights strictly inside."""
    found = []
    at = civil.window(start)[2]
    while at < end:
        found.append(at)
        at = civil.window(at)[2]
    return found


class Walk:
    """One installation's register: from readings that stand to slots, and to its course at midnights."""

    def __init__(self, civil: Civil, channel: Channel, knots: list[Knot], history: History, findings: list, last: bool):
        self.civil, self.channel, self.history = civil, channel, history
        self.findings = findings
        self.knots = knots
        self.step = channel.resolution * channel.multiplier
        self.start, self.end = knots[0].at, knots[-1].at
        if last and channel.removed is not None and channel.removed - self.end <= PROJECT:
            self.end = channel.removed
        self.slots: list[Slot] = []
        self.course: dict[int, tuple[int, str]] = {}  # readings, midnights and both ends: register and its quality
        self.loose: list[tuple[int, int]] = []  # between readings, where midnights are estimates
        self.open: list[Piece] = []

    def run(self):
        for knot in self.knots:
            self.course[knot.at] = (knot.units, knot.quality)
        for a, b in zip(self.knots, self.knots[1:]):
            if b.at - a.at == self.channel.interval and not self.open and self.slot(a.at) == (a.at, b.at):
                # A slot with a reading at both ends, as most are.
                self.put(Slot(a.at, b.at, (b.units - a.units) * self.step, between_two(a, b)))
            else:
                self.take(self.between(a, b))
        if self.end > self.knots[-1].at:
            self.take(self.projected(self.knots[-1]))
        if self.open:
            self.emit()

    # Pieces -> slots

    def take(self, pieces: list[Piece]):
        for piece in pieces:
            self.open.append(piece)
            if piece.end == self.slot(piece.start)[1]:
                self.emit()

    def slot(self, at: int) -> tuple[int, int]:
        """The slot of the grid that an instant lies in."""
        _, midnight, following = self.civil.window(at)
        start = midnight + (at - midnight) // self.channel.interval * self.channel.interval
        return start, min(start + self.channel.interval, following)

    def emit(self):
        pieces, self.open = self.open, []
        worst = min(pieces, key=lambda piece: RANK[piece.quality])
        start, end = pieces[0].start, pieces[-1].end
        slot = Slot(start, end, sum(piece.units for piece in pieces) * self.step, worst.quality)
        if (start, end) == self.slot(start):
            self.put(slot)
        else:
            self.slots.append(slot)

    def put(self, slot: Slot):
        self.slots.append(slot)
        self.history.add(slot)

    # Readings -> pieces

    def between(self, a: Knot, b: Knot) -> list[Piece]:
        units, gap = b.units - a.units, b.at - a.at
        borders = [*grid(self.civil, self.channel.interval, a.at, b.at), b.at]
        if gap > actual_gap(self.channel):
            self.findings.append(("V09", a.at, b.at))
        if gap <= actual_gap(self.channel):
            pieces = self.straight(a, b, borders, between_two(a, b))
            self.at_midnights(a, b, pieces, "derived")
            return pieces
        if units == 0:
            # A register that never falls leaves nothing unknown between equal readings (E2).
            pieces = self.straight(a, b, borders, "derived")
            self.at_midnights(a, b, pieces, "derived")
            return pieces
        if gap <= BOUNDARY_GAP:
            # The register at midnight lies on the straight line; each part is a whole of its own.
            ends = [*midnights(self.civil, a.at, b.at), b.at]
            pieces, start = [], a.at
            for part in self.straight(a, b, ends, "derived"):
                inside = [border for border in borders if start < border <= part.end]
                pieces += self.filled(gap, start, inside, part.units)
                start = part.end
            self.at_midnights(a, b, pieces, "derived")
            return pieces
        pieces = self.filled(gap, a.at, borders, units)
        self.at_midnights(a, b, pieces, "estimated_scaled")
        if midnights(self.civil, a.at, b.at):
            self.loose.append((a.at, b.at))
        return pieces

    def at_midnights(self, a: Knot, b: Knot, pieces: list[Piece], quality: str):
        wanted = midnights(self.civil, a.at, b.at)
        if wanted:
            at = a.units
            for piece in pieces:
                at += piece.units
                if piece.end in wanted:
                    self.course[piece.end] = (at, quality)

    @staticmethod
    def straight(a: Knot, b: Knot, borders: list[int], quality: str) -> list[Piece]:
        """Registers on the straight line between two readings, in whole steps, half a step up."""
        pieces, start, before = [], a.at, 0
        for border in borders:
            upto = (2 * (b.units - a.units) * (border - a.at) + b.at - a.at) // (2 * (b.at - a.at))
            pieces.append(Piece(start, border, upto - before, quality))
            start, before = border, upto
        return pieces

    def filled(self, gap: int, start: int, borders: list[int], units: int) -> list[Piece]:
        """A whole that is known, shared out to its slots by the first fill that applies to each."""
        stretches = list(zip([start, *borders], borders))
        if units == 0 or len(stretches) == 1:
            return [Piece(s, e, units if len(stretches) == 1 else 0, "derived") for s, e in stretches]
        if gap <= LINEAR_GAP:
            weights = [e - s for s, e in stretches]
        else:
            even = Fraction(units) * Fraction(self.step)
            length = borders[-1] - start
            weights = [self.like(s, e) for s, e in stretches]
            weights = [even * (e - s) / length if w is None else w for (s, e), w in zip(stretches, weights)]
            if sum(weights) == 0:
                weights = [e - s for s, e in stretches]
        shares = self.by_day(units, stretches, weights)
        return [Piece(s, e, share, "estimated_scaled") for (s, e), share in zip(stretches, shares)]

    def by_day(self, units: int, stretches: list[tuple[int, int]], weights: list) -> list[int]:
        """Shares of slots, days first: the register at a midnight is what the weight up to it says, half a step up."""
        total, running, before, begin = Fraction(sum(weights)), Fraction(0), 0, 0
        shares: list[int] = []
        for n, ((_, end), weight) in enumerate(zip(stretches, weights), 1):
            running += weight
            if n == len(stretches) or self.civil.window(end)[1] == end:
                upto = units * running / total
                upto = (2 * upto.numerator + upto.denominator) // (2 * upto.denominator)
                day = weights[begin:n]
                if not any(day):
                    day = [1] * len(day)
                shares += share_out(upto - before, day)
                before, begin = upto, n
        return shares

    def like(self, start: int, end: int) -> Fraction | None:
        """What the slot used before, E4 or else E5, in proportion to the part of it that is asked for."""
        first, after = self.slot(start)
        day, clock = self.civil.clock(first)
        use = self.history.like_day(day, clock, after - first)
        if use is None:
            use = self.history.day_type(day, clock, after - first)
        return None if use is None else use * Fraction(end - start, after - first)

    def projected(self, last: Knot) -> list[Piece]:
        """From the last reading to a removal without a register: like days, else E8, the average of 28 days."""
        self.findings.append(("V09", last.at, self.end))
        borders = [*grid(self.civil, self.channel.interval, last.at, self.end), self.end]
        stretches = list(zip([last.at, *borders], borders))
        since = next(knot for knot in self.knots if last.at - knot.at <= AVERAGE)
        rate = None
        if last.at > since.at:
            rate = Fraction(last.units - since.units, last.at - since.at) * Fraction(self.step)
        weights = []
        for s, e in stretches:
            use = self.like(s, e)
            weights.append(rate * (e - s) if use is None else use)
        steps = sum(weights) / Fraction(self.step)
        units = (2 * steps.numerator + steps.denominator) // (2 * steps.denominator)
        if not any(weights):
            weights = [e - s for s, e in stretches]
        shares = self.by_day(units, stretches, weights)
        pieces = [Piece(s, e, share, "estimated") for (s, e), share in zip(stretches, shares)]
        wanted = {*midnights(self.civil, last.at, self.end), self.end}
        at = last.units
        for piece in pieces:
            at += piece.units
            if piece.end in wanted:
                self.course[piece.end] = (at, "estimated")
        self.loose.append((last.at, self.end + 1))  # nothing is known at its end either
        return pieces

    # Slots -> days

    def days(self):
        """Civil days, cut to the installation: start, end, use, what of it is an estimate, both registers."""
        borders = [self.start, *midnights(self.civil, self.start, self.end), self.end]
        for start, end in zip(borders, borders[1:]):
            (before, before_quality), (after, after_quality) = self.course[start], self.course[end]
            loose = 0
            for a, b in self.loose:
                if a < end and start < b:
                    loose += self.at(min(b, end)) - self.at(max(a, start)) if self.touches(a, b, start, end) else 0
            yield Day(
                self.civil.day(start),
                start,
                end,
                (after - before) * self.step,
                loose * self.step,
                (self.shown(before), before_quality),
                (self.shown(after), after_quality),
                self.channel.meter,
            )

    @staticmethod
    def touches(a: int, b: int, start: int, end: int) -> bool:
        """Whether a border of the time lies inside the gap."""
        return a < start < b or a < end < b

    def at(self, at: int) -> int:
        return self.course[at][0]

    def shown(self, units: int) -> Decimal:
        wrap = self.channel.wrap
        return (units if wrap is None else units % wrap) * self.channel.resolution


def between_two(a: Knot, b: Knot) -> str:
    """The quality of what was used between two readings that are near enough."""
    if b.too_much:
        return "failed"
    return "valid" if a.quality == b.quality == "valid" else "derived"


@dataclass
class Day:
    day: date
    start: int
    end: int
    use: Decimal | None
    estimated: Decimal
    start_register: tuple[Decimal | None, str | None]
    end_register: tuple[Decimal | None, str | None]
    meter: str


def unknown_days(civil: Civil, meter: str, start: int, end: int):
    """Civil days, cut to a time of which nothing is known."""
    borders = [start, *midnights(civil, start, end), end]
    for a, b in zip(borders, borders[1:]):
        yield Day(civil.day(a), a, b, None, Decimal(0), (None, None), (None, None), meter)


# ---------------------------------------------------------------------------------------------------------------------
# 4. Bills


@dataclass
class Read:
    """What one usage point and channel is billed by for one cycle."""

    first_day: date
    last_day: date
    start: int
    end: int
    start_read_at: int | None = None
    start_register: tuple[Decimal | None, str | None] = (None, None)
    end_read_at: int | None = None
    end_register: tuple[Decimal | None, str | None] = (None, None)
    use: Decimal | None = None
    estimated: Decimal = Decimal(0)
    share_ppm: int = 0
    whole: bool = False  # nothing of it is unknown
    covered_s: int = 0
    state: str = "held"


def cycles(billing_day: int, first: date, after: date):
    """Cycles whose last day is in a month that the days touch, as first day and the day after the last."""
    month = first.replace(day=1)
    while month < after:
        end = next_month(month) if billing_day == 1 else month.replace(day=billing_day)
        yield previous_month(end), end
        month = next_month(month)


def next_month(day: date) -> date:
    return day.replace(year=day.year + day.month // 12, month=day.month % 12 + 1)


def previous_month(day: date) -> date:
    return day.replace(year=day.year - (day.month == 1), month=(day.month - 2) % 12 + 1)


def bill(civil: Civil, walks: list[Walk], hung: list[Channel], first_day: date, after: date, findings: list) -> Read | None:
    """The cycle's parts, one an installation, added up; None where no meter can have hung."""
    start, end = civil.midnight(first_day), civil.midnight(after)
    if not any((c.installed is None or c.installed < end) and (c.removed is None or c.removed > start) for c in hung):
        return None
    read = Read(first_day, after - timedelta(days=1), start, end)
    parts = [(walk, max(start, walk.start), min(end, walk.end)) for walk in walks]
    parts = [(walk, a, b) for walk, a, b in parts if a < b]
    if not parts:
        return read
    read.use = Decimal(0)
    for walk, a, b in parts:
        read.use += (walk.at(b) - walk.at(a)) * walk.step
        for gap_start, gap_end in walk.loose:
            if Walk.touches(gap_start, gap_end, a, b):
                read.estimated += (walk.at(min(b, gap_end)) - walk.at(max(a, gap_start))) * walk.step
        read.covered_s += b - a
    (opening, read.start_read_at, _), (closing, _, read.end_read_at) = parts[0], parts[-1]
    units, quality = opening.course[read.start_read_at]
    read.start_register = (opening.shown(units), quality)
    units, quality = closing.course[read.end_read_at]
    read.end_register = (closing.shown(units), quality)
    read.share_ppm = round(read.estimated * 1_000_000 / read.use) if read.use else 0
    touching = {rule for rule, since, until in findings if since < end and until > start}
    read.whole = "V11" not in touching and not hole(parts, hung, start, end)
    if read.share_ppm <= ESTIMATED_LIMIT_PPM and read.whole and "V14" not in touching:
        read.state = "ready"
    return read


def hole(parts, hung: list[Channel], start: int, end: int) -> bool:
    """Whether a meter is missing: what lies before the first meter, or outside of undated readings, does not count."""
    at = start
    for _, a, b in [*parts, (None, end, end)]:
        if a > at:
            there = [c for c in hung if (c.installed is None or c.installed <= at) and (c.removed is None or at < c.removed)]
            begins = all(c.installed is not None and c.installed >= a for c in hung) and a < end
            if not begins and not (there and there[0].installed is None):
                return True
        at = max(at, b)
    return False
