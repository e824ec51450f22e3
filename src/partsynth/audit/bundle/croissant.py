"""Each data set of a run in Croissant 1.1 (MLCommons) with fields of its RAI vocabulary 1.0, as JSON-LD.

Files are named relative to the export's folder. Without the images a data set is its manifest: a row per image, with
the sha256 of its file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from partsynth.audit.bundle.gather import Gathered
from partsynth.records.manifest import parse_manifest
from partsynth.records.rows import AugmentedRecord, ImageRecord, RealRecord, VerdictRecord
from partsynth.seams import METHODS
from partsynth.store.hashing import sha256_bytes
from partsynth.store.layout import AUGMENTED, MANIFEST, OOD, QUALITY, REAL
from partsynth.store.png import TERMS

CONFORMS = ["http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0"]
# the context that the specification prints
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
TYPES = {float: "sc:Float", int: "sc:Integer"}  # all else is text


def croissants(found: Gathered, images: bool) -> dict[str, dict[str, Any]]:
    """File name -> JSON-LD of every data set that the run was made of.

    Parameters
    ----------
    images : whether their files are in the export.
    """
    made = {"croissant-real.json": _real(found, images)}
    if found.ood:
        made["croissant-ood.json"] = _ood(found, images)
    return made | {f"croissant-{name}.json": _augmented(found, name, images) for name in found.sets}


def _real(found: Gathered, images: bool) -> dict[str, Any]:
    told = found.card.told()
    renders = _renders(found)
    described = "Rendered images of used industrial parts" if renders else "Photographs of used industrial parts"
    return {
        **_dataset(found, "real", REAL, found.real, images, f"{described}, framed and split by group."),
        "rai:dataCollection": told["origin"],
        "rai:dataUseCases": told["purpose"],
        "rai:dataLimitations": told["gaps"],
        "rai:dataBiases": _counts(found.real),
        "rai:dataPreprocessingProtocol": [
            "Each image is cut to its part (column box, in the original's pixels) and scaled to one size.",
            "Images of one physical part or spot (column group) are in one split alone; choices look at train and val.",
        ],
        **({"digitalSourceType": f"{TERMS}algorithmicMedia"} if renders else {}),
    }


def _ood(found: Gathered, images: bool) -> dict[str, Any]:
    told = found.card.told()
    text = "Images of parts of no trained class (near-OOD) and of other things (far-OOD), for evaluation alone."
    return {
        **_dataset(found, "ood", OOD, found.ood, images, text),
        "rai:dataCollection": told["origin"],
        "rai:dataUseCases": "To measure how well parts of no known class are told from known ones; never trained on.",
        "rai:dataLimitations": told["gaps"],
        "rai:dataBiases": _counts(found.ood),
        **({"digitalSourceType": f"{TERMS}algorithmicMedia"} if _renders(found) else {}),
    }


def _augmented(found: Gathered, name: str, images: bool) -> dict[str, Any]:
    rows, told = found.augmented(name), found.card.told()
    method = METHODS[rows[0].method] if rows else None
    how = f"{method.name}, {method.summary(rows)}" if method else "no image"
    table = f"{QUALITY}/{name}.csv"
    judged = parse_manifest(found.files[table].decode(), VerdictRecord, table) if table in found.files else []
    verdicts = ", ".join(f"{word} {count}" for word, count in sorted(Counter(v.verdict for v in judged).items()))
    text = f"Generated images: edits of training images of the data set real ({how}); each row names its source."
    return {
        **_dataset(found, name, f"{AUGMENTED}/{name}", rows, images, text),
        "isBasedOn": "croissant-real.json",
        "rai:dataCollection": f"Made by {how}, from training images of data set real. Their origin: {told['origin']}",
        "rai:dataUseCases": f"Training images beside real ones, as the run's table takes them. {told['purpose']}",
        "rai:dataLimitations": [method.limitation(rows) if method else "There are no images.", told["gaps"]],
        "rai:dataBiases": _counts(rows),
        "rai:dataManipulationProtocol": "Every row holds all that its image was made from and with: source, prompt, "
        "seed, settings, and the hashes of token and base model.",
        "rai:machineAnnotationTools": ["partsynth quality"],
        "rai:dataAnnotationAnalysis": f"Verdicts on drift, sharpness and copies ({table}): {verdicts or 'none'}.",
        **({"digitalSourceType": f"{TERMS}{method.source_type}"} if method else {}),
    }


def _renders(found: Gathered) -> bool:
    return found.params.get("ingest", {}).get("source") == "rendered"


def _counts(rows: Sequence[ImageRecord]) -> str:
    """How the images spread over classes and splits: what is rare can be seen."""
    parts = Counter((getattr(row, "split", "train"), row.class_name) for row in rows)
    told = []
    for split in sorted({split for split, _ in parts}):
        classes = ", ".join(f"{name} {count}" for (s, name), count in sorted(parts.items()) if s == split)
        told.append(f"{split}: {classes}")
    return "Images per class. " + "; ".join(told) + "." if told else "No images."


def _dataset(
    found: Gathered, name: str, folder: str, rows: Sequence[ImageRecord], images: bool, described: str
) -> dict[str, Any]:
    manifest, md5 = f"{folder}/{MANIFEST}", found.outs.get(folder, "")
    kind = type(rows[0]) if rows else (RealRecord if folder in (REAL, OOD) else AugmentedRecord)
    files: list[dict[str, Any]] = [
        {
            "@type": "cr:FileObject",
            "@id": "manifest",
            "name": manifest,
            "description": "One row per image: its path, the sha256 of its file, and where it comes from.",
            "contentUrl": manifest,
            "encodingFormat": "text/csv",
            "sha256": sha256_bytes(found.files[manifest]),
        }
    ]
    sets = [_rows(kind)]
    if images:
        pattern = {"encodingFormat": "image/png", "includes": f"{folder}/**/*.png"}
        files.append({"@type": "cr:FileSet", "@id": "files", "name": "files", "description": "Images.", **pattern})
        sets.append(_pixels())
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS,
        "name": name,
        "description": f"{described} {len(rows)} images. DVC's md5: {md5 or 'unknown'}.",
        "license": found.card.told()["licence"],
        "url": f"urn:dvc:md5:{md5 or 'unknown'}",
        "version": f"1.0.0+{md5.removesuffix('.dir') or 'unknown'}",
        "creator": {"@type": "sc:Organization", "name": found.card.told()["origin"]},
        "citeAs": f"Data set {name} of run {found.run.run_id}, DVC md5 {md5 or 'unknown'}",
        **({"datePublished": day} if (day := day_of(found)) else {}),
        "distribution": files,
        "recordSet": sets,
    }


def day_of(found: Gathered) -> str | None:
    """The day (UTC) on which the run began: the data are of then or before."""
    return None if found.view is None else datetime.fromtimestamp(found.view.start_time / 1000, UTC).date().isoformat()


def _rows(kind: type[ImageRecord]) -> dict[str, Any]:
    fields = []
    for column in kind.columns():
        annotated = kind.model_fields[column].annotation
        # seeds are of 64 bits without a sign, which not every reader takes for an integer
        data_type = "sc:Text" if column == "seed" else TYPES.get(annotated, "sc:Text")  # type: ignore[arg-type]
        source = {"fileObject": {"@id": "manifest"}, "extract": {"column": column}}
        fields.append(
            {"@type": "cr:Field", "@id": f"images/{column}", "name": column, "dataType": data_type, "source": source}
        )
    return {"@type": "cr:RecordSet", "@id": "images", "name": "images", "key": {"@id": "images/path"}, "field": fields}


def _pixels() -> dict[str, Any]:
    fields = [
        {
            "@type": "cr:Field",
            "@id": f"pixels/{name}",
            "name": name,
            "dataType": data_type,
            "source": {"fileSet": {"@id": "files"}, "extract": {"fileProperty": of}},
        }
        for name, data_type, of in (("path", "sc:Text", "fullpath"), ("image", "sc:ImageObject", "content"))
    ]
    return {"@type": "cr:RecordSet", "@id": "pixels", "name": "pixels", "key": {"@id": "pixels/path"}, "field": fields}
