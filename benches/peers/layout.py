"""The peers' side of the bench `layout`: puts the rows of our Parquet files into one other store and tells its bytes.

Arguments: the system (`duckdb`, `pyarrow`, `influxdb`, `influxdb-integers`, `victoria-metrics`), a folder to write in, then
the files. Output, one line each: its name and version, its bytes at rest, and its answer: number of rows, then the sum of
each column of numbers as an exact decimal, in the order of the columns' names.

DuckDB and pyarrow get all columns of the row. The two databases of time series get a series for each meter and column of
values, and the flags where a row has any: they keep no arrival, source, profile or commit.
"""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

PATIENCE_S = 600


def values(table: pa.Table) -> list[str]:
    """Columns of numbers that have any."""
    is_value = lambda f: pa.types.is_decimal(f.type) and table[f.name].null_count < len(table)
    return sorted(f.name for f in table.schema if is_value(f))


def has_flags(table: pa.Table) -> bool:
    return pc.max(table["flags"]).as_py() > 0


def answer(rows: int, sums: list) -> None:
    print("answer", rows, *[format(Decimal(s).normalize(), "f") for s in sums], flush=True)


def size(path: pathlib.Path) -> int:
    """What is taken of the disk, or the length where that is less: a file with holes has none of them counted."""
    least = lambda s: min(s.st_size, s.st_blocks * 512)
    return sum(least(f.stat()) for f in path.rglob("*") if f.is_file()) if path.is_dir() else least(path.stat())


def duckdb(folder: pathlib.Path, files: list[str]) -> None:
    import duckdb as module

    path = folder / "rows.duckdb"
    connection = module.connect(str(path))
    connection.execute("SET TimeZone = 'UTC'")
    names = ", ".join("'" + name.replace("'", "''") + "'" for name in files)
    source = f"read_parquet([{names}], hive_partitioning = false)"
    connection.execute(f"CREATE TABLE readings AS SELECT * FROM {source} ORDER BY meter_id, ts, revision")
    connection.execute("CHECKPOINT")
    columns = connection.execute("SELECT column_name FROM duckdb_columns() WHERE data_type LIKE 'DECIMAL%'").fetchall()
    row = lambda c: connection.execute(f"SELECT sum({c}), count({c}) FROM readings").fetchone()
    sums = [found[0] for found in map(row, sorted(c[0] for c in columns)) if found[1]]
    rows = connection.execute("SELECT count(*) FROM readings").fetchone()[0]
    connection.close()
    print(f"DuckDB {module.__version__}")
    print("bytes", size(path))
    answer(rows, sums)


def pyarrow(folder: pathlib.Path, files: list[str]) -> None:
    path = folder / "rows.parquet"
    pq.write_table(read(files), path)
    table = pq.read_table(path)
    print(f"pyarrow {pa.__version__}, its defaults")
    print("bytes", size(path))
    answer(len(table), [pc.sum(table[name]).as_py() for name in values(table)])


def read(files: list[str]) -> pa.Table:
    tables = [pq.ParquetFile(name).read() for name in files]
    return pa.concat_tables(tables).sort_by([("meter_id", "ascending"), ("ts", "ascending")])


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def call(url: str, data: bytes | None = None) -> bytes:
    with urllib.request.urlopen(urllib.request.Request(url, data=data), timeout=PATIENCE_S) as response:
        return response.read()


def started(command: list[str], ready: str, env: dict | None = None) -> subprocess.Popen:
    null = subprocess.DEVNULL
    process = subprocess.Popen(command, stdin=null, stdout=null, stderr=null, env=env)
    for _ in range(600):
        if process.poll() is not None:
            raise SystemExit(f"{command[0]} ended with {process.returncode}")
        try:
            call(ready)
            return process
        except OSError:
            time.sleep(0.1)
    process.kill()
    raise SystemExit(f"{command[0]} did not answer")


def stop(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGTERM)
    process.wait(PATIENCE_S)


def runs(table: pa.Table):
    """The rows of one meter after the other."""
    meters = table["meter_id"].combine_chunks()
    ends = pc.run_end_encode(meters)
    start = 0
    for end, meter in zip(ends.run_ends.to_pylist(), ends.values.to_pylist()):
        yield meter, table.slice(start, end - start)
        start = end


def times(part: pa.Table, unit: str) -> list[int]:
    return part["ts"].cast(pa.timestamp(unit, tz="UTC")).cast(pa.int64()).to_pylist()


