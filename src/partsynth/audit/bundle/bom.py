"""The run as a CycloneDX 1.6 bill of materials for machine learning (ML-BOM), JSON.

Components: the model with its card, the data sets, the models that others come from, the files of the environment's
lock and its packages. No time and no random number: the serial number is derived from the content.
"""

from __future__ import annotations

import json
import re
import uuid
from typing import Any

from partsynth import __version__
from partsynth.audit.bundle.gather import LOCK, Gathered
from partsynth.evaluation.metrics import metrics
from partsynth.store.base_model import without_adaptation
from partsynth.store.hashing import sha256_bytes
from partsynth.store.layout import AUGMENTED, MANIFEST, OOD, QUALITY, REAL

PINNED = re.compile(r"^([A-Za-z0-9][\w.-]*)==([^\s;\\]+)", re.MULTILINE)
SHA256 = re.compile(r"[0-9a-f]{64}")
# SPDX identifiers that CycloneDX checks are told as such; anything else is a name
SPDX = {"Apache-2.0", "BSD-3-Clause", "CC-BY-4.0", "CC-BY-NC-4.0", "CC-BY-SA-4.0", "CC0-1.0", "GPL-3.0-only", "MIT"}
MODEL, TASK = "model", "image classification with recognition of parts of no known class"


def bill(found: Gathered) -> dict[str, Any]:
    """The bill of materials."""
    components = [*_datasets(found), *_models(found), *_tokens(found), *_environment(found)]
    datasets = [part["bom-ref"] for part in components if part["type"] == "data"]
    models = [part["bom-ref"] for part in components if part["type"] == "machine-learning-model"]
    tokens = [part["bom-ref"] for part in components if part["bom-ref"].startswith("token:")]
    packages = [
        part["bom-ref"]
        for part in components
        if part["type"] in ("library", "file") and "token:" not in part["bom-ref"]
    ]
    real = [ref for ref in datasets if ref == "data:real"]
    dependencies = [
        {"ref": MODEL, "dependsOn": sorted([*datasets, *models, *packages])},
        *(
            {"ref": ref, "dependsOn": sorted([*real, *tokens, *models])}
            for ref in datasets
            if ref.startswith("data:set:")
        ),
        *({"ref": ref, "dependsOn": sorted([*real, *models])} for ref in tokens),
    ]
    body = {
        "metadata": {
            "tools": {"components": [{"type": "application", "name": "partsynth", "version": __version__}]},
            "component": _model(found, datasets),
        },
        "components": components,
        "dependencies": sorted(dependencies, key=lambda entry: entry["ref"]),
    }
    number = uuid.uuid5(uuid.NAMESPACE_URL, sha256_bytes(json.dumps(body, sort_keys=True).encode()))
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{number}",
        "version": 1,
        **body,
    }


def _model(found: Gathered, datasets: list[str]) -> dict[str, Any]:
    tags, params, told = found.run.tags, found.view.params if found.view else {}, found.card.told()
    names = {metric.name: metric.title for metric in metrics("card")} | {"final_val_accuracy": "accuracy, validation"}
    backbone = params.get("train.backbone", "narrow_resnet")
    facts = {
        key: tags.get(key, "") for key in ("setup", "seed", "fingerprint", "git_commit", "git_dirty", "code_sha256")
    }
    facts["training_table"] = " ".join(found.run.training_table or ())  # path, DVC's md5
    return {
        "type": "machine-learning-model",
        "bom-ref": MODEL,
        "name": found.run.name,
        "version": found.run.run_id,
        "description": f"Encoder ({backbone}) and linear classifier of used industrial parts",
        "licenses": licence("not stated: a model made by partsynth has no licence of its own"),
        "hashes": [_sha256(digest) for digest in sorted(set(found.weights.values()))],
        "modelCard": {
            "bom-ref": "model-card",
            "modelParameters": {
                "approach": {"type": "supervised"},
                "task": TASK,
                "architectureFamily": "residual network" if backbone == "narrow_resnet" else backbone,
                "modelArchitecture": " ".join(filter(None, [backbone, params.get("train.model", "")])),
                "datasets": [{"ref": ref} for ref in datasets if ref != "data:ood"],
                "inputs": [{"format": "image/png, one part per image"}],
                "outputs": [{"format": "class, and scores of being of no known class"}],
            },
            "quantitativeAnalysis": {
                "performanceMetrics": [
                    {"type": title, "value": repr(found.metrics[name])}
                    for name, title in sorted(names.items())
                    if name in found.metrics
                ]
            },
            "considerations": {
                "useCases": [told["purpose"]],
                "technicalLimitations": [told["gaps"], "Other parts, cameras or lighting than the photographs'."],
            },
        },
        "properties": _properties({**facts, **{f"weights.{name}": sha for name, sha in sorted(found.weights.items())}}),
    }


