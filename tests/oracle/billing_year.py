"""An independent oracle: the same usage and bills, computed from the raw files by other code, in exact decimals.

    billing_year.py --registry DIR (--messages FILE | --daiad FILE) --lake DIR --from DAY --to DAY

Takes the registry's CSV files and what the meters sent: lines of `topic payload` in the order of sending, as
`mosquitto_sub -v` writes them, or the recorded DAIAD file. Computes slots, civil days, billing reads and findings by
`rules.py` and, from the tariff files that the product was given, figures of determinants by `determinants.py`. Compares
them with the tables `usage_spans`, `usage_days`, `billing_reads`, `findings` and `billing_determinants` of the lake, which
deltalake for Python reads; each process works on one usage point at a time. Prints what was compared, lists the first
differences, and ends with 1 if there is one. Everything in the tables has to be expected, and everything expected has to be
there.

No code of the product is run here, and the rules were written from its specification.
"""

import argparse
import contextlib
import csv
import functools
import gzip
import json
import multiprocessing
import pathlib
import sys
from collections import Counter, defaultdict
from datetime import date, datetime, timezone
from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

import rules
from determinants import Billing, Series, Source, Tariffs, amount, around, micros
from rules import Channel, Civil, History, Point, Walk

YEAR_2000 = 946_684_800
REGISTERS = {"energy_import_kwh": "electricity", "reactive_import_kvarh": "electricity", "volume_m3": "water"}
STEP = Decimal("0.001")  # what a register column holds
MARKS = {"overflow", "test_mode", "memory_fault", "clock_invalid"}  # the meter itself does not vouch for the reading


# ---------------------------------------------------------------------------------------------------------------------
# The registry


def rows(folder: pathlib.Path, name: str):
    path = folder / name
    if not path.exists():
        return
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            yield {key: (value or "").strip() for key, value in row.items()}


def instant(text: str) -> int | None:
    """RFC 3339 with an offset; the registry's files are written so."""
    return int(datetime.fromisoformat(text).timestamp()) if text else None


def number(text: str) -> Decimal | None:
    return Decimal(text) if text else None


def registry(folder: pathlib.Path) -> dict[str, Point]:
    points = {
        row["usage_point_id"]: Point(
            row["usage_point_id"], row["zone"], int(row.get("billing_day") or 1), row.get("customer_id", "")
        )
        for row in rows(folder, "usage_points.csv")
    }
    places = defaultdict(list)
    for row in rows(folder, "installations.csv"):
        place = (row["usage_point_id"], instant(row.get("installed_at", "")), instant(row.get("removed_at", "")))
        places[row["meter_id"]].append(place)
    for row in rows(folder, "installation_channels.csv"):
        commodity = REGISTERS.get(row["channel"])
        if commodity is None:
            continue
        hung = places[row["meter_id"]]
        if row.get("installed_at"):
            hung = [place for place in hung if place[1] == instant(row["installed_at"])]
        for point, installed, removed in hung:
            channel = Channel(
                name=row["channel"],
                commodity=commodity,
                meter=row["meter_id"],
                installed=installed,
                removed=removed,
                multiplier=number(row.get("multiplier", "")) or Decimal(1),
                digits=int(row["digits"]) if row.get("digits") else None,
                resolution=number(row.get("resolution", "")) or STEP,
                interval=int(row.get("interval_s") or (900 if commodity == "electricity" else 3600)),
                capacity=number(row.get("capacity_per_hour", "")),
                start=number(row.get("start_register", "")),
                end=number(row.get("end_register", "")),
            )
            points[point].channels.append(channel)
    return points


# ---------------------------------------------------------------------------------------------------------------------
# What the meters sent


class Refused(Exception):
    """The message cannot be read: the whole of it is a dead letter."""


