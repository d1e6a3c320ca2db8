"""Reads every Delta table below a folder with deltalake and with DuckDB, and says what each finds, as JSON.

deltalake reads log and files through Arrow. DuckDB decodes the Parquet files by itself; which files are live it is told by
the log as deltalake reads it, since DuckDB's own Delta extension is a download and not part of its package.

For every table the number of rows, and for every column its kind and figures that each of its values enters into: the
count of values, then the sum of numbers, the bytes of texts, or the first and last instant. A list counts by its items.
"""

import json
import pathlib
import sys

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable


def kind_of(data_type):
    if pa.types.is_list(data_type) or pa.types.is_large_list(data_type):
        return "list-" + kind_of(data_type.value_type)
    if pa.types.is_decimal(data_type) or pa.types.is_integer(data_type):
        return "number"
    if pa.types.is_floating(data_type):
        return "float"
    if pa.types.is_timestamp(data_type):
        return "time"
    if pa.types.is_date(data_type):
        return "date"
    if pa.types.is_boolean(data_type):
        return "truth"
    if pa.types.is_binary(data_type) or pa.types.is_large_binary(data_type) or pa.types.is_binary_view(data_type):
        return "binary"
    return "text"


def text(value):
    if value is None:
        return None
    return format(value, "f") if hasattr(value, "as_tuple") else str(value)


def arrow_figures(kind, column):
    if kind.startswith("list-"):
        return arrow_figures(kind[5:], pc.list_flatten(column))
    count = len(column) - column.null_count
    if kind in ("time", "date"):
        if kind == "time":
            ends = column.cast(pa.timestamp("us", column.type.tz)).cast(pa.int64())
        else:
            ends = column.cast(pa.int32())
        found = pc.min_max(ends).as_py()
        return [count, found["min"], found["max"]]
    if kind in ("text", "binary"):
        wide = column.cast(pa.large_string() if kind == "text" else pa.large_binary())
        return [count, pc.sum(pc.binary_length(wide)).as_py()]
    if kind == "truth":
        column = column.cast(pa.int64())
    if pa.types.is_decimal(column.type):
        column = column.cast(pa.decimal128(38, column.type.scale))
    return [count, pc.sum(column).as_py()]


def with_deltalake(table):
    data = table.to_pyarrow_table()
    columns = {}
    for name in data.column_names:
        column = data.column(name)
        kind = kind_of(column.type)
        columns[name] = {"kind": kind, "figures": [text(f) for f in arrow_figures(kind, column)]}
    return {"rows": data.num_rows, "columns": columns}


def duck_figures(kind, name):
    name = f'"{name}"'
    count = f"count({name})"
    if kind == "time":
        return [count, f"epoch_us(min({name}))", f"epoch_us(max({name}))"]
    if kind == "date":
        first = "DATE '1970-01-01'"
        return [count, f"date_diff('day', {first}, min({name}))", f"date_diff('day', {first}, max({name}))"]
    if kind == "text":
        return [count, f"sum(strlen({name}))"]
    if kind == "binary":
        return [count, f"sum(octet_length({name}))"]
    if kind == "truth":
        return [count, f"sum(CAST({name} AS INT))"]
    return [count, f"sum({name})"]


def with_duckdb(table, columns):
    files = table.file_uris()
    if not files:
        columns = {n: {"kind": c["kind"], "figures": ["0"] + [None] * (len(c["figures"]) - 1)} for n, c in columns.items()}
        return {"rows": 0, "columns": columns}
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    # Partition columns stand in the paths, as Delta writes them; a bucket is a number, a month is not.
    # Files from before a column was added lack it: columns are found by name.
    source = "read_parquet(?, hive_partitioning = true, hive_types_autocast = false, union_by_name = true)"
    found = {}
    for name, column in columns.items():
        kind = column["kind"]
        inner = f'unnest("{name}")' if kind.startswith("list-") else f'"{name}"'
        if name in table.metadata().partition_columns and kind == "number":
            inner = f"CAST({inner} AS INT)"
        figures = duck_figures(kind.removeprefix("list-"), name)
        query = f'SELECT {", ".join(figures)} FROM (SELECT {inner} AS "{name}" FROM {source})'
        answer = connection.execute(query, [files]).fetchone()
        found[name] = {"kind": kind, "figures": [text(value) for value in answer]}
    rows = connection.execute(f"SELECT count(*) FROM {source}", [files]).fetchone()[0]
    return {"rows": rows, "columns": found}


def main():
    root = pathlib.Path(sys.argv[1])
    engines = {"deltalake": {}, "duckdb": {}}
    for folder in sorted(path for path in root.iterdir() if (path / "_delta_log").is_dir()):
        table = DeltaTable(str(folder))
        engines["deltalake"][folder.name] = with_deltalake(table)
        engines["duckdb"][folder.name] = with_duckdb(table, engines["deltalake"][folder.name]["columns"])
    json.dump(engines, sys.stdout)


main()
