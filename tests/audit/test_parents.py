"""What an image may be made from: the rule, and whose word it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import pytest
from helpers.audits import IMAGE

from partsynth.audit.image import trace_image
from partsynth.audit.parents import parent_faults
from partsynth.audit.tokens import LearnedToken
from partsynth.audit.verify import verify
from partsynth.augmentation.method import Method, Parent
from partsynth.augmentation.methods.sdedit import SdeditRecord
from partsynth.config.sets import AugmentationSet
from partsynth.records.manifest import read_manifest, write_manifest
from partsynth.records.rows import AugmentedRecord, RealRecord
from partsynth.seams import METHODS
from partsynth.store.hashing import sha256_bytes

SOURCE = RealRecord(
    path="data/real/train/a/0.png",
    sha256="real",
    class_name="a",
    split="train",
    group="g",
    source="0.png",
    source_sha256="photo",
)
TOKEN = LearnedToken("a", "base", ((SOURCE.path, "real"),), {})


class StampRecord(AugmentedRecord):
    method: Literal["stamped"] = "stamped"
    stamp_sha256: str


class Stamped(Method[AugmentationSet, StampRecord]):
    """A method without token and base model, but with a file of its own."""

    name, Parameters, Row = "stamped", AugmentationSet, StampRecord

    def plan(self, order, materials):
        raise NotImplementedError

    def paint(self, rows, materials):
        raise NotImplementedError

    def parents(self, row: StampRecord) -> list[Parent]:
        return [*super().parents(row), Parent("stamp", "stamps/rust.png", row.stamp_sha256)]


@pytest.fixture
def stamped() -> Iterator[None]:
    METHODS.register("stamped", Stamped())
    yield
    METHODS.unregister("stamped")


class Held:
    """One photograph, one token, one stamp."""

    def __init__(self, real: RealRecord | None = SOURCE, token: LearnedToken | None = TOKEN, **files: str) -> None:
        self.real, self.held_token = real, token
        self.files = {"models/tokens/a.safetensors": "token", "stamps/rust.png": "stamp"} | files

    def real_image(self, path: str) -> RealRecord | None:
        return self.real if self.real is not None and self.real.path == path else None

    def sha256(self, path: str) -> str | None:
        return self.files.get(path)

    def token(self, path: str) -> LearnedToken | None:
        return self.held_token


def row(kind: type[AugmentedRecord] = SdeditRecord, **changed: object) -> AugmentedRecord:
    common = {
        "path": "data/augmented/id/a/0-v0.png",
        "sha256": "image",
        "class_name": "a",
        "set_name": "id",
        "source": SOURCE.path,
        "source_sha256": "real",
        "source_group": "g",
        "variant": 0,
        "seed": 0,
        "size": 16,
        "fingerprint": "",
    }
    sdedit = {"prompt": "", "strength": 0.2, "guidance": 4.0, "steps": 25, "token_noise": 0.0, "masked": False}
    hashes = {"token_sha256": "token", "base_sha256": "base"}
    own = {"stamp_sha256": "stamp"} if kind is StampRecord else sdedit | hashes
    return kind(**(common | own | changed))


def test_a_sound_row_has_no_faults(stamped) -> None:
    assert list(parent_faults(row(), Held())) == []
    assert list(parent_faults(row(StampRecord), Held(token=None))) == []


@pytest.mark.parametrize(
    ("held", "changed", "said"),
    [
        (Held(real=None), {}, f"its parent {SOURCE.path} is not in data/real/manifest.csv"),
        (Held(real=SOURCE.model_copy(update={"split": "test"})), {}, "is a test image, not a training image"),
        (Held(real=SOURCE.model_copy(update={"role": "near_ood"})), {}, "is a train image, not a training image"),
        (Held(real=SOURCE.model_copy(update={"sha256": "x"})), {}, "had sha256 real, now x"),
        (Held(real=SOURCE.model_copy(update={"class_name": "b"})), {}, "its class is a, its parent's is b"),
        (Held(), {"source_group": "h"}, "its group is 'h', its parent's is 'g'"),
        (Held(), {"token_sha256": "x"}, "the token it was made with (x) is another one now"),
        (Held(token=None), {}, "does not say what it was learned from"),
        (Held(token=LearnedToken("b", "base", (), {})), {}, "it was made with the token of b"),
        (Held(token=LearnedToken("a", None, (), {})), {}, "its base base is not its token's None"),
    ],
)
def test_every_broken_link_is_named_once(held: Held, changed: dict[str, str], said: str) -> None:
    (message,) = parent_faults(row(**changed), held)
    assert said in message


def test_a_file_of_the_methods_own_is_asked_for_as_a_token_is(stamped) -> None:
    held = Held(token=None, **{"stamps/rust.png": "another"})
    assert list(parent_faults(row(StampRecord), held)) == [
        "the stamp it was made with (stamp) is another one now: stamps/rust.png"
    ]


def test_an_image_of_another_method_is_traced_without_token_and_base(copied, stamped) -> None:
    manifest = copied / "data/augmented/id/manifest.csv"
    stamp = sha256_bytes(b"rust")
    (copied / "stamps").mkdir()
    (copied / "stamps/rust.png").write_bytes(b"rust")
    kept = {"path", "sha256", "class_name", "set_name", "source", "source_sha256", "source_group", "variant"}
    kept |= {"state", "seed", "size", "fingerprint"}
    rows = [
        StampRecord(**old.model_dump(include=kept), stamp_sha256=stamp) for old in read_manifest(manifest, SdeditRecord)
    ]
    manifest.unlink()
    write_manifest(manifest, rows, StampRecord)
    result = trace_image(copied, IMAGE)
    assert result.faults == []
    assert result.data["made_from"] == [{"kind": "stamp", "path": "stamps/rust.png", "sha256": stamp}]
    assert not {"token", "base"} & result.data.keys() and result.data["photograph"]["split"] == "train"
    assert {fault.path for fault in verify(copied).faults} == {"data/augmented/id/manifest.csv"}  # altered
    (copied / "stamps/rust.png").unlink()
    assert "the stamp it was made with" in trace_image(copied, IMAGE).faults[0].message
    assert f"the stamp it was made with ({stamp}) is missing: stamps/rust.png" in [
        fault.message for fault in verify(copied).faults if fault.path == IMAGE
    ]
