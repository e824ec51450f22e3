"""Check an export of `partsynth audit export`: every file's hash, and the links between its tables.

    python verify.py [FOLDER or FILE.zip] [--sums SHA256]

Prints one line per fault and exits with 1 where there is one. Needs the standard library of Python 3.9 or newer alone:
this file is copied into each export and run there. ``--sums`` is the sha256 that SHA256SUMS itself should have.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import sys
import zipfile
from pathlib import Path, PurePosixPath

SUMS = "SHA256SUMS"
REAL, OOD, AUGMENTED, QUALITY = "data/real", "data/ood", "data/augmented", "data/quality"


class Folder:
    """The files of a folder."""

    def __init__(self, path):
        self.path, self.names, self.faults = Path(path), [], []
        for found in sorted(self.path.rglob("*")):
            name = found.relative_to(self.path).as_posix()
            if found.is_symlink():
                self.faults.append(f"{name}: a link, which might lead anywhere")
            elif found.is_file():
                self.names.append(name)

    def read(self, name):
        return (self.path / name).read_bytes()


class Zip:
    """The files of a zip."""

    def __init__(self, path):
        self.archive, self.faults = zipfile.ZipFile(path), []
        names = [entry.filename for entry in self.archive.infolist() if not entry.is_dir()]
        self.names = sorted(set(names))
        self.faults += [f"{name}: twice in the zip" for name in self.names if names.count(name) > 1]

    def read(self, name):
        return self.archive.read(name)


def check(place, sums=None):
    """The faults of an export, as lines, and how many things were looked at."""
    tree = Zip(place) if zipfile.is_zipfile(place) else Folder(place)
    faults, counts = list(tree.faults), {}
    hashes = check_sums(tree, sums, faults)
    counts["files"] = len(hashes)
    tables = Tables(tree, hashes, faults)
    check_splits(tables, faults)
    for name in tables.sets:
        check_set(tables, name, faults)
    check_training_table(tables, faults)
    check_images(tables, hashes, faults)
    check_documents(tables, hashes, faults)
    counts["real images"] = len(tables.real) + len(tables.ood)
    counts["generated images"] = sum(map(len, tables.sets.values()))
    counts["rows of the training table"] = len(tables.selected)
    return faults, counts


def leaves(name):
    """Whether a path might lead out of the folder."""
    pure = PurePosixPath(name)
    return not name or pure.is_absolute() or ".." in pure.parts or "\\" in name or ":" in pure.parts[0]


def check_sums(tree, wanted, faults):
    """Every file against SHA256SUMS, which must list all of them and nothing else; their hashes by name."""
    hashes = {}
    for name in tree.names:
        if leaves(name):
            faults.append(f"{name}: a path that leaves the folder")
            continue
        try:
            hashes[name] = hashlib.sha256(tree.read(name)).hexdigest()
        except (OSError, zipfile.BadZipFile) as error:
            faults.append(f"{name}: cannot be read: {error}")
    if SUMS not in hashes:
        faults.append(f"{SUMS}: missing")
        return hashes
    if wanted and hashes[SUMS] != wanted:
        faults.append(f"{SUMS}: its sha256 is {hashes[SUMS]}, not {wanted}")
    listed, odd = {}, 0
    for line in tree.read(SUMS).decode("utf-8", "replace").split("\n"):
        found = re.fullmatch(r"([0-9a-f]{64})  (.+)", line)
        if found and found[2] not in listed:
            listed[found[2]] = found[1]
        elif line:
            odd += 1
    if odd:
        faults.append(f"{SUMS}: {odd} lines that are no hash and name")
    for name in sorted(listed.keys() | (hashes.keys() - {SUMS})):
        if name not in listed:
            faults.append(f"{name}: not in {SUMS}")
        elif name not in hashes:
            faults.append(f"{name}: in {SUMS} but missing")
        elif hashes[name] != listed[name]:
            faults.append(f"{name}: its sha256 is {hashes[name]}, {SUMS} says {listed[name]}")
    plain = "".join(f"{listed[name]}  {name}\n" for name in sorted(listed))
    if not odd and plain.encode() != tree.read(SUMS):
        faults.append(f"{SUMS}: not written as it is by partsynth")
    return hashes


class Tables:
    """The tables of an export, by path of the image."""

    def __init__(self, tree, hashes, faults):
        self.tree, self.present, self.faults = tree, hashes, faults
        self.about = self.json("run.json") or {}
        self.real = self.table(f"{REAL}/manifest.csv", required=True)
        self.ood = self.table(f"{OOD}/manifest.csv")
        names = [name for name in hashes if re.fullmatch(rf"{AUGMENTED}/[^/]+/manifest\.csv", name)]
        self.sets = {name.split("/")[2]: self.table(name) for name in sorted(names)}
        self.selected = self.rows(str(self.about.get("training_table", "")), required=True)
        self.train = {p: r for p, r in self.real.items() if r.get("split") == "train" and r.get("role") == "target"}

    def json(self, name):
        try:
            return json.loads(self.tree.read(name)) if name in self.present else self.missing(name)
        except ValueError as error:
            self.faults.append(f"{name}: no JSON: {error}")
        return None

    def missing(self, name):
        self.faults.append(f"{name or 'run.json'}: missing, or names no file")

    def rows(self, name, required=False):
        if name not in self.present:
            if required:
                self.missing(name)
            return []
        try:
            rows = list(csv.DictReader(io.StringIO(self.tree.read(name).decode("utf-8"), newline="")))
        except (ValueError, csv.Error) as error:
            self.faults.append(f"{name}: no table: {error}")
            return []
        good = []
        for number, row in enumerate(rows, 2):
            if leaves(row.get("path") or "") or not re.fullmatch("[0-9a-f]{64}", row.get("sha256") or ""):
                self.faults.append(f"{name}: line {number} has no path inside the folder, or no sha256")
            else:
                good.append(row)
        return good

    def table(self, name, required=False):
        found = {}
        for row in self.rows(name, required):
            if row["path"] in found:
                self.faults.append(f"{name}: two rows for {row['path']}")
            found[row["path"]] = row
        return found


def check_splits(tables, faults):
    """No part or spot in two splits, no photograph either but those that data/real/duplicates.csv lists."""
    accepted = set()
    if (name := f"{REAL}/duplicates.csv") in tables.present:
        for row in csv.DictReader(io.StringIO(tables.tree.read(name).decode("utf-8", "replace"))):
            accepted |= {row.get("path_a"), row.get("path_b")}
    groups: dict = {}
    photographs: dict = {}
    for path, row in sorted({**tables.real, **tables.ood}.items()):
        split = row.get("split", "")
        first = groups.setdefault(row.get("group"), (split, path))
        if first[0] != split:
            faults.append(f"{path}: its group {row.get('group')!r} is in {first[0]} ({first[1]}) and in {split}")
        split = split if row.get("role") == "target" else f"{row.get('role')} {split}"
        first = photographs.setdefault(row.get("source_sha256"), (split, path, row.get("source")))
        if first[0] != split and not {row.get("source"), first[2]} <= accepted:
            faults.append(f"{path}: the same photograph is in {first[0]} ({first[1]}) and in {split}")


def check_set(tables, name, faults):
    """Each generated image: its source is a training image as it was then, and it has its own verdict."""
    rows, table = tables.sets[name], f"{QUALITY}/{name}.csv"
    verdicts = tables.table(table, required=True)
    for path, row in rows.items():
        if not path.startswith(f"{AUGMENTED}/{name}/") or row.get("set_name") != name:
            faults.append(f"{path}: in the manifest of set {name}, its row or path says another")
        source = tables.real.get(row.get("source") or "")
        if source is None:
            faults.append(f"{path}: its source {row.get('source')} is not in {REAL}/manifest.csv")
        elif row.get("source") not in tables.train:
            faults.append(f"{path}: its source {row['source']} is a {source.get('split')} image, no training image")
        elif (source["sha256"], source.get("group")) != (row.get("source_sha256"), row.get("source_group")):
            faults.append(f"{path}: its source {row['source']} has another sha256 or group in {REAL}/manifest.csv")
        if row.get("donor"):
            donor = tables.train.get(row["donor"])
            if donor is None:
                faults.append(f"{path}: its donor {row['donor']} is no training image in {REAL}/manifest.csv")
            elif (donor["sha256"], donor.get("group")) != (row.get("donor_sha256"), row.get("donor_group")):
                faults.append(f"{path}: its donor {row['donor']} has another sha256 or group in {REAL}/manifest.csv")
        if path not in verdicts:
            faults.append(f"{path}: has no verdict in {table}")
        elif [verdicts[path].get(k) for k in ("sha256", "class_name")] != [row["sha256"], row.get("class_name")]:
            faults.append(f"{path}: the verdict in {table} is of another image (sha256 or class)")
    faults += [f"{path}: has a verdict in {table} but no row in the manifest" for path in verdicts if path not in rows]


def check_training_table(tables, faults):
    """Each row is a training image, or a generated one of a training image, as the manifests have it."""
    name = tables.about.get("training_table")
    verdicts = {n: tables.table(f"{QUALITY}/{n}.csv") for n in tables.sets}
    for row in tables.selected:
        path, origin = row["path"], row.get("origin") or ""
        image = tables.train.get(path) if origin == "real" else tables.sets.get(origin, {}).get(path)
        if image is None:
            what = "a training image" if origin == "real" else f"an image of set {origin}"
            faults.append(f"{path}: in {name}, but is not {what}")
            continue
        if image["sha256"] != row["sha256"]:
            faults.append(f"{path}: in {name} with another sha256 than in its manifest")
        if image.get("class_name") != row.get("class_name"):
            faults.append(f"{path}: in {name} as {row.get('class_name')}, its manifest says {image.get('class_name')}")
        source = path if origin == "real" else image.get("source")
        group = image.get("group") if origin == "real" else image.get("source_group")
        if (source, group) != (row.get("source"), row.get("group")):
            faults.append(f"{path}: in {name} with another source or group than in its manifest")
        if (image.get("donor") or "", image.get("donor_group") or "") != (
            row.get("donor") or "",
            row.get("donor_group") or "",
        ):
            faults.append(f"{path}: in {name} with another donor or group of it than in its manifest")
        if row.get("source") not in tables.train:
            faults.append(f"{path}: in {name}, and its source {row.get('source')} is no training image")
        judged = verdicts.get(origin, {}).get(path)
        if judged and number(row.get("percentile")) not in (None, number(judged.get("percentile"))):
            faults.append(f"{path}: in {name} with another percentile than in its verdict")


def number(text):
    """None where there is none, NaN too."""
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if value == value else None


def check_images(tables, hashes, faults):
    """Each image that is here is one of a manifest and has its sha256; where images are included, all are here."""
    included = tables.about.get("images") == "included"
    known = {**tables.real, **tables.ood}
    for rows in tables.sets.values():
        known.update(rows)
    masks = {row.get("mask") for row in known.values()}
    for path, row in known.items():
        if path in hashes and hashes[path] != row["sha256"]:
            faults.append(f"{path}: its sha256 is {hashes[path]}, its manifest says {row['sha256']}")
        elif path not in hashes and included:
            faults.append(f"{path}: in a manifest but missing, though images are included")
    for path in hashes:
        if path.startswith("data/") and path.endswith(".png") and path not in known and path not in masks:
            faults.append(f"{path}: an image without a row in a manifest")


def check_documents(tables, hashes, faults):
    """The hashes that run.json, the bill of materials and the Croissant files tell of files that are here."""
    about, lineage = tables.about, "lineage/stages.json"
    for name, sha256 in (about.get("weights") or {}).items():
        said(name, sha256, "run.json", hashes, faults)
    said(lineage, (about.get("run") or {}).get("lineage_sha256"), "run.json", hashes, faults)
    graph = tables.json(lineage) or {}
    for name, sha256 in (graph.get("files") or {}).items():
        place = name if name.startswith("data/") else f"lineage/{name}"
        if place in hashes:
            said(place, sha256, lineage, hashes, faults)
    if "requirements.lock" in hashes:
        said("requirements.lock", (about.get("run") or {}).get("lock_sha256"), "run.json", hashes, faults)
    bill = tables.json("bom.cdx.json") or {}
    for part in bill.get("components") or []:
        told = {entry["content"] for entry in part.get("hashes") or [] if entry.get("alg") == "SHA-256"}
        facts = {entry.get("name"): entry.get("value") for entry in part.get("properties") or []}
        file = facts.get("partsynth:manifest") or part.get("name")
        if file in hashes and told and hashes[file] not in told:
            faults.append(f"{file}: bom.cdx.json says another sha256 ({part.get('bom-ref')})")
    model = (bill.get("metadata") or {}).get("component") or {}
    told = {entry.get("content") for entry in model.get("hashes") or []}
    if told != set((about.get("weights") or {}).values()):
        faults.append("bom.cdx.json: the model's hashes are not those of the weights in run.json")
    for name in sorted(n for n in hashes if re.fullmatch(r"croissant-[^/]+\.json", n)):
        for file in (tables.json(name) or {}).get("distribution") or []:
            if file.get("@type") == "cr:FileObject":
                said(file.get("contentUrl"), file.get("sha256"), name, hashes, faults)


def said(name, sha256, where, hashes, faults):
    if name not in hashes:
        faults.append(f"{name}: named in {where} but missing")
    elif hashes[name] != sha256:
        faults.append(f"{name}: its sha256 is {hashes[name]}, {where} says {sha256}")


def main(arguments):
    sums = None
    if "--sums" in arguments:
        at = arguments.index("--sums")
        sums = arguments[at + 1] if at + 1 < len(arguments) else ""
        del arguments[at : at + 2]
        if not re.fullmatch("[0-9a-f]{64}", sums):
            print("--sums wants the 64 hexadecimal digits of a sha256")
            return 2
    place = Path(arguments[0]) if arguments else Path(__file__).resolve().parent
    if not place.exists():
        print(f"{place}: there is no such folder or file")
        return 2
    faults, counts = check(place, sums)
    for fault in faults:
        print(fault)
    told = ", ".join(f"{count} {what}" for what, count in counts.items())
    print(f"{len(faults)} faults ({told})" if faults else f"in order: {told}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
