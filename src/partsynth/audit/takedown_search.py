"""What holds a photograph, or something made from it: files of the workspace, and DVC's objects of any version.

Every folder's listing that a store has is read, whether a run, dvc.lock or nobody refers to it: a version that was
generated and never trained on lies in the cache as the others do.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import io
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from partsynth.audit.rows import part_with
from partsynth.audit.tokens import read_adaptation, read_token
from partsynth.errors import UserError
from partsynth.lineage.git import git
from partsynth.lineage.graph import LOCK
from partsynth.lineage.stores import Store
from partsynth.store.files import read_json
from partsynth.store.hashing import sha256_bytes, sha256_file
from partsynth.store.layout import ADAPTATION, MANIFEST, REPORT
from partsynth.store.shards import members, split_name

SHEETS = ("accepted.png", "flagged.png")  # of a set's quality page: sources beside their edits
MASK = re.compile(r"_mask(_\w+)?$")  # the end of a mask's stem
TUNED, TUNED_SHEET = PurePosixPath(ADAPTATION).name, "reconstruction.png"  # stage adapt's
Listings = Mapping[str, Mapping[str, str]]  # md5 of a folder -> relative path -> md5


@dataclass(frozen=True, order=True)
class Piece:
    """Something that goes: an object of DVC's, or a file of the workspace (``md5`` empty)."""

    kind: str  # photograph, mask, framed, synthetic, shard (that holds synthetic ones of it), token, page
    path: str  # relative to the root, or to the folder of its listing
    md5: str = ""


@dataclass
class Traces:
    """What is known of one photograph."""

    photograph: str  # sha256 of the file
    sources: set[str] = field(default_factory=set)  # names in the source folder
    framed: dict[str, str] = field(default_factory=dict)  # sha256 -> path
    masks: set[str] = field(default_factory=set)  # paths of framed masks
    synthetic: dict[str, str] = field(default_factory=dict)
    sets: set[str] = field(default_factory=set)  # that hold synthetic images of it
    classes: set[str] = field(default_factory=set)

    @property
    def paths(self) -> set[str]:
        return {*self.framed.values(), *self.synthetic.values()}

    def learn(self, manifests: Sequence[bytes]) -> None:
        """From manifests of real and synthetic images, in any order."""
        for table in manifests:
            for row in _rows(table, self.photograph):
                if row.get("source_sha256") == self.photograph and "box" in row:
                    self.sources.add(row["source"])
                    self.classes.add(row["class_name"])
                    self.framed.setdefault(row["sha256"], row["path"])
                    self.masks |= {row["mask"]} if row.get("mask") else set()
        for table in manifests:
            for sha256 in self.framed:
                for row in _rows(table, sha256):
                    if sha256 in _made_from(row) and "set_name" in row:
                        self.synthetic.setdefault(row["sha256"], row["path"])
                        self.sets.add(row["set_name"])


