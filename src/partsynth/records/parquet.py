"""A manifest's rows as Parquet, beside the CSV of a set in shards: typed columns, for pandas, DuckDB or Spark."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from partsynth.records.manifest import columns_of
from partsynth.records.rows import Record
from partsynth.store.drafts import draft_folder

PARQUET = "manifest.parquet"
GROUP = 65_536  # rows that are read together


def write_parquet(path: Path, rows: Sequence[Record], kind: type[Record]) -> None:
    """Write the columns that the CSV has, sorted as its rows are, whole or not at all."""
    import pyarrow as pa
    from pyarrow import parquet

    rows = sorted(rows, key=lambda r: r.key)
    names = columns_of(rows, kind)
    columns = [pa.array([getattr(row, name, kind.model_fields[name].default) for row in rows]) for name in names]
    with draft_folder(path) as folder:
        parquet.write_table(
            pa.Table.from_arrays(columns, names=names), folder / path.name, row_group_size=GROUP, compression="zstd"
        )
        (folder / path.name).chmod(0o644)
        (folder / path.name).replace(path)


def parquet_faults(path: Path, rows: Sequence[Record]) -> list[str]:
    """How the file differs from the rows of the manifest beside it; no fault where it has the same."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.ParquetFile(path)
        told = table.schema_arrow.names
        if table.metadata.num_rows != len(rows):
            return [f"has {table.metadata.num_rows} rows, the manifest beside it {len(rows)}"]
        at = 0
        for batch in table.iter_batches():
            for found in batch.to_pylist():
                row = rows[at]
                at += 1
                if any(found[name] != getattr(row, name, None) for name in told):
                    return [f"its row {at} is not that of the manifest beside it ({row.path})"]
    except FileNotFoundError:
        return ["is missing beside its manifest: dvc checkout restores it"]
    except (pa.ArrowException, OSError) as error:
        return [f"is no Parquet file ({' '.join(str(error).split())[:100]}): dvc checkout restores it"]
    return []
