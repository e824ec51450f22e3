"""The verdicts as a Great Expectations suite. The only importer of great_expectations."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from partsynth.config.quality import Quality
from partsynth.records.rows import VerdictRecord
from partsynth.store.drafts import draft_folder
from partsynth.store.files import write_text_atomic


def validate(
    verdicts: Sequence[VerdictRecord], params: Quality, set_name: str, classes: list[str], docs: Path
) -> dict[str, Any]:
    """Run the suite through a checkpoint, write Data Docs into ``docs``, whole or not at all, in place of older ones;
    return the results without ids and times."""
    if not verdicts:
        return {"set": set_name, "pictures": 0, "success": None, "note": "an empty set: nothing to validate"}
    with draft_folder(docs) as draft:
        results = _validated(verdicts, params, set_name, classes, draft)
        draft.chmod(0o755)
        shutil.rmtree(docs, ignore_errors=True)
        os.replace(draft, docs)
    return results


def _validated(
    verdicts: Sequence[VerdictRecord], params: Quality, set_name: str, classes: list[str], docs: Path
) -> dict[str, Any]:
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations as gx
    import pandas as pd
    from great_expectations.core.run_identifier import RunIdentifier
    from great_expectations.data_context.types.base import ProgressBarsConfig

    table = pd.DataFrame([v.model_dump() for v in verdicts])
    table["flagged"] = (table["reasons"] != "").astype(int)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    context.add_data_docs_site(
        "page",
        {
            "class_name": "SiteBuilder",
            "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
            "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(docs.absolute())},
        },
    )
    name = f"quality-{set_name}"
    suite = context.suites.add(gx.ExpectationSuite(name=name, expectations=_suite(params, verdicts, classes)))
    asset = context.data_sources.add_pandas("verdicts").add_dataframe_asset(set_name)
    batch = asset.add_batch_definition_whole_dataframe("all")
    definition = context.validation_definitions.add(gx.ValidationDefinition(name=name, data=batch, suite=suite))
    checkpoint = context.checkpoints.add(
        gx.Checkpoint(
            name=name,
            validation_definitions=[definition],
            actions=[gx.checkpoint.UpdateDataDocsAction(name="docs", site_names=["page"])],
            result_format={"result_format": "COMPLETE", "unexpected_index_column_names": ["path"]},
        )
    )
    run_id = RunIdentifier(run_name="quality", run_time=datetime(2000, 1, 1, tzinfo=UTC))  # the same bytes every time
    outcome = checkpoint.run(batch_parameters={"dataframe": table}, run_id=run_id)
    _steady(docs)
    (result,) = outcome.run_results.values()
    return {
        "set": set_name,
        "pictures": len(verdicts),
        "success": bool(result.success),
        "expectations": [_plain_result(r) for r in result.results],
    }


def check_means(
    tables: Mapping[str, Mapping[str, Any]], limits: Mapping[str, Mapping[str, tuple[float | None, float | None]]]
) -> dict[str, list[dict[str, Any]]]:
    """Expect the mean of columns to lie between limits, table by table.

    Parameters
    ----------
    tables : name -> column -> values (n,); missing ones are NaN.
    limits : name of the table -> column -> least and greatest mean, None = no limit.

    Returns
    -------
    Name -> a result per column: expectation, column, limits, observed_value, success.
    """
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations as gx
    import great_expectations.expectations as gxe
    import pandas as pd
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("tables").add_dataframe_asset("table")
    definition = asset.add_batch_definition_whole_dataframe("all")
    found = {}
    for name, wanted in limits.items():
        expectations = [
            gxe.ExpectColumnMeanToBeBetween(column=column, min_value=least, max_value=most)
            for column, (least, most) in wanted.items()
        ]
        batch = definition.get_batch(batch_parameters={"dataframe": pd.DataFrame(tables[name])})
        outcome = batch.validate(gx.ExpectationSuite(name=name, expectations=expectations))
        found[name] = [_plain_result(result) for result in outcome.results]
    return found


def judged_by(verdicts: Sequence[VerdictRecord]) -> str:
    """The column that thresholds on drift apply to."""
    return "percentile" if any(v.tolerated is None for v in verdicts) else "tolerated"


def _suite(params: Quality, verdicts: Sequence[VerdictRecord], classes: list[str]) -> list[Any]:
    import great_expectations.expectations as gxe

    shares = ("percentile", "brightness", "contrast")
    return [
        gxe.ExpectTableRowCountToEqual(value=len(verdicts)),
        gxe.ExpectColumnValuesToBeUnique(column="path"),
        *(
            gxe.ExpectColumnValuesToNotBeNull(column=c)
            for c in ("sha256", "drift", "percentile", "nearest_class", "sharpness", "verdict")
        ),
        *(gxe.ExpectColumnValuesToBeBetween(column=c, min_value=0, max_value=1) for c in shares),
        gxe.ExpectColumnValuesToBeBetween(column="percentile", min_value=0, strict_min=True),
        gxe.ExpectColumnValuesToBeBetween(column="sharpness", min_value=0),
        gxe.ExpectColumnValuesToBeInSet(column="class_name", value_set=classes),
        gxe.ExpectColumnDistinctValuesToContainSet(column="class_name", value_set=classes),
        gxe.ExpectColumnValuesToBeInSet(column="verdict", value_set=["accept", "warn", "drop"]),
        gxe.ExpectColumnValuesToBeBetween(
            column=judged_by(verdicts), max_value=params.accept_percentile, mostly=1 - params.max_flagged
        ),
        gxe.ExpectColumnMeanToBeBetween(column="flagged", min_value=0, max_value=params.max_flagged),
    ]


def _plain_result(result: Any) -> dict[str, Any]:
    kwargs = {k: v for k, v in result.expectation_config.kwargs.items() if k != "batch_id"}
    told = {k: v for k, v in result.result.items() if k in ("observed_value", "unexpected_count", "unexpected_percent")}
    failed = [row["path"] for row in result.result.get("unexpected_index_list") or []]
    plain = {"expectation": result.expectation_config.type, **kwargs, "success": bool(result.success), **told}
    if failed:
        plain["unexpected_paths"] = sorted(failed)
    return json.loads(json.dumps(plain, default=lambda v: v.item() if hasattr(v, "item") else str(v)))


def _steady(docs: Path) -> None:
    """Take times and random ids out of the pages: the same verdicts give the same bytes, and DVC sees no change."""
    moment = re.compile(r"\d{8}T\d{6}\.\d+Z")
    for path in sorted(docs.rglob("*.html")):
        write_text_atomic(path, _numbered(moment.sub("20000101T000000.000000Z", path.read_text())))


def _numbered(text: str) -> str:
    """The text with its random ids numbered as they come."""
    identity = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
    numbers: dict[str, str] = {}
    return identity.sub(lambda match: numbers.setdefault(match[0], f"id-{len(numbers)}"), text)