class Search:
    """The objects of several stores that hold a photograph or what was made from it.

    Parameters
    ----------
    stores : the cache first; what it lacks is read from the next.
    """

    def __init__(self, root: Path, stores: Sequence[Store], traces: Traces) -> None:
        self.root, self.stores, self.traces = root, stores, traces
        self.listings: dict[str, dict[str, str]] = {}
        for md5 in sorted({md5 for store in stores for md5 in store.listings()}):
            try:
                rows = json.loads(self.read(md5) or b"")
                self.listings[md5] = {row["relpath"]: row["md5"] for row in rows}
            except (ValueError, KeyError, TypeError):
                continue  # damaged: `audit verify` and DVC name it
        tables = {listing[MANIFEST] for listing in self.listings.values() if MANIFEST in listing}
        self._manifests = {md5: data for md5 in sorted(tables) if (data := self.read(md5)) is not None}
        traces.learn(list(self._manifests.values()))

    def read(self, md5: str) -> bytes | None:
        for store in self.stores:
            if (data := store.read(md5)) is not None:
                return data
        return None

    def objects(self) -> tuple[list[Piece], dict[str, list[str]]]:
        """What goes, and what does not though it is the photograph's: md5 -> the other paths that have its bytes."""
        own: dict[str, set[Piece]] = {}
        for folder, listing in self.listings.items():
            own[folder] = set(self._of_listing(listing))
        pages = set(self._pages())
        pieces = {piece for found in own.values() for piece in found} | pages
        wanted = {piece.md5 for piece in pieces}
        is_it = {piece.md5 for piece in pieces if piece.kind == "photograph"}  # the same bytes are the photograph
        others: dict[str, set[str]] = defaultdict(set)
        for folder, listing in self.listings.items():
            mine = {(piece.path, piece.md5) for piece in own[folder]}
            for path, md5 in listing.items():
                if md5 in wanted and md5 not in is_it and (path, md5) not in mine:
                    others[md5].add(path)
        return sorted(p for p in pieces if p.md5 not in others), {md5: sorted(paths) for md5, paths in others.items()}

    def _of_listing(self, listing: Mapping[str, str]) -> Iterator[Piece]:
        traces = self.traces
        manifest = self._manifests.get(listing.get(MANIFEST, ""))
        if manifest is not None:
            for row in self._rows_of_it(manifest):
                kind = "framed" if row["sha256"] in traces.framed else "synthetic"
                for piece, path in ((kind, row["path"]), ("mask", row.get("mask", ""))):
                    file, member = split_name(path)
                    if file and (name := _below(file, listing)):
                        yield Piece("shard" if member else piece, name, listing[name])
        for name, md5 in listing.items():
            if name in traces.sources and self._is_photograph(md5):
                yield Piece("photograph", name, md5)
            elif any(is_mask_of(name, source) for source in traces.sources):
                yield Piece("mask", name, md5)
            elif name.removesuffix(".safetensors") in traces.classes and self._is_taught(md5, name):
                yield Piece("token", name, md5)
            elif name == TUNED and self._is_taught(md5, name):
                yield Piece("token", name, md5)
                if sheet := listing.get(TUNED_SHEET):
                    yield Piece("page", TUNED_SHEET, sheet)
        if {*SHEETS, "suite.json"} <= listing.keys() and self._set_of(listing["suite.json"]) in traces.sets:
            for name in SHEETS:
                yield Piece("page", name, listing[name])

    def _rows_of_it(self, manifest: bytes) -> Iterator[dict[str, str]]:
        """The rows of the photograph's own images: another's image may have the same bytes."""
        for sha256 in (*self.traces.framed, *self.traces.synthetic):
            for row in _rows(manifest, sha256):
                parents = {self.traces.photograph, *self.traces.framed}
                if row["sha256"] == sha256 and parents & _made_from(row):
                    yield row

    def _is_photograph(self, md5: str) -> bool:
        data = self.read(md5)
        return data is not None and sha256_bytes(data) == self.traces.photograph

    def _is_taught(self, md5: str, name: str) -> bool:
        data = self.read(md5)
        return data is not None and taught_by(data, name, self.traces)

    def _set_of(self, md5: str) -> str:
        try:
            return json.loads(self.read(md5) or b"")["set"]
        except (ValueError, KeyError, TypeError):
            return ""

    def _pages(self) -> Iterator[Piece]:
        """Reports of any committed state, and of this one, that show one of the images."""
        commits = (git(self.root, "log", "--all", "--format=%H", "--", LOCK) or b"").decode().split()
        locks = [git(self.root, "show", f"{commit}:./{LOCK}") for commit in commits]
        here = self.root / LOCK
        locks.append(here.read_bytes() if here.is_file() else None)
        entry = re.compile(rb"path: " + re.escape(REPORT.encode()) + rb"\n(?:\s+hash: md5\n)?\s+md5: ([0-9a-f]{32})\n")
        for md5 in sorted({found.decode() for lock in locks if lock is not None for found in entry.findall(lock)}):
            if (page := self.read(md5)) is not None and shows(page, self.traces.paths):
                yield Piece("page", REPORT, md5)


def workspace_files(root: Path, traces: Traces, folders: Sequence[Path]) -> list[tuple[Piece, Path]]:
    """The files that lie here, masks before their photographs: whoever goes on finds the mask by its photograph.

    Parameters
    ----------
    folders : the source folders; a copy of the photograph under another name is found there, and below ``.work``.
    """
    found: dict[Path, Piece] = {}
    originals = list(_copies(root, traces, folders))
    for path in originals:
        below = next((folder for folder in folders if path.is_relative_to(folder)), path.parent)
        name = path.relative_to(below).as_posix()
        for mask in (p for p in below.rglob("*") if p.is_file() and is_mask_of(p.relative_to(below).as_posix(), name)):
            found[mask] = Piece("mask", _told(root, mask))
    for kind, known in (("framed", traces.framed), ("synthetic", traces.synthetic)):
        for sha256, name in known.items():
            file, member = split_name(name)
            if member and (tar := root / file).is_file():
                if (inside := _inside(tar)) is None or sha256 in inside:
                    found[tar] = Piece("shard", file)
            elif (path := root / name).is_file() and sha256_file(path) == sha256:
                found[path] = Piece(kind, name)
    for name in traces.masks:
        if (path := root / name).is_file() and any(root / framed in found for framed in traces.framed.values()):
            found[path] = Piece("mask", name)
    for path in (*sorted(root.glob("models/tokens/*.safetensors")), *root.glob(ADAPTATION)):
        if taught_by(path.read_bytes(), path.name, traces):
            found[path] = Piece("token", _told(root, path))
            if path.name == TUNED and (drawn := path.with_name(TUNED_SHEET)).is_file():
                found[drawn] = Piece("page", _told(root, drawn))
    for name in sorted(traces.sets):
        for sheet in SHEETS:
            if (path := root / "reports/quality" / name / sheet).is_file() and _page_is_of(path, traces):
                found[path] = Piece("page", _told(root, path))
    if (path := root / REPORT).is_file() and shows(path.read_bytes(), traces.paths):
        found[path] = Piece("page", REPORT)
    found |= {path: Piece("photograph", _told(root, path)) for path in originals}
    order = {kind: i for i, kind in enumerate(("page", "token", "synthetic", "shard", "mask", "framed", "photograph"))}
    return sorted(((piece, path) for path, piece in found.items()), key=lambda pair: (order[pair[0].kind], pair[0]))


