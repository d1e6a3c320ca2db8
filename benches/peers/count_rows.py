"""Rows of all Parquet files in a folder."""

import pathlib
import sys

import pyarrow.parquet as pq

print(sum(pq.read_metadata(path).num_rows for path in pathlib.Path(sys.argv[1]).glob("*.parquet")))
