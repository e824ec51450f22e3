"""Images of two photographs: rows, pixels, audits, and that both photographs count where one does."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from helpers import tiny_sd
from helpers.rows import exchanged, real_row
from PIL import Image, ImageDraw
from pydantic import ValidationError

from partsynth.audit.chain import made_from
from partsynth.audit.lookup import Found
from partsynth.audit.parents import parent_faults
from partsynth.audit.regenerate import make_again
from partsynth.audit.source import Derived
from partsynth.audit.takedown_search import Traces, workspace_files
from partsynth.audit.tokens import LearnedToken
from partsynth.audit.versions import Version
from partsynth.augmentation.again import encodings, regenerate
from partsynth.augmentation.methods.exchange import MEMBER, ExchangeRecord, ExchangeSet
from partsynth.config.generation import Generate
from partsynth.config.models import Diffusion
from partsynth.errors import UserError
from partsynth.records.augmented import read_augmented
from partsynth.records.manifest import read_manifest, write_manifest
from partsynth.records.rows import RealRecord
from partsynth.store.hashing import sha256_bytes, sha256_file
from partsynth.store.png import TERMS, XMP_KEY, write_png

CLASSES = ("gear_a", "gear_b", "pump_a", "pump_b")
COLOURS = ((190, 80, 60), (70, 160, 90), (60, 90, 190), (180, 170, 60))


@pytest.fixture
def project(tmp_path) -> Path:
    """Discs with a hub, four classes: three training images each, of three groups and two cameras, one held out."""
    rows = []
    for k, name in enumerate(CLASSES):
        for i in range(4):
            box = [8 + i, 10 + k, 52 + i, 54 + k]
            image, mask = Image.new("RGB", (64, 64), (60 + 10 * i, 60, 66)), Image.new("L", (64, 64))
            ImageDraw.Draw(image).ellipse(box, fill=(150, 150, 150))
            hub = 6 + 2 * k
            ImageDraw.Draw(image).ellipse([30 + i - hub, 32 + k - hub, 30 + i + hub, 32 + k + hub], fill=COLOURS[k])
            ImageDraw.Draw(mask).ellipse(box, fill=255)
            split = "val" if i == 3 else "train"
            grain = np.random.default_rng([k, i]).normal(0, 5, (64, 64, 3))
            changed = {"mask": f"data/real/masks/{name}_{i}.png", "camera": f"cam{i % 2}"}
            row = real_row(f"{name}/{i}", split, f"{name}-{i}", source_sha256=f"{k}{i}" * 32, **changed)
            write_png(tmp_path / row.path, (np.asarray(image) + grain).clip(0, 255).astype(np.uint8))
            write_png(tmp_path / row.mask, mask)
            rows.append(row.model_copy(update={"sha256": sha256_file(tmp_path / row.path)}))
    write_manifest(tmp_path / "data/real/manifest.csv", rows, RealRecord)
    return tmp_path


def make(root: Path, name: str = "swaps", **given) -> list[ExchangeRecord]:
    """By stage generate; there is no base model and no token."""
    out = tiny_sd.make_set(root, name, Generate(), ExchangeSet(**given))
    return [row for row in read_augmented(out / "manifest.csv") if isinstance(row, ExchangeRecord)]


def real(root: Path) -> dict[str, RealRecord]:
    return {row.path: row for row in read_manifest(root / "data/real/manifest.csv", RealRecord)}


FAMILIES = {"gear_*": "gear", "pump_*": "pump"}


def test_siblings_lend_and_rows_say_all(project) -> None:
    rows, known = make(project, siblings=FAMILIES), real(project)
    assert len(rows) == 4 * 3 * 2
    for row in rows:
        donor = known[row.donor]
        assert (donor.split, donor.sha256, donor.group) == ("train", row.donor_sha256, row.donor_group)
        assert row.donor_class == donor.class_name != row.class_name and row.donor_class[:4] == row.class_name[:4]
        assert donor.camera == known[row.source].camera
        assert 0.45 <= row.inner <= 0.55
        again = regenerate(row, Diffusion(), project / "data/real", project / "models/tokens", project)
        assert sha256_bytes(encodings(again, row)[0]) == row.sha256
    assert len({row.inner for row in rows}) > 20
    assert any(row.donor_class == "pump_a" for row in make(project) if row.class_name == "gear_a")  # null: all others
    assert make(project, siblings=FAMILIES) == rows


def test_own_exchanges_within_a_class_and_never_with_itself_or_its_group(project) -> None:
    rows = make(project, between="own")
    assert {row.donor_class == row.class_name and row.donor_group != row.source_group for row in rows} == {True}
    known = list(real(project).values())
    one = [row.model_copy(update={"group": row.class_name if row.split == "train" else row.group}) for row in known]
    write_manifest(project / "data/real/manifest.csv", one, RealRecord)
    rows = make(project, between="own")  # of one group alone: its other images lend
    assert all(row.donor != row.source for row in rows)
    few = [row for row in known if row.split == "val" or row.path.endswith("/0.png")]
    write_manifest(project / "data/real/manifest.csv", few, RealRecord)
    with pytest.raises(UserError, match=r"sets.swaps.between: data/real/train/gear_a/0.png is the only training image"):
        make(project, between="own")


def test_the_rim_is_the_sources_and_the_hub_is_another(project) -> None:
    for row in make(project, siblings=FAMILIES, inner=0.4):
        made, own = (np.asarray(Image.open(project / path).convert("RGB"), float) for path in (row.path, row.source))
        mask = np.asarray(Image.open(project / real(project)[row.source].mask)) > 127
        y, x = np.nonzero(mask)
        away = np.hypot(*(np.mgrid[:64, :64] - np.array([y.mean(), x.mean()])[:, None, None]))
        assert np.array_equal(made[away > 0.44 * 22 + 3], own[away > 0.44 * 22 + 3])
        assert np.abs(made - own)[away < 6].mean() > 3


def test_images_say_that_they_are_composed_of_photographs_without_a_model(project) -> None:
    for row in make(project, variants=1):
        assert f'"{TERMS}compositeCapture"' in Image.open(project / row.path).info[XMP_KEY]


def test_without_masks_a_disc_is_taken_only_where_it_is_asked_for(project) -> None:
    bare = [row.model_copy(update={"mask": ""}) for row in real(project).values()]
    write_manifest(project / "data/real/manifest.csv", bare, RealRecord)
    with pytest.raises(UserError, match=r"sets.swaps.masks: part \(masks: none takes a disc in its place\)"):
        make(project)
    row = make(project, masks="none")[0]
    made, own = (np.asarray(Image.open(project / path).convert("RGB"), int) for path in (row.path, row.source))
    y, x = np.mgrid[:64, :64] + 0.5
    away = np.hypot(x - 32, y - 32)
    assert np.array_equal(made[away > 0.55 * 32 + 3], own[away > 0.55 * 32 + 3])
    assert np.abs(made - own)[away < 8].mean() > 3


def test_masks_that_cannot_be_used_are_named(project) -> None:
    name = real(project)["data/real/train/gear_a/0.png"].mask
    write_png(project / name, Image.new("L", (64, 64)))
    with pytest.raises(UserError, match=re.escape(f"{name} has no part in it")):
        make(project)
    write_png(project / name, Image.new("L", (32, 32), 255))
    with pytest.raises(UserError, match=re.escape(f"{name} is a mask of another size")):
        make(project)


def test_a_changed_mask_or_donor_changes_the_fingerprint(project) -> None:
    row = make(project)[0]
    where = (project / "data/real", project / "models/tokens", project)
    for path in (real(project)[row.donor].mask, real(project)[row.source].mask):
        before = (project / path).read_bytes()
        write_png(project / path, Image.new("L", (64, 64), 255))
        with pytest.raises(UserError, match="another fingerprint"):
            regenerate(row, Diffusion(), *where)
        (project / path).write_bytes(before)
    write_png(project / row.donor, Image.new("RGB", (64, 64)))
    with pytest.raises(UserError, match=row.donor):
        regenerate(row, Diffusion(), *where)
    rest = [r for r in real(project).values() if r.path != row.donor]
    write_manifest(project / "data/real/manifest.csv", rest, RealRecord)
    with pytest.raises(UserError, match=f"{row.donor} is not in data/real's manifest: an image was made from it"):
        regenerate(row, Diffusion(), *where)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"between": "own", "siblings": FAMILIES}, "siblings are for between: siblings, while between is own"),
        ({"inner": 0}, "greater than 0"),
        ({"inner": 1.1}, "less than or equal to 1"),
        ({"strength": 0.5}, "Extra inputs are not permitted"),
    ],
)
def test_keys_that_cannot_be_are_told(given, told) -> None:
    with pytest.raises(ValidationError, match=told):
        ExchangeSet(**given)


class Held:
    """A state of the data, for audits."""

    def __init__(self, rows: dict[str, RealRecord]) -> None:
        self.rows = rows

    def real_image(self, path: str) -> RealRecord | None:
        return self.rows.get(path)

    def sha256(self, path: str) -> str | None:
        return None

    def token(self, path: str) -> LearnedToken | None:
        return None


def test_audits_follow_the_donor_as_the_source(project) -> None:
    row, known = make(project)[0], real(project)
    assert list(parent_faults(row, Held(known))) == []
    donor = known[row.donor]
    for change, told in (
        ({"split": "val"}, f"its parent {row.donor} is a val image, not a training image"),
        ({"sha256": "x"}, f"its parent {row.donor} had sha256 {row.donor_sha256}, now x"),
        ({"class_name": "bolt"}, f"the class of its parent {row.donor} is {row.donor_class}, its parent's is bolt"),
        ({"group": "g"}, f"the group of its parent {row.donor} is '{row.donor_group}', its parent's is 'g'"),
    ):
        changed = known | {row.donor: donor.model_copy(update=change)}
        assert list(parent_faults(row, Held(changed))) == [told]
    del known[row.donor]
    assert list(parent_faults(row, Held(known))) == [f"its parent {row.donor} is not in data/real/manifest.csv"]


class Earlier(Version):
    """A state of the data that is not the workspace: what an image is made again from is written out elsewhere."""

    is_workspace = False


def test_audit_image_tells_both_photographs_and_makes_the_image_again(project) -> None:
    (project / "params.yaml").write_text("diffusion: {}\n")
    row, faults = make(project)[0], []
    told = made_from(Version(project), row, faults)
    assert told["photograph"]["framed"] == row.source
    assert [(one["framed"], one["class_name"]) for one in told["further_photographs"]] == [(row.donor, row.donor_class)]
    assert [fault.message for fault in faults] == ["has no verdict in data/quality/swaps.csv"]
    content = (project / row.path).read_bytes()
    for version in (Version(project), Earlier(project)):
        found = Found(version, "here", "data/augmented/swaps/manifest.csv", row)
        assert make_again(project, found, content, faults)["same_bytes"]
    assert len(faults) == 1


def test_a_takedown_of_the_donor_finds_the_image(project) -> None:
    rows = make(project, siblings=FAMILIES)
    lent = real(project)["data/real/train/gear_a/0.png"]
    wanted = {row.path for row in rows if lent.path in (row.donor, row.source)}
    assert len({row.class_name for row in rows if row.path in wanted}) == 2  # of its own class, and of the sibling
    traces = Traces(lent.source_sha256)
    traces.learn([(project / f"data/{part}/manifest.csv").read_bytes() for part in ("augmented/swaps", "real")])
    assert set(traces.synthetic.values()) == wanted and traces.sets == {"swaps"}
    found = {piece.path for piece, _ in workspace_files(project, traces, []) if piece.kind == "synthetic"}
    assert found == wanted
    derived = Derived(lent.source_sha256)
    derived.collect(Version(project))
    assert {item["path"] for item in derived.synthetic.values()} == wanted


def test_a_set_in_a_few_words() -> None:
    source, donor = real_row("a/1", "train", "a-1"), real_row("b/2", "train", "b-2")
    row = exchanged(source, donor)
    assert MEMBER.summary([]) == "empty" and MEMBER.summary([row]) == "exchange between siblings"
    assert row.caption == "with the inside of b" and "two training images" in MEMBER.limitation([row])
