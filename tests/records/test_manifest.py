"""Manifests: what is written is read back; what is damaged is named."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from partsynth.errors import UserError
from partsynth.records.manifest import parse_manifest, read_manifest, write_manifest
from partsynth.records.rows import RealRecord, Record, SelectedRecord, VerdictRecord

RELAXED = settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
words = st.text(st.characters(codec="utf-8", exclude_categories=("C",)), max_size=12)
names = words.filter(lambda w: w and not w.startswith("/") and ".." not in w.split("/") and "\\" not in w)


def real(path: str = "data/real/train/a/1.png", **changes: object) -> RealRecord:
    fields = {"sha256": "0" * 64, "class_name": "a", "split": "train", "group": "g", "source": "a/1.jpg"}
    return RealRecord.model_validate({"path": path, "source_sha256": "1" * 64, **fields, **changes})


@RELAXED
@given(
    st.lists(
        st.builds(real, path=names, class_name=words, group=words, source=words), max_size=6, unique_by=lambda r: r.path
    )
)
def test_manifests_are_read_as_written(tmp_path: Path, rows: list[RealRecord]) -> None:
    path = tmp_path / "manifest.csv"
    write_manifest(path, rows, RealRecord)
    assert read_manifest(path, RealRecord) == sorted(rows, key=lambda r: r.path)


@RELAXED
@given(drift=st.floats(), percentile=st.floats(0, 1))
def test_figures_keep_every_bit(tmp_path: Path, drift: float, percentile: float) -> None:
    row = VerdictRecord(
        path="a.png",
        sha256="0",
        class_name="a",
        set_name="id",
        drift=drift,
        percentile=percentile,
        calibration_n=3,
        nearest_class="a",
        class_margin=0.1,
        sharpness=1,
        brightness=0.5,
        contrast=0.2,
        copy_similarity=0.3,
        verdict="accept",
        reasons="",
    )
    write_manifest(tmp_path / "v.csv", [row], VerdictRecord)
    (read,) = read_manifest(tmp_path / "v.csv", VerdictRecord)
    assert read.percentile == percentile
    assert read.drift == drift or (math.isnan(drift) and math.isnan(read.drift))


def test_order_of_rows_does_not_matter_and_an_empty_manifest_is_whole(tmp_path: Path) -> None:
    rows = [real("b.png"), real("a.png")]
    write_manifest(tmp_path / "1.csv", rows, RealRecord)
    write_manifest(tmp_path / "2.csv", rows[::-1], RealRecord)
    assert (tmp_path / "1.csv").read_bytes() == (tmp_path / "2.csv").read_bytes()
    write_manifest(tmp_path / "3.csv", [], RealRecord)
    assert read_manifest(tmp_path / "3.csv", RealRecord) == []


def test_two_rows_for_one_picture_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"two rows for a.png"):
        write_manifest(tmp_path / "m.csv", [real("a.png"), real("a.png")], RealRecord)


def test_a_faulty_manifest_is_told_by_line_and_column(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    row = SelectedRecord(
        path="a.png", sha256="0", class_name="a", role="positive", origin="real", source="a.png", group="g"
    )
    write_manifest(path, [row], SelectedRecord)
    good = path.read_text()
    path.write_text(good.replace("nan", "much").replace("a.png,0", "../a.png,0"))
    with pytest.raises(UserError) as caught:
        read_manifest(path, SelectedRecord)
    assert "line 2, percentile" in str(caught.value)
    assert "line 2, path" in str(caught.value)
    path.write_text(good.replace("origin", "orgin"))
    with pytest.raises(UserError, match="missing columns origin"):
        read_manifest(path, SelectedRecord)
    with pytest.raises(UserError, match="is missing: run the stage"):
        read_manifest(tmp_path / "none.csv", SelectedRecord)
    path.write_text(good + "b.png,0\n")
    with pytest.raises(UserError, match="line 3, class_name"):
        read_manifest(path, SelectedRecord)
    path.write_text(good.rstrip("\n") + ",more\n")
    with pytest.raises(UserError, match="line 2"):
        read_manifest(path, SelectedRecord)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="is no table"):
        read_manifest(path, SelectedRecord)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("path,sha256,class_name,path\na.png,0,a,a.png\n", "two columns path"),
        ("path,sha256,class_name\na.png,0,a\na.png,0,b\n", "line 3: a.png stands in line 2 already"),
        ("path,sha256,class_name\na.png,0,a,more\n", "line 2: more fields than the header"),
        ("path,sha256,class_name\na.png,0\n", "line 2, class_name"),
        ('path,sha256,class_name\na.png,0,"a\nb.png,0,b\n', "no table"),
        ("path,sha256,class_name\na.png,0,\0\n", None),
        ("path,sha256,class_name\na.png,0," + "x" * 200_000 + "\n", "field larger than field limit"),
        ("path,sha256,class_name\n../a.png,0,a\n", "is not a path with slashes below its manifest"),
        ("path,sha256,class_name\na\\b.png,0,a\n", "is not a path with slashes below its manifest"),
    ],
)
def test_a_damaged_table_is_told_by_line(text: str, told: str | None) -> None:
    if told is None:  # Python 3.11 and later take a NUL byte for a letter
        assert len(parse_manifest(text, Record, "m.csv")) == 1
        return
    with pytest.raises(UserError, match=told) as caught:
        parse_manifest(text, Record, "m.csv")
    assert str(caught.value).startswith("m.csv")


@pytest.mark.parametrize("name", ["mask", "source"])
def test_masks_and_sources_stay_below_the_project(name: str) -> None:
    kind = {"mask": RealRecord, "source": SelectedRecord}[name]
    values = {"path": "a.png", "sha256": "0", "class_name": "a", "source": "a.png", "group": "g"}
    values |= {"split": "val", "source_sha256": "0"} if kind is RealRecord else {"role": "positive", "origin": "real"}
    kind(**values)
    for bad in ("/etc/passwd", "data/../../x.png"):
        with pytest.raises(ValueError, match="is not a path with slashes below its manifest"):
            kind(**(values | {name: bad}))


@pytest.mark.parametrize(
    ("path", "class_name", "right"),
    [
        ("data/real/train/gear/1.png", "flange", False),
        ("data/ood/near/test/gear/1.png", "flange", False),
        ("data/augmented/id/gear/1-v0.png", "flange", False),
        ("data/augmented/id/shard-00000.tar/gear/1-v0.png", "flange", False),
        ("data/augmented/id/shard-00000.tar/gear/1-v0.png", "gear", True),
        ("data/augmented/id/gear/m8/1-v0.png", "gear/m8", True),
        ("data/real/train/gear.v2/1.png", "gear.v2", True),
        ("elsewhere/gear/1.png", "flange", True),  # no folders by class
    ],
)
def test_a_class_other_than_the_folders_is_a_fault_of_the_row(
    tmp_path: Path, path: str, class_name: str, right: bool
) -> None:
    """Whatever table it stands in; no hash would tell."""
    file = tmp_path / "manifest.csv"
    write_manifest(file, [Record(path=path, sha256="0", class_name=class_name)], Record)
    if right:
        assert [row.class_name for row in read_manifest(file, Record)] == [class_name]
    else:
        with pytest.raises(
            UserError, match=r"manifest\.csv has faulty rows:\n  line 2, path: .*(in the folder|slashes)"
        ):
            read_manifest(file, Record)


def test_a_selected_image_names_its_source() -> None:
    told = {"path": "data/real/train/a/1.png", "sha256": "0", "class_name": "a", "origin": "real", "role": "positive"}
    with pytest.raises(ValueError, match="is not a path with slashes below its manifest"):
        SelectedRecord.model_validate(told | {"group": "g", "source": ""})
