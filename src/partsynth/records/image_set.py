"""An augmentation set's folder: one file per image, or tar shards with a Parquet manifest beside the CSV."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from partsynth.errors import UserError
from partsynth.records.manifest import write_manifest
from partsynth.records.parquet import PARQUET, write_parquet
from partsynth.records.rows import AugmentedRecord
from partsynth.store import shards
from partsynth.store.files import prune, write_bytes_atomic
from partsynth.store.hashing import sha256_file
from partsynth.store.layout import MANIFEST, Layout

Storage = Literal["files", "shards"]
MB = 1_000_000


@dataclass(frozen=True)
class ImageSet:
    """Where a set's images are written one by one, so that a killed run goes on, and how they are kept in the end.

    Rows are planned with the paths of files; ``finish`` gives those of a set in shards their paths into the shards.
    """

    root: Path
    folder: Path
    """Of the set; its files are the product."""
    storage: Storage
    shard_size: int
    """MB."""

    @property
    def making(self) -> Path:
        """The folder in which images lie as files until the set is whole."""
        return self.folder if self.storage == "files" else Layout(self.root).packing / self.folder.name

    def file(self, row: AugmentedRecord) -> Path:
        """Of a planned row's image while the set is made."""
        return self.making / Path(row.path).relative_to(Layout(self.root).relative(self.folder))

    def recover(self, rows: Sequence[AugmentedRecord]) -> None:
        """Put images of these rows that lie here in another form (shards, or files) where ``file`` looks for them.

        Whether they are the wanted ones is for the caller to ask, as of any file.
        """
        wanted = {row.path: self.file(row) for row in rows}
        for tar in sorted(self.folder.glob("shard-*.tar")):
            name = Layout(self.root).relative(tar)
            with contextlib.suppress(UserError):  # a damaged one: its images are made again
                for member, data in shards.members(tar):
                    target = wanted.get(shards.as_file(f"{name}/{member}"))
                    if target is not None and not target.is_file():
                        write_bytes_atomic(target, data)
        if self.storage == "shards":
            for path, target in wanted.items():
                if not target.is_file() and (self.root / path).is_file():
                    write_bytes_atomic(target, (self.root / path).read_bytes())

    def finish(self, rows: Sequence[AugmentedRecord], kind: type[AugmentedRecord]) -> None:
        """Keep the rows' images, which all lie where ``file`` says, and nothing else; the manifest comes last."""
        files = {row.path: self.file(row) for row in rows}
        made = [row.model_copy(update={"sha256": sha256_file(files[row.path])}) for row in rows]
        if self.storage == "files":
            prune(self.folder, files.values())
        else:
            made = self._pack(made)
            prune(self.folder, {self.root / shards.split_name(row.path)[0] for row in made})
            write_parquet(self.folder / PARQUET, made, kind)
        write_manifest(self.folder / MANIFEST, made, kind)
        shutil.rmtree(Layout(self.root).packing / self.folder.name, ignore_errors=True)

    def _pack(self, rows: Sequence[AugmentedRecord]) -> list[AugmentedRecord]:
        rows = sorted(rows, key=lambda row: row.key)
        name = Layout(self.root).relative(self.folder)

        def samples() -> Iterator[tuple[str, Path, bytes]]:
            for row in rows:
                told = row.model_dump_json(exclude={"path"}).encode()
                yield row.path[len(name) + 1 :], self.file(row), told

        placed = shards.write_shards(self.folder, samples(), self.shard_size * MB)
        return [row.model_copy(update={"path": f"{name}/{path}"}) for row, path in zip(rows, placed, strict=True)]
