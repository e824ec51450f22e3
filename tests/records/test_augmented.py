"""Manifests of augmentation sets: SDEdit's keep their bytes, old ones stay readable, each row has its method's type."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from helpers.rows import augmented

from partsynth.augmentation.methods.sdedit import SdeditRecord
from partsynth.errors import UserError
from partsynth.records.augmented import read_augmented, row_type
from partsynth.records.manifest import write_manifest
from partsynth.records.rows import AugmentedRecord, RealRecord

SOURCE = RealRecord(
    path="data/real/train/a/1.png", sha256="1", class_name="a", split="train", group="g", source="x", source_sha256="0"
)
HEAD = (
    "path,sha256,class_name,set_name,source,source_sha256,source_group,variant,prompt,state,seed,strength,guidance,"
    "steps,token_noise,masked,restore,size,token_sha256,base_sha256,batch_size,dtype,fingerprint"
)


def test_a_manifest_of_sdedit_has_the_columns_it_always_had(tmp_path: Path) -> None:
    row = augmented(SOURCE, "1-v0", sha256="2", prompt="p", token_sha256="t", base_sha256="b", fingerprint="f")
    write_manifest(tmp_path / "m.csv", [row], SdeditRecord)
    assert (tmp_path / "m.csv").read_text() == (
        f"{HEAD}\ndata/augmented/id/a/1-v0.png,2,a,id,data/real/train/a/1.png,1,g,0,p,rusty,0,0.2,4.0,25,0.0,False,"
        "0.0,48,t,b,32,float32,f\n"
    )
    assert read_augmented(tmp_path / "m.csv") == [row] and row.method == "sdedit"
    assert (row.origin_path, row.origin_group) == (SOURCE.origin_path, SOURCE.origin_group) == (SOURCE.path, "g")


def test_a_manifest_from_before_some_columns_is_read(tmp_path: Path) -> None:
    write_manifest(tmp_path / "m.csv", [augmented(SOURCE, "1-v0")], SdeditRecord)
    rows = list(csv.DictReader((tmp_path / "m.csv").open()))
    old = [column for column in HEAD.split(",") if column not in ("restore", "batch_size", "dtype")]
    with (tmp_path / "old.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, old, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    (row,) = read_augmented(tmp_path / "old.csv")
    assert isinstance(row, SdeditRecord) and (row.restore, row.batch_size, row.dtype) == (0.0, 32, "float32")


def test_no_row_is_written_without_its_own_columns(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="fields not in fieldnames"):
        write_manifest(tmp_path / "m.csv", [augmented(SOURCE, "1-v0")], AugmentedRecord)


def test_faults_name_the_file_the_column_and_what_is_allowed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"m.csv is missing: run the stage"):
        read_augmented(tmp_path / "m.csv")
    with pytest.raises(UserError, match=r"column method should be 'sdedit' or 'exchange' \(found 'magic'\)"):
        row_type("path,method\na.png,magic\n", "m.csv")
    (tmp_path / "m.csv").write_text(f"{HEAD},method\n" + "a.png" + "," * HEAD.count(",") + ",sdedit\n")
    with pytest.raises(UserError, match=r"m.csv has faulty rows:\n  line 2, variant: "):
        read_augmented(tmp_path / "m.csv")
    (tmp_path / "m.csv").write_text("path,method\n")
    with pytest.raises(UserError, match="missing columns sha256"):
        read_augmented(tmp_path / "m.csv")
