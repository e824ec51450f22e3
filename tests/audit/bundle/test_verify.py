"""The script that an export brings along: every file and every link, one line per fault."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pytest

from partsynth.audit.bundle import verify
from partsynth.audit.bundle.export import SUMS
from partsynth.store.hashing import sha256_file

TABLE = "data/selected/real_id_negatives.csv"
GENERATED = "data/augmented/id/manifest.csv"


def test_one_flipped_byte_of_any_file_is_told(copied_export: Path) -> None:
    assert verify.check(copied_export)[0] == []
    files = sorted(path for path in copied_export.rglob("*") if path.is_file())
    unseen = []
    for path in files:
        data = path.read_bytes()
        for place in (0, len(data) // 2, len(data) - 1):
            path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
            name, (faults, _) = path.relative_to(copied_export).as_posix(), verify.check(copied_export)
            # a digit in SHA256SUMS itself is told of as the file that it stands for
            if not any(name == SUMS or fault.startswith(name) for fault in faults):
                unseen.append((path, place))
        path.write_bytes(data)
    assert len(files) > 60 and unseen == []


@pytest.mark.parametrize(
    ("name", "before", "after", "told"),
    [
        (
            GENERATED,
            "data/real/train/gear_a/00.png",
            "data/real/val/gear_a/00.png",
            "is a val image, no training image",
        ),
        (
            GENERATED,
            "data/real/train/gear_a/00.png",
            "data/real/train/gear_a/99.png",
            "99.png is not in data/real/manif",
        ),
        (GENERATED, "gear_a-train-0", "gear_a-train-1", "has another sha256 or group in data/real/manifest.csv"),
        (GENERATED, "data/augmented/id/gear_a", "../augmented/id/gear_a", "line 2 has no path inside the folder"),
        (GENERATED, "data/augmented/id/gear_a", "/tmp/id/gear_a", "line 2 has no path inside the folder"),
        (
            "data/quality/id.csv",
            "data/augmented/id/gear_a/00-0",
            "data/augmented/id/gear_a/99-0",
            "00-0.png: has no verdict",
        ),
        ("data/quality/id.csv", "gear_a,id", "gear_b,id", "is of another image (sha256 or class)"),
        (TABLE, "data/augmented/id/gear_a/00-0", "data/augmented/id/gear_a/99-0", "but is not an image of set id"),
        (
            TABLE,
            "data/real/train/gear_a/00",
            "data/real/val/gear_a/00",
            "with another source or group than in its manifest",
        ),
        (TABLE, "positive,real", "positive,id", "but is not an image of set id"),
        ("data/real/manifest.csv", "gear_a-val-0", "gear_a-train-0", "group 'gear_a-train-0' is in train"),
        ("data/real/manifest.csv", "gear_a,train", "gear_a,val", "no training image"),
        ("run.json", '"model/encoder.safetensors": "', '"model/encoder.safetensors": "0', "run.json says 0"),
        ("croissant-id.json", '"sha256": "', '"sha256": "0', "croissant-id.json says 0"),
        (
            "bom.cdx.json",
            '"alg": "SHA-256",\n     "content": "',
            '"alg": "SHA-256",\n     "content": "0',
            "bom.cdx.json",
        ),
        ("lineage/stages.json", '"params.yaml": "', '"params.yaml": "0', "lineage/params.yaml: its sha256 is"),
        ("run.json", '"training_table": "data', '"training_table": "elsewhere', "missing, or names no file"),
    ],
)
def test_a_broken_link_is_told_though_all_sums_fit(summed, name, before, after, told) -> None:
    faults, _ = verify.check(summed(name, before, after))
    assert any(told in fault for fault in faults), faults
    assert not any(SUMS in fault for fault in faults)


def test_what_is_added_or_taken_away_is_told(copied_export: Path) -> None:
    (copied_export / "data/real/extra.png").write_bytes(b"x")
    (copied_export / "data/real/train/gear_a/00.png").unlink()
    (copied_export / "linked.csv").symlink_to(copied_export / "run.json")
    faults = "\n".join(verify.check(copied_export)[0])
    for told in (
        "data/real/extra.png: not in SHA256SUMS",
        "data/real/extra.png: an image without a row in a manifest",
        "data/real/train/gear_a/00.png: in SHA256SUMS but missing",
        "data/real/train/gear_a/00.png: in a manifest but missing, though images are included",
        "linked.csv: a link",
    ):
        assert told in faults


def test_the_command_says_one_line_per_fault_and_exits_with_one(copied_export: Path, tmp_path: Path, capsys) -> None:
    sums = sha256_file(copied_export / SUMS)
    assert verify.main([str(copied_export), "--sums", sums]) == 0
    assert verify.main([str(copied_export), "--sums", "0" * 64]) == 1
    assert "SHA256SUMS: its sha256 is" in capsys.readouterr().out
    assert verify.main(["--sums"]) == verify.main([str(tmp_path / "none")]) == 2
    packed = Path(shutil.make_archive(str(tmp_path / "packed"), "zip", copied_export))
    assert verify.main([str(packed), "--sums", sums]) == 0
    capsys.readouterr()
    with pytest.warns(UserWarning), zipfile.ZipFile(packed, "a") as archive:
        archive.writestr("run.json", "{}")
        archive.writestr("../escaped", "x")
    assert verify.main([str(packed)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "run.json: twice in the zip" in lines and "../escaped: a path that leaves the folder" in lines
    assert lines[-1].startswith(f"{len(lines) - 1} faults (")