@functools.lru_cache(maxsize=100_000)
def time_of(text: str) -> int:
    """Whole seconds; meters of a fleet say the same times."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise Refused from error
    if at.tzinfo is None or at.timestamp() < YEAR_2000 or at.microsecond:
        raise Refused
    return int(at.timestamp())


def one_reading(reading: dict):
    """Time and register values of one reading in the form of `meterlake-json`; values that its meter marks are None."""
    if not isinstance(reading, dict) or not isinstance(reading.get("ts"), str):
        raise Refused
    at = time_of(reading["ts"])
    values = {}
    for name, value in reading.items():
        if name in ("ts", "events") or value is None:
            continue
        if isinstance(value, (bool, str)) or not isinstance(value, (int, Decimal)):
            raise Refused
        if name in REGISTERS:
            value = Decimal(value)
            if value % STEP or value < 0:
                raise Refused
            values[name] = value
    if not values:
        raise Refused
    marked = MARKS.intersection(reading.get("events", []))
    return at, dict.fromkeys(values) if marked else values


def messages(path: pathlib.Path) -> tuple[dict[str, list[bytes]], int]:
    """Payloads by meter in order of arrival, unread, and how many there are."""
    payloads = defaultdict(list)
    count = 0
    with open(path, "rb") as file:
        for line in file:
            count += 1
            topic, _, payload = line.rstrip(b"\n").partition(b" ")
            payloads[topic.decode().split("/")[2]].append(payload)
    return payloads, count


@functools.lru_cache(maxsize=8)
def sent_by(meter: str) -> tuple[dict[str, list], int]:
    """Readings of a meter by channel in order of arrival, and how many of its messages are refused."""
    readings, refused = defaultdict(list), 0
    for payload in WORLD["sent"].get(meter, []):
        try:
            body = json.loads(payload, parse_float=Decimal)
            if not isinstance(body, dict):
                raise Refused
            found = [one_reading(reading) for reading in body.get("readings", [body])]
        except (ValueError, Refused):
            refused += 1
            continue
        for at, values in found:
            for name, value in values.items():
                readings[name].append((at, value))
    return readings, refused


def daiad(path: pathlib.Path, zones: dict[str, str]):
    """The recorded file, local civil time without an offset and litres, by meter as above."""
    local = defaultdict(list)
    with gzip.open(path, "rt", encoding="utf-8") as file:
        next(file)
        for line in file:
            meter, at, litres, _ = line.rstrip("\n").split(";")
            local[meter].append((datetime.strptime(at, "%d/%m/%Y %H:%M:%S"), Decimal(litres) / 1000))
    readings = {}
    count = 0
    for meter, found in local.items():
        count += len(found)
        readings[meter] = ({"volume_m3": resolved(Civil(zones[meter]), found)}, 0)
    return readings, count


def resolved(civil: Civil, local: list[tuple[datetime, Decimal]]) -> list[tuple[int, Decimal]]:
    """Instants for local times. In the hour that autumn repeats, the register rises from the first to the second time."""
    certain, twice = [], defaultdict(list)
    for at, value in local:
        instants = civil.both(at)
        if not instants:
            raise SystemExit(f"{at} does not exist in {civil.zone}")
        if len(instants) == 1:
            certain.append((instants[0], value))
        elif value not in twice[at]:
            twice[at].append(value)
    first, second, alone = [], [], []
    for at, values in sorted(twice.items()):
        earlier, later = civil.both(at)
        if len(values) == 2:
            low, high = sorted(values)
            first.append((earlier, low))
            second.append((later, high))
        else:
            alone.append((earlier, later, values[0]))
    alone.sort(key=lambda one: (one[2], one[0]))

    def split(count):
        return first + [(e, v) for e, _, v in alone[:count]] + second + [(later, v) for _, later, v in alone[count:]]

    def falls(placed):
        return sum((a < b and x > y) or (a > b and x < y) for n, (a, x) in enumerate(placed) for b, y in placed[:n])

    def crowded(placed):
        return sum(0 < abs(a - b) < rules.HOUR // 2 for n, (a, _) in enumerate(placed) for b, _ in placed[:n])

    # The register rises, these meters read once an hour, and else the earlier of the two times holds.
    splits = (split(count) for count in range(len(alone), -1, -1))
    return certain + min(splits, key=lambda placed: (falls(placed), crowded(placed)))


# ---------------------------------------------------------------------------------------------------------------------
# What the product says


class Rows:
    """A table's rows by usage point, their columns in the order asked for; times as seconds."""

    def __init__(self, lake: pathlib.Path, name: str, columns: list[str], level: str | None = None):
        extra = ["level"] if level else []
        table = DeltaTable(str(lake / name)).to_pyarrow_table(columns=["usage_point_id", *columns, *extra])
        if level:
            table = table.filter(pc.equal(table["level"], level))
        self.name, self.columns = name, columns
        ids = table["usage_point_id"].cast(pa.string()).combine_chunks().dictionary_encode()
        if isinstance(ids, pa.ChunkedArray):
            ids = ids.combine_chunks()
        order = pc.array_sort_indices(ids.indices)
        # Columns stay as they are stored until a point is asked for.
        self.table = table.select(columns).take(order)
        self.places: dict[str, tuple[int, int]] = {}
        at = 0
        for count in pc.value_counts(ids.indices.take(order)).to_pylist():
            self.places[ids.dictionary[count["values"]].as_py()] = (at, count["counts"])
            at += count["counts"]

    def of(self, point: str) -> list[tuple]:
        if point not in self.places:
            return []
        table = self.table.slice(*self.places[point])
        plain = []
        for column in self.columns:
            values = table[column]
            if pa.types.is_timestamp(values.type):
                micros = values.cast(pa.timestamp("us", values.type.tz)).cast(pa.int64())
                values = pc.divide(micros, 1_000_000)
                whole = pc.equal(pc.multiply(values, 1_000_000), micros)
                assert pc.all(whole).as_py() is not False, f"{self.name}.{column}"
            elif pa.types.is_dictionary(values.type) or pa.types.is_string_view(values.type):
                values = values.cast(pa.string())
            plain.append(values.to_pylist())
        return list(zip(*plain))


