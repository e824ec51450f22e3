"""The rules against leaks of a training table."""

from __future__ import annotations

from collections.abc import Sequence

from partsynth.records.rows import RealRecord, SelectedRecord


def leaks(rows: Sequence[SelectedRecord], real_rows: Sequence[RealRecord]) -> list[str]:
    """What is wrong with each row: its source or donor is no training image, the group of one is held out too, or it is
    there twice (a real image may be a positive of its class and a negative of the others)."""
    training = {r.path: r for r in real_rows if r.split == "train"}
    held_out = {r.group: r.split for r in real_rows if r.split != "train"}
    faults: list[str] = []
    seen: dict[str, dict[str, str]] = {}  # path -> role -> origin
    for row in rows:
        source = training.get(row.source)
        if source is None:
            faults.append(f"{row.path}: its source {row.source} is no training image")
        elif (source.class_name, source.group) != (row.class_name, row.group):
            told = f"{row.class_name}, {row.group}"
            faults.append(f"{row.path}: class and group are {told}; its source's {source.class_name}, {source.group}")
        elif row.group in held_out:
            faults.append(f"{row.path}: its group {row.group} is also in {held_out[row.group]}")
        if row.donor or row.donor_group:
            donor = training.get(row.donor)
            if donor is None:
                faults.append(f"{row.path}: its donor {row.donor} is no training image")
            elif donor.group != row.donor_group:
                faults.append(f"{row.path}: its donor's group is {row.donor_group}; {row.donor} has {donor.group}")
            elif row.donor_group in held_out:
                faults.append(f"{row.path}: its donor's group {row.donor_group} is also in {held_out[row.donor_group]}")
        again = seen.setdefault(row.path, {})
        if again and (row.role in again or {row.origin, *again.values()} != {"real"}):
            faults.append(f"{row.path}: selected twice")
        again[row.role] = row.origin
    return faults
