"""Rules that hold among the rows of manifests, whatever lies on disk: splits, verdicts, selections."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from partsynth.audit.result import Fault
from partsynth.core.splits import divided
from partsynth.records.rows import AugmentedRecord, ImageRecord, RealRecord, SelectedRecord, VerdictRecord


def split_faults(rows: Iterable[RealRecord], listed_duplicates: Collection[str]) -> Iterator[Fault]:
    """No group, and no photograph that ingest did not list as a duplicate, in two splits.

    ``listed_duplicates`` are the sources that data/real/duplicates.csv names: those pairs were accepted.
    """
    rows = list(rows)
    groups: dict[str, dict[str, str]] = defaultdict(dict)  # group -> split -> one path
    photographs: dict[str, dict[str, RealRecord]] = defaultdict(dict)
    images: dict[str, dict[str, RealRecord]] = defaultdict(dict)
    for row in rows:
        groups[row.group].setdefault(row.split, row.path)
        split = row.split if row.role == "target" else f"{row.role} {row.split}"
        for table, key in ((photographs, row.source_sha256), (images, row.sha256)):
            table[key].setdefault(split, row)
    for group in divided((row.group, row.split) for row in rows):
        splits = groups[group]
        yield Fault(min(splits.values()), f"group {group!r} is in {len(splits)} splits ({_named(splits)})")
    for what, table in (("photograph", photographs), ("image", images)):
        for found in table.values():
            if len(found) > 1 and not all(row.source in listed_duplicates for row in found.values()):
                splits = {split: row.path for split, row in found.items()}
                yield Fault(min(splits.values()), f"the same {what} is in {len(splits)} splits ({_named(splits)})")


def _named(splits: Mapping[str, str]) -> str:
    return ", ".join(f"{split}: {path}" for split, path in sorted(splits.items()))


def verdict_faults(
    table: str, manifest: str, verdicts: Sequence[VerdictRecord], rows: Sequence[AugmentedRecord]
) -> Iterator[Fault]:
    """One verdict for every image of a set, and of that image."""
    made = {row.path: row for row in rows}
    judged = {row.path: row for row in verdicts}
    for path in sorted(made.keys() - judged.keys()):
        yield Fault(path, f"has no verdict in {table}")
    for path in sorted(judged.keys() - made.keys()):
        yield Fault(path, f"has a verdict in {table} but no row in {manifest}")
    for path in sorted(judged.keys() & made.keys()):
        if (judged[path].sha256, judged[path].class_name) != (made[path].sha256, made[path].class_name):
            yield Fault(path, f"the verdict in {table} is of another image (sha256 or class)")


def selection_faults(
    table: str,
    row: SelectedRecord,
    training: Mapping[str, RealRecord],
    synthetic: Mapping[str, AugmentedRecord],
    verdicts: Mapping[str, VerdictRecord],
) -> Iterator[Fault]:
    """A selected row is a training image, or a synthetic one of a training image, as the manifests have it."""
    image: ImageRecord | None = training.get(row.path) if row.origin == "real" else synthetic.get(row.path)
    if image is None:
        kind = "a training image of data/real" if row.origin == "real" else f"an image of set {row.origin}"
        yield Fault(row.path, f"is selected in {table} but is not {kind}")
    else:
        if image.sha256 != row.sha256:
            yield Fault(row.path, f"is selected in {table} with another sha256")
        if image.class_name != row.class_name:
            yield Fault(row.path, f"is selected in {table} as {row.class_name}, its manifest says {image.class_name}")
        if (image.origin_group, image.origin_path) != (row.group, row.source):
            yield Fault(row.path, f"is selected in {table} with another source or group")
        if (image.further_group, image.further_path) != (row.donor_group, row.donor):
            yield Fault(row.path, f"is selected in {table} with another donor or group of it")
        if isinstance(image, AugmentedRecord) and image.set_name != row.origin:
            yield Fault(row.path, f"is selected in {table} from set {row.origin}, its row says {image.set_name}")
    if row.source not in training:
        yield Fault(row.path, f"is selected in {table}, and {row.source} is not a training image")
    if row.donor and row.donor not in training:
        yield Fault(row.path, f"is selected in {table}, and {row.donor} is not a training image")
    verdict = verdicts.get(row.path)
    if verdict is not None and row.percentile == row.percentile and verdict.percentile != row.percentile:
        yield Fault(
            row.path, f"is selected in {table} with percentile {row.percentile}, its verdict says {verdict.percentile}"
        )
