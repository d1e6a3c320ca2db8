"""An independent oracle: the same usage and bills, computed from the raw files by other code, in exact decimals.

    billing_year.py --registry DIR (--messages FILE | --daiad FILE) --lake DIR --from DAY --to DAY

Takes the registry's CSV files and what the meters sent: lines of `topic payload` in the order of sending, as
`mosquitto_sub -v` writes them, or the recorded DAIAD file. Computes slots, civil days and billing reads by `rules.py` and
compares them with the tables `usage_spans`, `usage_days` and `billing_reads` of the lake, which deltalake for Python
reads. Prints what was compared, lists the first differences, and ends with 1 if there is one. Everything in the tables has
to be expected, and everything expected has to be there.

No code of the product is run here, and the rules were written from its specification.
"""

import argparse
import csv
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
from rules import Channel, Civil, History, Point, Walk

YEAR_2000 = 946_684_800
REGISTERS = {"energy_import_kwh": "electricity", "volume_m3": "water"}
STEP = Decimal("0.001")  # what a register column holds


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


def one_reading(reading: dict):
    """Time and register values of one reading in the form of `meterlake-json`."""
    if not isinstance(reading, dict) or not isinstance(reading.get("ts"), str):
        raise Refused
    try:
        at = datetime.fromisoformat(reading["ts"])
    except ValueError as error:
        raise Refused from error
    if at.tzinfo is None or at.timestamp() < YEAR_2000 or at.microsecond:
        raise Refused
    values = {}
    for name, value in reading.items():
        if name == "ts" or value is None:
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
    return int(at.timestamp()), values


def messages(path: pathlib.Path):
    """Readings by meter and channel in order of arrival, how many messages there were and how many were refused."""
    readings = defaultdict(list)
    count, refused = 0, 0
    with open(path, "rb") as file:
        for line in file:
            count += 1
            topic, _, payload = line.rstrip(b"\n").partition(b" ")
            meter = topic.decode().split("/")[2]
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
                    readings[meter, name].append((at, value))
    return readings, count, refused


def daiad(path: pathlib.Path, zones: dict[str, str]):
    """The recorded file: local civil time without an offset, litres."""
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
        readings[meter, "volume_m3"] = resolved(Civil(zones[meter]), found)
    return readings, count, 0


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


def by_point(lake: pathlib.Path, name: str, columns: list[str], level: str | None = None) -> dict[str, list]:
    """Rows of a table by usage point, their columns in the order asked for; times as seconds."""
    extra = ["level"] if level else []
    table = DeltaTable(str(lake / name)).to_pyarrow_table(columns=["usage_point_id", *columns, *extra])
    if level:
        table = table.filter(pc.equal(table["level"], level))
    table = table.sort_by([("usage_point_id", "ascending"), ("start", "ascending")])
    ids = table["usage_point_id"].cast(pa.string()).to_pylist()
    plain = []
    for column in columns:
        values = table[column]
        if pa.types.is_timestamp(values.type):
            micros = values.cast(pa.timestamp("us", values.type.tz)).cast(pa.int64())
            values = pc.divide(micros, 1_000_000)
            assert not pc.any(pc.not_equal(pc.multiply(values, 1_000_000), micros)).as_py(), f"{name}.{column}"
        elif pa.types.is_dictionary(values.type) or pa.types.is_string_view(values.type):
            values = values.cast(pa.string())
        plain.append(values.to_pylist())
    found: dict[str, list] = defaultdict(list)
    for point, *row in zip(ids, *plain):
        found[point].append(tuple(row))
    return found


SLOTS = ["channel", "start", "end", "value", "quality"]
DAYS = [
    "channel", "start", "end", "day", "value", "estimated", "start_register", "start_register_quality", "end_register",
    "end_register_quality", "meter_id",
]  # fmt: skip
READS = [
    "channel", "start", "end", "first_day", "last_day", "start_read_at", "start_register", "start_quality",
    "end_read_at", "end_register", "end_quality", "use_amount", "estimated", "estimated_share_ppm", "covered_s", "state",
]  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------------
# Beside each other

WORLD = {}
TOLD = 4  # differences of a sort that are listed