SLOTS = ["channel", "start", "end", "value", "quality"]
DAYS = [
    "channel", "start", "end", "day", "value", "estimated", "start_register", "start_register_quality", "end_register",
    "end_register_quality", "meter_id",
]  # fmt: skip
READS = [
    "channel", "start", "end", "first_day", "last_day", "start_read_at", "start_register", "start_quality",
    "end_read_at", "end_register", "end_quality", "use_amount", "estimated", "estimated_share_ppm", "covered_s", "state",
]  # fmt: skip
FINDINGS = ["channel", "start", "end", "rule", "meter_id"]
DETERMINANTS = [
    "determinant", "part", "first_day", "last_day", "start", "end", "value", "unit", "quality", "estimated_share_ppm",
    "at_start", "at_end", "held", "notes",
]  # fmt: skip
# What is found in registers; other checks may be added to the table.
RULES = {"V04", "V05", "V07", "V09", "V11", "V12", "V13", "V14", "V15", "V16"}


# ---------------------------------------------------------------------------------------------------------------------
# Beside each other

WORLD = {}
TOLD = 4  # differences of a sort that are listed


def expected(point: Point, channel: str):
    """What a usage point and channel was used by: slots, days, reads and what was found, with the meters' walks."""
    civil = Civil(point.zone)
    history = History(civil)
    walks, findings, days = [], [], []
    hung = sorted((c for c in point.channels if c.name == channel), key=lambda c: (c.installed or 0))
    for one in hung:
        readings = [
            (at, value)
            for at, value in WORLD["readings"](one.meter)[0].get(channel, [])
            if (one.installed is None or at >= one.installed) and (one.removed is None or at < one.removed)
        ]
        found = [("V07", at, at) for at, value in readings if value is None]
        readings = [(at, one.units(value)) for at, value in readings if value is not None]
        found += [("V15", at, at) for at, units in readings if units is None]
        readings = [(at, units) for at, units in readings if units is not None]
        if one.start is not None and one.installed is not None:
            readings.append((one.installed, one.units(one.start)))
        if one.end is not None and one.removed is not None:
            readings.append((one.removed, one.units(one.end)))
        lines = rules.accept(one, readings, found) if readings else []
        for n, line in enumerate(lines):
            if n:
                days += rules.unknown_days(civil, one.meter, walks[-1].end, line[0].at)
            walk = Walk(civil, one, line, history, found, n + 1 == len(lines))
            walk.run()
            walks.append(walk)
            days += walk.days()
        findings += [(channel, start, end, rule, one.meter) for rule, start, end in found]
    reads = {}
    for first_day, next_day in rules.cycles(point.billing_day, WORLD["from"], WORLD["to"]):
        read = rules.bill(civil, walks, hung, first_day, next_day, [(f[3], f[1], f[2]) for f in findings])
        if read is not None:
            reads[first_day] = read
    slots = [slot for walk in walks for slot in walk.slots]
    step = max((micros(c.resolution * c.multiplier) for c in hung), default=1)
    spans = [(rule, start, end) for _, start, end, rule, _ in findings]
    return Source(Series(slots, step), days, reads, hung, walks, spans), slots, findings


