"""How far estimates are from the truth: gaps are cut into recorded data, and what fills them is compared with what was cut.

    estimation.py cut SET --data DIR --out DIR     writes the set with gaps, in the folder's form, and a list of the gaps
    estimation.py score SET --data DIR --out DIR --lake DIR

Between the two the cut set is replayed into a lake and the job `usage` runs. By length of gap, in shares of the true use:
`slots`, the sum of every slot's distance from the truth; `total`, that of every gap's total; `bias`, the sum of differences.

Beside the product stand two plain ways with the same knowledge: a straight line (for a register between the readings around
the gap, for interval use between the slots around it), and the mean of the same slot of the three nearest same weekdays
before, or of two, which no register scales; where there are no two it takes the straight line.
"""

import argparse
import gzip
import json
import pathlib
import random
import sys
from collections import defaultdict
from datetime import date, datetime
from decimal import Decimal
from fractions import Fraction

import billing_year
import rules
from rules import HOUR, Channel, Civil, History, Slot, Walk

LENGTHS = [2, 6, 24, 168]  # hours
SEED = 20_160_301
FILES = {"daiad": "daiad-water/readings.csv.gz", "swiss": "swiss-electricity/intervals.csv.gz"}
QUARTER = 900
FAR_ABOVE = "2046645"  # no home: alone it would decide every figure


class Daiad:
    channel, interval = "volume_m3", HOUR

    def __init__(self, data: pathlib.Path):
        self.civil = Civil("Europe/Madrid")
        self.lines = defaultdict(list)
        with gzip.open(data / FILES["daiad"], "rt", encoding="utf-8") as file:
            self.header = next(file)
            for line in file:
                meter, at, litres, _ = line.split(";")
                self.lines[meter].append((datetime.strptime(at, "%d/%m/%Y %H:%M:%S"), Decimal(litres) / 1000, line))
        self.instants = {
            meter: [self.civil.both(at)[0] for at, _, _ in found] for meter, found in self.lines.items()
        }

    def point(self, meter: str) -> str:
        return f"UP-{meter}"

    def walk(self, meter: str, cut: list) -> Walk:
        """Slots out of what is left, by the oracle's rules."""
        channel = Channel("volume_m3", "water", meter, None, None, interval=HOUR, capacity=Decimal("3.125"))
        local = [
            (at, value)
            for (at, value, _), instant in zip(self.lines[meter], self.instants[meter])
            if not any(a <= instant < b for a, b in cut)
        ]
        readings = [(at, channel.units(value)) for at, value in billing_year.resolved(self.civil, local)]
        (line,) = rules.accept(channel, readings, [])
        walk = Walk(self.civil, channel, line, History(self.civil), [], last=True)
        walk.run()
        return walk

    def truth(self, meter: str) -> dict[int, Decimal]:
        return {slot.start: slot.use for slot in self.walk(meter, []).slots if slot.quality == "valid"}

    def straight(self, walk: Walk, a: int, b: int) -> dict[int, Fraction]:
        before = max((k for k in walk.knots if k.at < a), key=lambda k: k.at)
        after = min((k for k in walk.knots if k.at >= b), key=lambda k: k.at)
        rate = Fraction(after.units - before.units, after.at - before.at) * Fraction(walk.step)
        return {at: rate * HOUR for at in range(a, b, HOUR)}

    def left(self, meter: str, cut: list):
        walk = self.walk(meter, cut)
        return walk.history, lambda a, b: self.straight(walk, a, b)


class Swiss:
    channel, interval = "energy_import_delta_kwh", QUARTER

    def __init__(self, data: pathlib.Path):
        self.civil = Civil("Europe/Zurich")
        self.lines = defaultdict(list)
        with gzip.open(data / FILES["swiss"], "rt", encoding="utf-8") as file:
            self.header = next(file)
            for line in file:
                home, week, slot, kwh = line.rstrip("\n").split(",")
                if home == FAR_ABOVE:
                    continue
                monday = self.civil.midnight(date.fromisocalendar(2015, int(week), 1))
                self.lines[home].append((monday + (int(slot) - 1) * QUARTER, Decimal(kwh), line))
        self.instants = {home: [at for at, _, _ in found] for home, found in self.lines.items()}

    def point(self, home: str) -> str:
        return f"UP-swiss-{home}"

    def truth(self, home: str) -> dict[int, Decimal]:
        return {at: value for at, value, _ in self.lines[home]}

    def left(self, home: str, cut: list):
        history, known = History(self.civil), self.truth(home)
        for at, value, _ in self.lines[home]:
            if not any(a <= at < b for a, b in cut):
                history.add(Slot(at, at + QUARTER, value, "valid"))

        def straight(a: int, b: int) -> dict[int, Fraction]:
            first, last, steps = known[a - QUARTER], known[b], (b - a) // QUARTER + 1
            line = lambda n: Fraction(first) + (Fraction(last) - Fraction(first)) * n / steps
            return {at: line(n) for n, at in enumerate(range(a, b, QUARTER), 1)}

        return history, straight


