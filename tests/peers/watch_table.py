"""Looks at one Delta table again and again while others write it, with deltalake, DuckDB and Polars.

At each look the newest version is opened and each engine counts its rows and adds up one column; a line says engine,
version, rows and the sum in thousandths. DuckDB decodes the files that the log names: its own Delta extension is a download
and not part of its package.
"""

import pathlib
import sys

import duckdb
import polars as pl
import pyarrow.compute as pc
from deltalake import DeltaTable

COLUMN = "energy_import_kwh"


def thousandths(value):
    return int((value or 0) * 1000)


def main():
    path, stop, looks = sys.argv[1], pathlib.Path(sys.argv[2]), int(sys.argv[3])
    connection = duckdb.connect()
    for _ in range(looks):
        if stop.exists():
            sys.exit("told to stop before the last look")
        table = DeltaTable(path)
        data = table.to_pyarrow_table(columns=[COLUMN])
        print("deltalake", table.version(), data.num_rows, thousandths(pc.sum(data.column(COLUMN)).as_py()))
        files = table.file_uris()
        rows, total = connection.execute(
            f'SELECT count(*), sum("{COLUMN}") FROM read_parquet(?, hive_partitioning = false)', [files]
        ).fetchone()
        print("duckdb", table.version(), rows, thousandths(total))
        frame = pl.scan_delta(path, version=table.version()).select(pl.len(), pl.col(COLUMN).sum()).collect()
        print("polars", table.version(), frame.item(0, 0), thousandths(frame.item(0, 1)), flush=True)


main()
