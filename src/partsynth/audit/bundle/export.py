"""`partsynth audit export`: the folder or zip, whole or not at all, the same bytes for the same run."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from partsynth.audit.bundle.bom import bill
from partsynth.audit.bundle.card import model_card, readme
from partsynth.audit.bundle.croissant import croissants
from partsynth.audit.bundle.gather import Gathered, gather
from partsynth.audit.bundle.sign import PUBLIC, SUMS, Key
from partsynth.audit.result import Result
from partsynth.errors import UserError
from partsynth.lineage.objects import Objects
from partsynth.store.drafts import draft_folder
from partsynth.store.files import inside, write_bytes_atomic, write_json, write_text_atomic
from partsynth.store.hashing import sha256_file

FORMAT = 1  # of run.json
VERIFY = Path(__file__).with_name("verify.py")
CHAMPION = "champion"


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Which run, and where to."""

    root: Path
    out: Path  # new; a zip where it ends in .zip
    run: str = CHAMPION  # id, alias of the registered model, or name
    images: bool = False
    key: Path | None = None  # private key to sign with


def export(inputs: Inputs) -> Result:
    """Write the export of one run.

    Raises
    ------
    UserError
        where ``out`` exists, the key cannot be used, there is no such run, or something it was made of cannot be had.
        Nothing has been written then.
    """
    root, out = inputs.root.resolve(), inputs.out.absolute()
    if out.exists():
        raise UserError(f"{out} exists: name a new {'file' if out.suffix == '.zip' else 'folder'} (--out)")
    key = Key(inputs.key) if inputs.key is not None else None
    with draft_folder(out) as scratch, Objects(root) as objects:
        found = gather(root, inputs.run, objects)
        folder = scratch / out.stem  # a signature names it
        folder.mkdir()
        _write(found, folder, inputs.images, key)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        sums = sha256_file(folder / SUMS)
        if out.suffix == ".zip":
            _zip(folder, files, scratch / "export.zip")
            os.replace(scratch / "export.zip", out)
        else:
            folder.rename(out)
    data = {
        "run": found.run.facts(),
        "written": str(out),
        "files": len(files),
        "images": "included" if inputs.images else "by path and hash",
        "signed": str(inputs.key) if key else "no: --key names a private key",
        "sha256_of_SHA256SUMS": sums,
        "absent": found.absent + [f"data card: {name} is not stated" for name in found.card.missing],
    }
    return Result("export", data)


def _write(found: Gathered, folder: Path, images: bool, key: Key | None) -> None:
    for path, data in found.files.items():
        write_bytes_atomic(inside(folder, path), data)
    if images:
        for path, data in found.images():
            write_bytes_atomic(inside(folder, path), data)
    write_json(folder / "run.json", _about(found, images))
    for name, content in {"bom.cdx.json": bill(found), **croissants(found, images)}.items():
        write_json(inside(folder, name), content)
    write_text_atomic(folder / "model_card.md", model_card(found))
    write_text_atomic(folder / "README.md", readme(found, images, key is not None))
    write_bytes_atomic(folder / "verify.py", VERIFY.read_bytes())
    if key is not None:
        write_bytes_atomic(folder / PUBLIC, key.public)
        key.sign(folder)
    write_text_atomic(folder / SUMS, "".join(_sums(folder)))


def _sums(folder: Path) -> Iterator[str]:
    """As `sha256sum` writes them."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    for name in names:
        if name != SUMS:
            yield f"{sha256_file(folder / name)}  {name}\n"


def _about(found: Gathered, images: bool) -> dict[str, Any]:
    run = found.run
    tags = ("setup", "seed", "stage", "fingerprint", "git_commit", "git_dirty", "code_sha256", "base_sha256")
    more = ("lock_sha256", "lineage_sha256", "device", "partsynth_version")
    return {
        "format": FORMAT,
        "run": {"run_id": run.run_id, "name": run.name, **{k: run.tags[k] for k in (*tags, *more) if k in run.tags}},
        "training_table": (run.training_table or ("", ""))[0],
        "inputs": [{"name": i.name, "path": i.path, "dvc_md5": i.digest, "context": i.context} for i in run.inputs],
        "outputs": found.outs,  # path -> DVC's md5
        "parameters": found.view.params if found.view else {},
        "metrics": found.metrics,
        "weights": found.weights,
        "images": "included" if images else "by path and sha256",
        "absent": found.absent,
    }


def _zip(folder: Path, files: list[Path], out: Path) -> None:
    """Stored as they are, all of 1980: no clock and no version of a compressor is in the bytes."""
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for path in files:
            entry = zipfile.ZipInfo(path.relative_to(folder).as_posix())
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            archive.writestr(entry, path.read_bytes())
