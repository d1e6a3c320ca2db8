"""DuckDB's side of the bench `query`: runs statements over Parquet files and times them itself.

Arguments: number of threads, then the files. Each line of input is one statement over the view `electricity_readings`
with one value as its answer; each line of output is its seconds and that value, divided by a tab. Ends with its input.
"""

import sys
import time

import duckdb


def main() -> None:
    threads, files = int(sys.argv[1]), sys.argv[2:]
    connection = duckdb.connect()
    connection.execute(f"SET threads = {threads}")
    connection.execute("SET TimeZone = 'UTC'")
    names = ", ".join("'" + name.replace("'", "''") + "'" for name in files)
    connection.execute(
        f"CREATE VIEW electricity_readings AS SELECT * FROM read_parquet([{names}], hive_partitioning = false)"
    )
    print(f"DuckDB {duckdb.__version__}", flush=True)
    for statement in sys.stdin:
        begin = time.perf_counter()
        answer = connection.execute(statement).fetchone()
        print(f"{time.perf_counter() - begin:.9f}\t{answer[0]}", flush=True)


if __name__ == "__main__":
    main()