@functools.lru_cache(maxsize=64)
def member(point: str, channel: str) -> Source:
    """What another usage point of a group was used by."""
    return expected(WORLD["points"][point], channel)[0]


KEYS = {  # by which rows are laid beside each other: the places of columns
    "slot": (0, 1), "day": (0, 1, 2), "read": (0, 1, 2), "determinant": (0, 1, 2), "finding": (0, 1, 2, 3, 4),
}  # fmt: skip


def compare(kind: str, columns: list[str], point: str, ours: list, theirs: list, found: Counter, shown: dict[str, list[str]]):
    """Row by row, by the columns that are a row's key."""
    found[kind] += len(ours)
    if ours == theirs:
        return
    key_of = KEYS[kind]
    ours = {tuple(row[n] for n in key_of): row for row in ours}
    theirs = {tuple(row[n] for n in key_of): row for row in theirs}
    found[kind] += len(theirs.keys() - ours.keys())
    for key in sorted(ours.keys() | theirs.keys()):
        mine, other = ours.get(key), theirs.get(key)
        if mine == other:
            continue
        differing = f"{kind} {key[0]}" if kind == "determinant" else kind
        if mine is None or other is None:
            what = "only the oracle has it" if other is None else "only the product has it"
            differing += f" {what}"
            told = f"{what}: {list(map(str, mine or other))}"
            found[f"{kind}: {what}"] += 1
        else:
            parts = []
            for name, m, o in zip(columns, mine, other):
                if m != o:
                    found[f"{kind}: {name}"] += 1
                    differing += f" {name}"
                    parts.append(f"{name}: oracle {m}, product {o}")
            told = "; ".join(parts)
        found["differences"] += 1
        # Of each sort of difference the first few are told.
        if len(shown[differing]) < TOLD:
            told_key = (
                datetime.fromtimestamp(part, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ") if isinstance(part, int) else part
                for part in key
            )
            shown[differing].append(f"{kind} {point} {' '.join(map(str, told_key))}: {told}")


def one_point(point_id: str):
    point = WORLD["points"][point_id]
    found, shown = Counter(), defaultdict(list)
    civil = Civil(point.zone)
    start, end = civil.midnight(WORLD["from"]), civil.midnight(WORLD["to"])
    ours = {kind: [] for kind in KEYS}
    sources = {}
    for channel in sorted({c.name for c in point.channels}):
        source, slots, findings = expected(point, channel)
        sources[channel] = source
        ours["slot"] += [(channel, slot.start, slot.end, slot.use, slot.quality) for slot in slots if start <= slot.start < end]
        ours["day"] += [
            (channel, d.start, d.end, d.day, d.use, d.estimated, *d.start_register, *d.end_register, d.meter)
            for d in source.days
            if start <= d.start < end
        ]
        ours["read"] += [
            (
                channel, r.start, r.end, r.first_day, r.last_day, r.start_read_at, *r.start_register, r.end_read_at,
                *r.end_register, r.use, r.estimated, r.share_ppm, r.covered_s, r.state,
            )
            for r in source.reads.values()
        ]  # fmt: skip
        ours["finding"] += [row for row in findings if start <= row[1] < end and row[3] in RULES]
    if "tariffs" in WORLD:
        billing = Billing(WORLD["tariffs"], point, sources, WORLD["from"], WORLD["to"], member)
        for determinant, part, cycle, f in billing.rows():
            row = (
                determinant, part, cycle.first_day, cycle.last_day, cycle.start, cycle.end,
                None if f.value is None else amount(f.value), f.unit, rules.NAMES[f.quality], f.estimated, *f.at, f.held,
                " ".join(sorted(f.notes)),
            )  # fmt: skip
            ours["determinant"].append(row)
    for kind, mine in ours.items():
        if kind not in WORLD:
            continue
        table = WORLD[kind]
        theirs = table.of(point_id)
        if kind in ("slot", "day", "finding"):
            # Runs are widened to whole months in UTC: what lies beside the asked days is no part of them.
            theirs = [row for row in theirs if start <= row[1] < end]
        if kind == "finding":
            theirs = [row for row in theirs if row[3] in RULES]
            for row in mine:
                found[f"{row[3]} findings"] += 1
        if kind == "determinant":
            theirs = [(*row[:-1], codes(row[-1])) for row in theirs]
            for row in mine:
                found[f"{row[0]} figures"] += 1
        compare(kind, table.columns, point_id, sorted(mine, key=order), sorted(theirs, key=order), found, shown)
    for quality, count in Counter(row[4] for row in ours["slot"]).items():
        found[f"{quality} slots"] += count
    found["refused"] += sum(WORLD["readings"](meter)[1] for meter in sorted({c.meter for c in point.channels}))
    return found, shown


def order(row: tuple) -> tuple:
    return row[:3]


def codes(notes: str) -> str:
    """The words of notes that programs look for."""
    return " ".join(sorted({note["code"] for note in json.loads(notes)}))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--registry", type=pathlib.Path, required=True, help="folder of the registry's CSV files")
    parser.add_argument("--messages", type=pathlib.Path, help="what the meters sent, `topic payload` a line")
    parser.add_argument("--daiad", type=pathlib.Path, help="the recorded DAIAD file, readings.csv.gz")
    parser.add_argument("--lake", type=pathlib.Path, required=True, help="folder of the product's tables")
    parser.add_argument("--from", dest="first", type=date.fromisoformat, required=True, help="first civil day")
    parser.add_argument("--to", type=date.fromisoformat, required=True, help="the day after the last")
    parser.add_argument("--tariffs", type=pathlib.Path, nargs="*", help="files with calendars and determinants")
    parser.add_argument("--holidays", type=pathlib.Path, help="folder of the holidays that come with the product")
    parser.add_argument("--points", nargs="*", help="only these usage points")
    parser.add_argument("--processes", type=int, default=multiprocessing.cpu_count())
    args = parser.parse_args()

    points = registry(args.registry)
    if args.daiad:
        zones = {c.meter: point.zone for point in points.values() for c in point.channels}
        recorded, count = daiad(args.daiad, zones)
        WORLD["readings"] = lambda meter: recorded.get(meter, ({}, 0))
    else:
        WORLD["sent"], count = messages(args.messages)
        WORLD["readings"] = sent_by
    WORLD.update({"points": points, "from": args.first, "to": args.to})
    WORLD["slot"] = Rows(args.lake, "usage_spans", SLOTS, "slot")
    WORLD["day"] = Rows(args.lake, "usage_days", DAYS)
    WORLD["read"] = Rows(args.lake, "billing_reads", READS)
    WORLD["finding"] = Rows(args.lake, "findings", FINDINGS)
    if args.tariffs:
        WORLD["tariffs"] = Tariffs(args.tariffs, args.holidays)
        for calendar in WORLD["tariffs"].calendars.values():
            calendar.paint(*around(args.first, args.to))
        WORLD["determinant"] = Rows(args.lake, "billing_determinants", DETERMINANTS)
    tables = [kind for kind in KEYS if kind in WORLD]
    unknown = sorted({point for kind in tables for point in WORLD[kind].places} - set(points))
    found, shown = Counter(differences=len(unknown)), defaultdict(list)
    shown["registry"] = [f"{point}: not in the registry" for point in unknown]

    asked = args.points or sorted(points)
    with contextlib.ExitStack() as stack:
        if args.processes > 1:
            pool = stack.enter_context(multiprocessing.get_context("fork").Pool(args.processes))
            answers = pool.imap(one_point, asked)
        else:
            answers = map(one_point, asked)
        for counts, told in answers:
            found += counts
            for sort, lines in told.items():
                shown[sort] += lines[: TOLD - len(shown[sort])]
    differences = found.pop("differences", 0)
    print(
        f"{len(asked)} usage points, {count} messages ({found.pop('refused', 0)} refused): {found.pop('day', 0)} meter-days, "
        f"{found.pop('slot', 0)} slots, {found.pop('read', 0)} billing reads, {found.pop('determinant', 0)} figures of "
        f"determinants and {found.pop('finding', 0)} findings compared, {differences} differ"
    )
    print(", ".join(f"{name}: {n}" for name, n in sorted(found.items())))
    for lines in shown.values():
        print("\n".join(lines))
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