def shows(page: bytes, paths: Iterable[str]) -> bool:
    """Whether a report's page has a thumbnail of one of the images: its title is the image's path."""
    return any(f'title="{path}"'.encode() in page for path in paths)


def taught_by(token: bytes, name: str, traces: Traces) -> bool:
    """Whether a token was learned from the photograph's framed image, among others, or the base model tuned on it; or
    measured on it, and shown on the sheet beside it."""
    try:
        learned = (read_adaptation if name == TUNED else read_token)(token, name)
        shown = json.loads(learned.told.get("shown", "[]"))
        return bool({sha256 for _, sha256 in (*learned.sources, *shown)} & traces.framed.keys())
    except (UserError, ValueError):
        return False  # another safetensors file


def is_mask_of(name: str, photograph: str) -> bool:
    """Whether a name in a source folder is that of a photograph's mask, as MVIP and folders of classes call them."""
    mask, photo = PurePosixPath(name), PurePosixPath(photograph)
    stem, folders = MASK.sub("", mask.stem), [part for part in mask.parent.parts if part != "masks"]
    marked = stem != mask.stem or len(folders) < len(mask.parent.parts)
    return marked and stem == photo.stem and folders == list(photo.parent.parts)


@functools.lru_cache(maxsize=8)
def _inside(tar: Path) -> frozenset[str] | None:
    """sha256 of a shard's members; None of a damaged one, which may hold anything."""
    with contextlib.suppress(UserError):
        return frozenset(sha256_bytes(data) for _, data in members(tar))
    return None


def _page_is_of(sheet: Path, traces: Traces) -> bool:
    """Sheets that `dvc repro` has made anew show it no more: the set's manifest beside them tells."""
    suite = read_json(sheet.with_name("suite.json")) if sheet.with_name("suite.json").is_file() else {}
    root = sheet.parents[3]
    table = root / "data/augmented" / str(suite.get("set", sheet.parent.name)) / MANIFEST
    data = table.read_bytes() if table.is_file() else b""
    return any(next(iter(_rows(data, sha256)), None) is not None for sha256 in traces.framed)


def _copies(root: Path, traces: Traces, folders: Sequence[Path]) -> Iterator[Path]:
    """Files with the photograph's bytes, by their names' and then by their sizes' sake few are read."""
    named = [folder / name for folder in folders for name in traces.sources]
    named += [f / name.partition("/")[2] for f in folders for name in traces.sources if "/" in name]  # below an alias
    here = [path for path in named if path.is_file() and sha256_file(path) == traces.photograph]
    sizes = {path.stat().st_size for path in here}
    endings = {PurePosixPath(name).suffix for name in traces.sources}
    seen = set()
    for folder in (*folders, root / ".work"):
        for path in sorted(folder.rglob("*")) if folder.is_dir() else []:
            if path in seen or not path.is_file() or (path.suffix not in endings and not sizes):
                continue
            seen.add(path)
            if (not sizes or path.stat().st_size in sizes) and sha256_file(path) == traces.photograph:
                yield path


def _rows(table: bytes, needle: str) -> Iterator[dict[str, str]]:
    try:
        yield from csv.DictReader(io.StringIO(part_with(table, needle)))
    except UnicodeDecodeError:
        return


def _made_from(row: Mapping[str, str]) -> set[str]:
    """The sha256 of the images that a manifest's row was made from."""
    return {row[column] for column in ("source_sha256", "donor_sha256") if row.get(column)}


def _below(path: str, listing: Mapping[str, str]) -> str:
    """A manifest's path as the listing of its folder has it; empty where it has not."""
    parts = path.split("/")
    return next((name for i in range(len(parts)) if (name := "/".join(parts[i:])) in listing), "")


def _told(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()