def influxdb(folder: pathlib.Path, files: list[str], integers: bool = False) -> None:
    table = read(files)
    columns, flags = values(table), has_flags(table)
    port, rpc = free_port(), free_port()
    config = folder / "influxd.conf"
    config.write_text(
        f"""reporting-disabled = true
bind-address = "127.0.0.1:{rpc}"
[meta]
dir = "{folder}/meta"
[data]
dir = "{folder}/data"
wal-dir = "{folder}/wal"
index-version = "tsi1"
cache-snapshot-write-cold-duration = "2s"
compact-full-write-cold-duration = "2s"
compact-throughput = "500m"
compact-throughput-burst = "500m"
max-series-per-database = 0
[monitor]
store-enabled = false
[http]
bind-address = "127.0.0.1:{port}"
max-body-size = 0
log-enabled = false
[logging]
level = "error"
"""
    )
    url = f"http://127.0.0.1:{port}"
    process = started(["influxd", "-config", str(config)], f"{url}/ping")
    try:
        ask = lambda q: json.loads(call(f"{url}/query", urllib.parse.urlencode({"q": q, "db": "bench"}).encode()))
        ask("CREATE DATABASE bench WITH SHARD DURATION 90d")
        lines: list[str] = []

        def flush() -> None:
            if lines:
                call(f"{url}/write?db=bench&precision=s", "\n".join(lines).encode())
                lines.clear()

        scale = {name: table.schema.field(name).type.scale for name in columns}
        for meter, part in runs(table):
            whole = lambda v, s: f"{int(v.scaleb(s))}i"
            plain = lambda v, s: format(v.normalize(), "f")
            form = whole if integers else plain
            cells = {n: [form(v, scale[n]) if v is not None else None for v in part[n].to_pylist()] for n in columns}
            if flags:
                cells["flags"] = [f"{v}i" for v in part["flags"].to_pylist()]
            for at, row in zip(times(part, "s"), zip(*cells.values())):
                fields = ",".join(f"{n}={v}" for n, v in zip(cells, row) if v is not None)
                lines.append(f"readings,meter_id={meter} {fields} {at}")
            if len(lines) >= 20_000:
                flush()
        flush()
        data, wal = folder / "data", folder / "wal"
        settle(lambda: (size(wal) < 1_000_000, [f.name for f in data.rglob("*.tsm*")], size(data)))
        sums = []
        for name in columns:
            row = ask(f'SELECT sum("{name}"), count("{name}") FROM readings')["results"][0]["series"][0]["values"][0]
            sums.append(Decimal(row[1]).scaleb(-scale[name]) if integers else rounded(row[1], scale[name]))
            rows = row[2]
    finally:
        stop(process)
    version = subprocess.run(["influxd", "version"], capture_output=True, text=True).stdout.split()[1]
    print(f"InfluxDB {version}, {'integers' if integers else 'floats'}")
    print("bytes", size(folder / "data"))
    answer(rows, sums)


def settle(state) -> None:
    """Waits until what compacts in the background has nothing left to do."""
    before, since = None, time.monotonic()
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        now = state()
        if now != before or not now[0]:
            before, since = now, time.monotonic()
        elif time.monotonic() - since > 15:
            return
        time.sleep(0.5)
    raise SystemExit("it did not come to rest")


def rounded(total: float, scale: int) -> Decimal:
    """A sum of floats, whose last digits are noise: 12 digits count."""
    total = Decimal(f"{total:.12g}")
    return total


def victoria_metrics(folder: pathlib.Path, files: list[str]) -> None:
    table = read(files)
    columns, flags = values(table), has_flags(table)
    port = free_port()
    data = folder / "data"
    url = f"http://127.0.0.1:{port}"
    command = ["victoria-metrics", f"-storageDataPath={data}", f"-httpListenAddr=127.0.0.1:{port}"]
    command += ["-retentionPeriod=100y", "-search.maxSamplesPerQuery=2000000000", "-search.maxStalenessInterval=1s"]
    command += ["-search.maxQueryDuration=600s", "-search.maxSeries=10000000", "-search.maxUniqueTimeseries=10000000"]
    process = started(command, f"{url}/health")
    try:
        first, last, rows = None, None, 0
        batch: list[str] = []
        for meter, part in runs(table):
            at = times(part, "ms")
            first, last = min(at[0], first or at[0]), max(at[-1], last or at[-1])
            rows += len(at)
            for name in columns + (["flags"] if flags else []):
                pairs = [(t, float(v)) for t, v in zip(at, part[name].to_pylist()) if v is not None]
                labels = {"__name__": name, "meter_id": meter}
                line = {"metric": labels, "values": [v for _, v in pairs], "timestamps": [t for t, _ in pairs]}
                batch.append(json.dumps(line))
            if len(batch) >= 200:
                call(f"{url}/api/v1/import", "\n".join(batch).encode())
                batch.clear()
        if batch:
            call(f"{url}/api/v1/import", "\n".join(batch).encode())
        call(f"{url}/internal/force_flush")
        span = (last - first) // 1000 + 10
        sums, counted = [], None
        for name in columns:
            found = [
                json.loads(call(f"{url}/api/v1/query?" + urllib.parse.urlencode({"query": q, "time": last // 1000 + 5})))
                for q in (f"sum(sum_over_time({name}[{span}s]))", f"sum(count_over_time({name}[{span}s]))")
            ]
            total, counted = [f["data"]["result"][0]["value"][1] for f in found]
            sums.append(rounded(float(total), 0))
        call(f"{url}/internal/force_merge")
        settle(lambda: (True, size(data)))
    finally:
        stop(process)
    # Debian's build does not tell its version.
    query = ["dpkg-query", "-W", "-f", "${Version}", "victoria-metrics"]
    version = subprocess.run(query, capture_output=True, text=True).stdout if shutil.which(query[0]) else ""
    print(f"VictoriaMetrics {version}")
    print("bytes", size(data))
    answer(int(float(counted)), sums)


def main() -> None:
    system, folder, files = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3:]
    program = {"influxdb": "influxd", "influxdb-integers": "influxd", "victoria-metrics": "victoria-metrics"}.get(system)
    if program and not shutil.which(program):
        raise SystemExit(f"no program {program} on the path")
    os.makedirs(folder, exist_ok=True)
    {
        "duckdb": duckdb,
        "pyarrow": pyarrow,
        "influxdb": influxdb,
        "influxdb-integers": lambda folder, files: influxdb(folder, files, integers=True),
        "victoria-metrics": victoria_metrics,
    }[system](folder, files)


if __name__ == "__main__":
    main()