def choose(data, meter: str, rng: random.Random) -> list[tuple[int, int, int]]:
    """Gaps of one meter that do not touch, where the truth is known, and some weeks after its first reading."""
    truth = data.truth(meter)
    if len(truth) < 1000:
        return []
    slots = sorted(truth)
    weeks, each = (6, {2: 4, 6: 4, 24: 4, 168: 2}) if data.interval == HOUR else (3, {2: 3, 6: 2, 24: 1, 168: 0})
    if data.interval != HOUR and rng.random() < 0.5:
        each = {168: 1}
    first = slots[0] + weeks * 7 * 86_400
    gaps: list[tuple[int, int, int]] = []
    for hours in reversed(LENGTHS):
        wanted = each.get(hours, 0)
        for _ in range(200):
            if not wanted:
                break
            a = rng.choice(slots)
            b = a + hours * HOUR
            around = range(a - 2 * HOUR, b + 2 * HOUR, data.interval)
            free = all(b + 86_400 <= other or end + 86_400 <= a for other, end, _ in gaps)
            if a >= first and a % HOUR == 0 and free and all(at in truth for at in around):
                gaps.append((a, b, hours))
                wanted -= 1
    return gaps


def cut(data, name: str, out: pathlib.Path):
    rng = random.Random(SEED)
    gaps = {meter: choose(data, meter, rng) for meter in sorted(data.lines)}
    path = out / FILES[name]
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", encoding="utf-8", compresslevel=1) as file:
        file.write(data.header)
        for meter, found in data.lines.items():
            for (_, _, line), at in zip(found, data.instants[meter]):
                if not any(a <= at < b for a, b, _ in gaps[meter]):
                    file.write(line)
    (out / f"{name}-gaps.json").write_text(json.dumps(gaps))
    print(f"{sum(map(len, gaps.values()))} gaps in {len(gaps)} meters of {name}")


def score(data, name: str, out: pathlib.Path, lake: pathlib.Path) -> bool:
    """Prints the table; whether every slot has an estimate and none of the figures by slot is worse than the straight line's."""
    gaps = json.loads((out / f"{name}-gaps.json").read_text())
    product = billing_year.Rows(lake, "usage_spans", ["channel", "start", "value", "quality"], "slot")
    sums = defaultdict(lambda: [Fraction(0)] * 3)  # by length and method: slots, totals, bias
    used, count, unknown = defaultdict(Fraction), defaultdict(int), 0
    for meter, found in gaps.items():
        if not found:
            continue
        truth = data.truth(meter)
        history, straight = data.left(meter, [(a, b) for a, b, _ in found])
        ours = {start: value for channel, start, value, _ in product.of(data.point(meter)) if channel == data.channel}
        for a, b, hours in found:
            line = straight(a, b)
            count[hours] += 1
            totals = defaultdict(Fraction)
            for at in range(a, b, data.interval):
                day, clock = data.civil.clock(at)
                like = history.like_day(day, clock, data.interval)
                made = {"product": ours.get(at), "straight line": line[at], "like day": line[at] if like is None else like}
                if made["product"] is None:
                    unknown += 1
                    continue
                used[hours] += Fraction(truth[at])
                for method, value in made.items():
                    off = Fraction(value) - Fraction(truth[at])
                    sums[hours, method][0] += abs(off)
                    totals[method] += off
            for method, off in totals.items():
                sums[hours, method][1] += abs(off)
                sums[hours, method][2] += off
    methods = ["product", "straight line", "like day"]
    print(f"| {name}: gap | gaps | " + " | ".join(f"{m}: slots | total | bias" for m in methods) + " |")
    print("|---" * (2 + 3 * len(methods)) + "|")
    for hours in LENGTHS:
        if count[hours]:
            cells = [f"{float(part / used[hours]):+.3f}" for m in methods for part in sums[hours, m]]
            cells = [cell if n % 3 == 2 else cell.lstrip("+") for n, cell in enumerate(cells)]
            label = f"{hours} h" if hours < 168 else "7 d"
            print(f"| {label} | {count[hours]} | " + " | ".join(cells) + " |")
    print(f"\nslots without an estimate: {unknown}")
    return unknown == 0 and all(sums[h, "product"][0] <= sums[h, "straight line"][0] for h in LENGTHS)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=["cut", "score"])
    parser.add_argument("set", choices=sorted(FILES))
    parser.add_argument("--data", type=pathlib.Path, required=True, help="the folder of recorded data")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder of the set with gaps")
    parser.add_argument("--lake", type=pathlib.Path, help="the lake that the set with gaps was read into")
    args = parser.parse_args()
    data = {"daiad": Daiad, "swiss": Swiss}[args.set](args.data)
    if args.what == "cut":
        cut(data, args.set, args.out)
    else:
        return 0 if score(data, args.set, args.out, args.lake) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