def _datasets(found: Gathered) -> list[dict[str, Any]]:
    named = [("data:real", REAL), ("data:ood", OOD)] + [(f"data:set:{n}", f"{AUGMENTED}/{n}") for n in found.sets]
    told, made = found.card.told(), []
    for ref, folder in named:
        manifest = f"{folder}/{MANIFEST}"
        if manifest not in found.files:
            continue
        generated = ref.startswith("data:set:")
        made.append(
            {
                "type": "data",
                "bom-ref": ref,
                "name": folder,
                "version": found.outs.get(folder, "unknown"),
                "description": "Generated images: edits of training images" if generated else "Framed photographs",
                "licenses": licence(told["licence"]),
                "hashes": [_sha256(sha256_bytes(found.files[manifest]))],
                "data": [
                    {
                        "type": "dataset",
                        "name": folder,
                        "description": f"Hash of {manifest}, which holds the sha256 of each image. {told['origin']}",
                    }
                ],
                "properties": _properties({"manifest": manifest, "dvc.md5": found.outs.get(folder, "unknown")}),
            }
        )
    for path in sorted(found.files):
        if path.startswith(f"{QUALITY}/") or path == (found.run.training_table or ("", ""))[0]:
            kind = "Verdicts on a set" if path.startswith(QUALITY) else "The run's training table"
            made.append(_file(found, f"data:{path}", path, "data", kind))
    return made


def _models(found: Gathered) -> list[dict[str, Any]]:
    """What the generated images and the encoder began from."""
    identities = {
        row.base_sha256 for name in found.sets for row in found.augmented(name) if hasattr(row, "base_sha256")
    }
    named = found.params.get("diffusion", {}).get("model", "models/base")
    made = []
    for identity in sorted({without_adaptation(identity)[0] for identity in identities}):
        is_hash = SHA256.fullmatch(identity) is not None
        made.append(
            {
                "type": "machine-learning-model",
                "bom-ref": f"base:{identity}",
                "name": str(named),
                "version": identity,
                "description": "Stable Diffusion that edited the generated images",
                "licenses": licence("not recorded: see the base model's own card"),
                **({"hashes": [_sha256(identity)]} if is_hash else {}),
                "properties": _properties(
                    {"identity": "hash over the files a pipeline loads" if is_hash else "hub id and commit"}
                ),
            }
        )
    params = found.view.params if found.view else {}
    if sha256 := params.get("weights.sha256"):
        made.append(
            {
                "type": "machine-learning-model",
                "bom-ref": f"weights:{sha256}",
                "name": params.get("weights.source", "stored weights"),
                "version": sha256,
                "description": "Stored weights that the encoder began from",
                "licenses": licence(params.get("weights.licence", "not recorded")),
                "hashes": [_sha256(sha256)],
            }
        )
    return made


def _tokens(found: Gathered) -> list[dict[str, Any]]:
    """Learned tokens, and an adaptation of the base model: weights of this project."""
    paths = [p for p in sorted(found.files) if p.startswith("models/") and p.endswith(".safetensors")]
    return [_file(found, f"token:{path}", path, "file", "Weights learned from training images") for path in paths]


def _environment(found: Gathered) -> list[dict[str, Any]]:
    if LOCK not in found.files:
        return []
    lock = _file(found, LOCK, LOCK, "file", "Exact versions and hashes of the run's environment")
    pins = set(PINNED.findall(found.files[LOCK].decode()))  # a package may have one version per system
    return [
        lock,
        *(
            {"type": "library", "bom-ref": f"pkg:pypi/{name.lower()}@{version}", "name": name, "version": version}
            | {"purl": f"pkg:pypi/{name.lower().replace('_', '-')}@{version}"}
            for name, version in sorted(pins)
        ),
    ]


def _file(found: Gathered, ref: str, path: str, kind: str, described: str) -> dict[str, Any]:
    digest = _sha256(sha256_bytes(found.files[path]))
    return {"type": kind, "bom-ref": ref, "name": path, "description": described, "hashes": [digest]}


def licence(told: str) -> list[dict[str, Any]]:
    """As CycloneDX wants it: an SPDX identifier, or a name."""
    return [{"license": {"id": told} if told in SPDX else {"name": told}}]


def _sha256(digest: str) -> dict[str, str]:
    return {"alg": "SHA-256", "content": digest}


def _properties(facts: dict[str, str]) -> list[dict[str, str]]:
    return [{"name": f"partsynth:{name}", "value": value} for name, value in facts.items() if value.strip()]
