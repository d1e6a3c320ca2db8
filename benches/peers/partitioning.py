"""What partitions cost and bring: the same sorted rows as files by day, by week, by month, and by month and share of the meters.

Rows are SM-1's (15 minutes, register, three voltages, power) for one month, from a fixed seed, with the encodings of our own files. For each layout: bytes a
row, the bytes that a late reading makes the upkeep write again (one file, on average), and DuckDB's time on one thread for four questions, median of
nine after one that is not counted. Answers are compared between layouts. Arguments: number of meters, folder to write in.
"""

import pathlib
import random
import statistics
import sys
import time

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

METERS, FOLDER = int(sys.argv[1]), pathlib.Path(sys.argv[2])
DAYS, SLOT_S, START = 31, 900, 1_767_225_600
ROWS_A_DAY = 86_400 // SLOT_S
NOISY = ["voltage_l1_v", "voltage_l2_v", "voltage_l3_v", "power_kw"]


def rows() -> pa.Table:
    chance = random.Random(1)
    meters, times, register, power = [], [], [], []
    volts = [[], [], []]
    for m in range(METERS):
        total, base = chance.randrange(10_000_000, 90_000_000), chance.randrange(50, 600)
        phase = [chance.randrange(2260, 2380) for _ in volts]
        for n in range(DAYS * ROWS_A_DAY):
            hour = n // 4 % 24
            load = int(base * (2.5 if 17 <= hour < 22 else 1) * (0.4 + 1.2 * chance.random()))
            total += load // 4
            register.append(total)
            power.append(load)
            for volt, at in zip(volts, phase):
                volt.append(at + chance.randrange(-15, 16))
        meters.extend([f"E-{m:06d}"] * (DAYS * ROWS_A_DAY))
        times.extend(range(START + SLOT_S, START + SLOT_S * (DAYS * ROWS_A_DAY + 1), SLOT_S))
    columns = {
        "meter_id": pa.array(meters),
        "ts": pa.array([t * 1_000_000 for t in times], pa.timestamp("us", "UTC")),
        "energy_import_wh": pa.array(register, pa.int64()),
    }
    for name, values in zip(NOISY, [*volts, power]):
        columns[name] = pa.array(values, pa.int32())
    return pa.table(columns)


def write(table: pa.Table, path: pathlib.Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    encodings = {"ts": "DELTA_BINARY_PACKED", "energy_import_wh": "DELTA_BINARY_PACKED"}
    encodings |= {name: "BYTE_STREAM_SPLIT" for name in NOISY}
    pq.write_table(
        table,
        path,
        compression="zstd",
        compression_level=9,
        use_dictionary=["meter_id"],
        column_encoding=encodings,
        write_page_index=True,
        data_page_version="2.0",
        sorting_columns=[pq.SortingColumn(0), pq.SortingColumn(1)],
    )


def layouts(table: pa.Table):
    frame = pl.from_arrow(table)
    day = (pl.col("ts") - pl.duration(microseconds=1)).dt.truncate("1d")
    share = pl.col("meter_id").str.slice(2).cast(pl.Int64) * 4 // METERS
    yield "day", split(frame, day)
    yield "week", split(frame, ((pl.col("ts").dt.epoch("s") - START - 1) // (7 * 86_400)))
    yield "month", [frame]
    yield "month x 4 shares of meters", split(frame, share)


def split(frame: pl.DataFrame, key: pl.Expr) -> list[pl.DataFrame]:
    return [part.drop("p") for part in frame.with_columns(p=key).partition_by("p", maintain_order=True)]


def main() -> None:
    table = rows()
    meter = f"E-{METERS // 2:06d}"
    questions = {
        "one meter's month": f"SELECT count(*), sum(power_kw), max(energy_import_wh) FROM t WHERE meter_id = '{meter}'",
        "one meter's day": f"SELECT count(*), sum(power_kw), max(energy_import_wh) FROM t WHERE meter_id = '{meter}' "
        "AND ts > '2026-01-15 00:00:00+00' AND ts <= '2026-01-16 00:00:00+00'",
        "all meters' day": "SELECT count(*), sum(power_kw), max(energy_import_wh) FROM t "
        "WHERE ts > '2026-01-15 00:00:00+00' AND ts <= '2026-01-16 00:00:00+00'",
        "all meters' month": "SELECT count(*), sum(power_kw), max(energy_import_wh) FROM t",
    }
    print(f"{table.num_rows} rows of {METERS} meters, DuckDB {duckdb.__version__} on one thread\n")
    print(f"{'layout':<28} {'files':>5} {'B a row':>8} {'late, MB':>9} " + " ".join(f"{q + ', ms':>22}" for q in questions))
    expected = None
    for name, parts in layouts(table):
        folder = FOLDER / name.replace(" ", "-")
        paths = [folder / f"{n:03d}.parquet" for n in range(len(parts))]
        for part, path in zip(parts, paths):
            write(part.to_arrow().cast(table.schema), path)
        sizes = [path.stat().st_size for path in paths]
        connection = duckdb.connect()
        connection.execute("SET threads = 1; SET TimeZone = 'UTC'; SET enable_object_cache = true")
        connection.execute(f"CREATE VIEW t AS SELECT * FROM read_parquet('{folder}/*.parquet')")
        answers, times = [], []
        for question in questions.values():
            answers.append(connection.execute(question).fetchall())
            taken = []
            for _ in range(9):
                begun = time.perf_counter()
                connection.execute(question).fetchall()
                taken.append(time.perf_counter() - begun)
            times.append(statistics.median(taken) * 1000)
        expected = expected or answers
        if answers != expected:
            raise SystemExit(f"{name}: {answers} instead of {expected}")
        print(
            f"{name:<28} {len(paths):>5} {sum(sizes) / table.num_rows:>8.2f} {sum(sizes) / len(sizes) / 1e6:>9.2f} "
            + " ".join(f"{t:>22.1f}" for t in times)
        )


main()