def expected(point: Point, channel: str):
    """Slots, days and reads of one usage point and channel as rows in the order of the columns above."""
    civil = Civil(point.zone)
    history = History(civil)
    first, after = WORLD["from"], WORLD["to"]
    start, end = civil.midnight(first), civil.midnight(after)
    walks = []
    hung = sorted((c for c in point.channels if c.name == channel), key=lambda c: (c.installed or 0))
    for one in hung:
        readings = [
            (at, one.units(value))
            for at, value in WORLD["readings"].get((one.meter, channel), [])
            if (one.installed is None or at >= one.installed) and (one.removed is None or at < one.removed)
        ]
        readings = [(at, units) for at, units in readings if units is not None]
        if one.start is not None and one.installed is not None:
            readings.append((one.installed, one.units(one.start)))
        if one.end is not None and one.removed is not None:
            readings.append((one.removed, one.units(one.end)))
        if readings:
            walk = Walk(civil, one, rules.accept(one, readings), history)
            walk.run()
            walks.append(walk)
    slots = [
        (channel, slot.start, slot.end, slot.use, slot.quality)
        for walk in walks
        for slot in walk.slots
        if start <= slot.start < end
    ]
    days = [
        (channel, d.start, d.end, d.day, d.use, d.estimated, *d.start_register, *d.end_register, d.meter)
        for walk in walks
        for d in walk.days()
        if start <= d.start < end
    ]
    reads = []
    for first_day, next_day in rules.cycles(point.billing_day, first, after):
        r = rules.bill(civil, walks, hung, first_day, next_day)
        if r is not None:
            row = (
                channel, r.start, r.end, r.first_day, r.last_day, r.start_read_at, *r.start_register, r.end_read_at,
                *r.end_register, r.use, r.estimated, r.share_ppm, r.covered_s, r.state,
            )  # fmt: skip
            reads.append(row)
    return slots, days, reads


def compare(kind: str, columns: list[str], point: str, ours: list, theirs: list, found: Counter, shown: dict[str, list[str]]):
    """Row by row, by channel and start."""
    ours = {(row[0], row[1], row[2]) if kind != "slot" else (row[0], row[1]): row for row in ours}
    theirs = {(row[0], row[1], row[2]) if kind != "slot" else (row[0], row[1]): row for row in theirs}
    for key in sorted(ours.keys() | theirs.keys()):
        mine, other = ours.get(key), theirs.get(key)
        found[kind] += 1
        if mine == other:
            continue
        differing = kind  # and by what: of each sort of difference the first few are told
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
        if len(shown[differing]) < TOLD:
            at = datetime.fromtimestamp(key[1], timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
            shown[differing].append(f"{kind} {point} {key[0]} {at}: {told}")


def one_point(point_id: str):
    point = WORLD["points"][point_id]
    found, shown = Counter(), defaultdict(list)
    slots, days, reads = [], [], []
    for channel in sorted({c.name for c in point.channels}):
        s, d, r = expected(point, channel)
        slots, days, reads = slots + s, days + d, reads + r
    civil = Civil(point.zone)
    start, end = civil.midnight(WORLD["from"]), civil.midnight(WORLD["to"])
    for kind, columns, mine in (("slot", SLOTS, slots), ("day", DAYS, days), ("read", READS, reads)):
        theirs = WORLD[kind].get(point_id, [])
        if kind != "read":
            # Runs are widened to whole months in UTC: what lies beside the asked days is no part of them.
            theirs = [row for row in theirs if start <= row[1] < end]
        compare(kind, columns, point_id, mine, theirs, found, shown)
    for row in slots:
        found[f"{row[4]} slots"] += 1
    return found, shown


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--registry", type=pathlib.Path, required=True, help="folder of the registry's CSV files")
    parser.add_argument("--messages", type=pathlib.Path, help="what the meters sent, `topic payload` a line")
    parser.add_argument("--daiad", type=pathlib.Path, help="the recorded DAIAD file, readings.csv.gz")
    parser.add_argument("--lake", type=pathlib.Path, required=True, help="folder of the product's tables")
    parser.add_argument("--from", dest="first", type=date.fromisoformat, required=True, help="first civil day")
    parser.add_argument("--to", type=date.fromisoformat, required=True, help="the day after the last")
    parser.add_argument("--processes", type=int, default=multiprocessing.cpu_count())
    args = parser.parse_args()

    points = registry(args.registry)
    if args.daiad:
        zones = {c.meter: point.zone for point in points.values() for c in point.channels}
        readings, count, refused = daiad(args.daiad, zones)
    else:
        readings, count, refused = messages(args.messages)
    WORLD.update({"points": points, "readings": readings, "from": args.first, "to": args.to})
    WORLD["slot"] = by_point(args.lake, "usage_spans", SLOTS, "slot")
    WORLD["day"] = by_point(args.lake, "usage_days", DAYS)
    WORLD["read"] = by_point(args.lake, "billing_reads", READS)
    unknown = sorted((set(WORLD["slot"]) | set(WORLD["day"]) | set(WORLD["read"])) - set(points))
    found, shown = Counter(differences=len(unknown)), defaultdict(list)
    shown["registry"] = [f"{point}: not in the registry" for point in unknown]

    with multiprocessing.get_context("fork").Pool(args.processes) as pool:
        for counts, told in pool.imap(one_point, sorted(points), chunksize=4):
            found += counts
            for sort, lines in told.items():
                shown[sort] += lines[: TOLD - len(shown[sort])]
    differences = found.pop("differences", 0)
    print(
        f"{len(points)} usage points, {count} messages ({refused} refused): {found.pop('day', 0)} meter-days, "
        f"{found.pop('slot', 0)} slots, {found.pop('read', 0)} billing reads compared, {differences} differ"
    )
    print(", ".join(f"{name}: {n}" for name, n in sorted(found.items())))
    for lines in shown.values():
        print("\n".join(lines))
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
