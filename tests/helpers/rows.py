"""Rows of manifests for tests."""

from __future__ import annotations

from partsynth.records.rows import AugmentedRecord, RealRecord


def augmented(source: RealRecord, name: str, sha256: str = "", set_name: str = "id") -> AugmentedRecord:
    return AugmentedRecord(
        path=f"data/augmented/{set_name}/{source.class_name}/{name}.png",
        sha256=sha256,
        class_name=source.class_name,
        set_name=set_name,
        source=source.path,
        source_sha256=source.sha256,
        source_group=source.group,
        variant=0,
        prompt="",
        state="rusty",
        seed=0,
        strength=0.2,
        guidance=4.0,
        steps=25,
        token_noise=0.0,
        masked=False,
        size=48,
        token_sha256="",
        base_sha256="",
        fingerprint="",
    )
