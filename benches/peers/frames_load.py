"""The peers' side of workload W2: loads frames of 96 readings that lie in a file, one JSON document a line with its topic, into a database of
another kind, and tells what that cost.

Arguments: the system (`duckdb`, `victoria-metrics`), a folder to write in, the file. Output, one line: rows, processor seconds of the load alone
(start, and for VictoriaMetrics the change into its own form of JSON, are not counted), and the system's name and version. Both run on the
core of whoever started them; DuckDB has one thread.
"""

import json
import os
import pathlib
import resource
import shutil
import sys
import urllib.parse
from datetime import datetime

from layout import call, free_port, started, stop

BODY_BYTES = 8_000_000


def duckdb(folder: pathlib.Path, frames: str) -> tuple[int, float, str]:
    import duckdb as module

    connection = module.connect(str(folder / "frames.duckdb"))
    connection.execute("SET threads = 1; SET TimeZone = 'UTC'")
    with open(frames) as file:
        names = [name for name in json.loads(file.readline())["readings"][0] if name != "ts"]
    fields = ", ".join(["ts TIMESTAMPTZ", *(f'"{name}" DECIMAL(18,3)' for name in names)])
    columns = f"{{topic: 'VARCHAR', readings: 'STRUCT({fields})[]'}}"
    before = resource.getrusage(resource.RUSAGE_SELF)
    connection.execute(
        "CREATE TABLE readings AS SELECT split_part(topic, '/', 3) AS meter_id, reading.* FROM "
        f"(SELECT topic, unnest(readings) AS reading FROM read_json('{frames}', format = 'newline_delimited', columns = {columns}))"
    )
    connection.execute("CHECKPOINT")
    after = resource.getrusage(resource.RUSAGE_SELF)
    rows, values = connection.execute(f'SELECT count(*), count("{names[0]}") FROM readings').fetchone()
    if rows != values:
        raise SystemExit(f"{rows - values} of {rows} rows have no {names[0]}")
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return rows, spent, f"DuckDB {module.__version__}, read_json"


def victoria_metrics(folder: pathlib.Path, frames: str) -> tuple[int, float, str]:
    bodies, lines, size = [], [], 0
    names: list[str] = []
    with open(frames) as file:
        for text in file:
            frame = json.loads(text)
            meter = frame["topic"].split("/")[2]
            readings = frame["readings"]
            names = [name for name in readings[0] if name != "ts"]
            at = [int(datetime.fromisoformat(r["ts"].replace("Z", "+00:00")).timestamp() * 1000) for r in readings]
            for name in names:
                labels = {"__name__": name, "meter_id": meter}
                lines.append(json.dumps({"metric": labels, "values": [r[name] for r in readings], "timestamps": at}))
                size += len(lines[-1])
            if size > BODY_BYTES:
                bodies.append("\n".join(lines).encode())
                lines, size = [], 0
    bodies.append("\n".join(lines).encode())
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = ["victoria-metrics", f"-storageDataPath={folder / 'data'}", f"-httpListenAddr=127.0.0.1:{port}"]
    process = started([*command, "-retentionPeriod=100y", "-search.maxStalenessInterval=1s"], f"{url}/health")
    try:
        before = cpu(process.pid)
        for body in bodies:
            call(f"{url}/api/v1/import", body)
        call(f"{url}/internal/force_flush")
        spent = cpu(process.pid) - before
        question = {"query": f"sum(count_over_time({names[0]}[20y]))", "time": 1_900_000_000}
        answer = json.loads(call(f"{url}/api/v1/query?" + urllib.parse.urlencode(question)))
        rows = int(float(answer["data"]["result"][0]["value"][1]))
    finally:
        stop(process)
    return rows, spent, "VictoriaMetrics, /api/v1/import"


def cpu(pid: int) -> float:
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    system, folder, frames = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3]
    if system == "victoria-metrics" and not shutil.which(system):
        raise SystemExit(f"no program {system} on the path")
    load = {"duckdb": duckdb, "victoria-metrics": victoria_metrics}[system]
    rows, spent, name = load(folder, frames)
    print(rows, f"{spent:.3f}", name)


if __name__ == "__main__":
    main()
