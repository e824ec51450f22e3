"""What a monitor found as one page that asks nothing from anywhere: a figure over time, and a row per window."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from typing import Any

from partsynth.reporting.figures import COLOURS, INK, figure, styled

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#1c2126;max-width:72rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin:0}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:.35rem .6rem;border-bottom:1px solid #e3e6ea;vertical-align:top}
.number{text-align:right}.number,td:first-child{white-space:nowrap}.scroll{overflow-x:auto}img{max-width:100%}
.alarm{background:#fdeee6}.verdict{display:inline-block;padding:.15rem .6rem;border-radius:.3rem;font-weight:600}
.bad{background:#f6d3c1}.good{background:#d3ebe2}.note{color:#4b5563}
"""
SHOWN = 6  # classes in a row


def page(told: dict[str, Any]) -> str:
    """HTML of what ``monitor`` found (monitor.json)."""
    checks, model = told["checks"], told["model"]
    image = base64.b64encode(over_time(told["windows"], checks["unknown"]["stated_interval"])).decode()
    rows = "\n".join(_row(window) for window in told["windows"])
    drift = checks["drift"]
    if isinstance(drift, dict):
        about = (
            f"Drift: the mean of each of {len(drift['columns'])} columns of reference features (standard deviations "
            f"from {drift['validation_images']} validation images, class by class) within its limits, by Great "
            f"Expectations."
        )
    else:
        about = f"Drift {drift}."
    verdict = f'<span class="verdict {"bad" if told["alarm"] else "good"}">{html.escape(told["verdict"])}</span>'
    unreadable = f"<p>{len(told['unreadable'])} files could not be read.</p>" if told["unreadable"] else ""
    stated = checks["unknown"]
    low, high = stated["stated_interval"]
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Station monitor</title><style>{STYLE}</style></head><body>
<h1>Station monitor {verdict}</h1>
<p class="note">Model {html.escape(model["setup"])}, seed {model["seed"]}, run {html.escape(model["run_id"])}.
The last {checks["windows_that_decide"]} judged windows decide.</p>
<div class="scroll"><img src="data:image/svg+xml;base64,{image}" alt="Unknown rate and drift of each window"></div>
<div class="scroll"><table><thead><tr><th>Window (UTC)</th><th class="number">Images</th><th class="number">Unknown</th>
<th class="number">95% interval</th><th class="number">Limit</th><th class="number">Drift, share of limit</th>
<th>Known classes</th><th>Verdict</th></tr></thead>
<tbody>
{rows}
</tbody></table></div>
{unreadable}
<p class="note">Unknown: the model is stated to call {stated["stated_rate"]:.1%} of images of known parts unknown
({low:.1%} to {high:.1%}, from validation images). {html.escape(about)} Of windows of images like the
validation ones each of the two checks alarms at most {checks["false_alarm"]:.1%}. Windows with fewer than
{checks["min_images"]} images are not judged.</p>
</body></html>
"""


def _row(window: dict[str, Any]) -> str:
    unknown, drift = window["unknown"], window["drift"]
    classes = sorted(window["classes"].items(), key=lambda item: (-item[1], item[0]))
    shown = ", ".join(f"{name} {count}" for name, count in classes[:SHOWN])
    more = f", {len(classes) - SHOWN} more" if len(classes) > SHOWN else ""
    limit = f"{unknown['limit']:.1%}" if "limit" in unknown else "–"
    share = f"{drift['strongest_share_of_its_limit']:.2f}" if drift else "–"
    return (
        f"<tr{' class=alarm' if window['alarms'] else ''}><td>{html.escape(window['window'])}</td>"
        f'<td class="number">{window["images"]}</td><td class="number">{unknown["rate"]:.1%}</td>'
        f'<td class="number">{unknown["low"]:.1%} to {unknown["high"]:.1%}</td><td class="number">{limit}</td>'
        f'<td class="number">{share}</td><td>{html.escape(shown + more)}</td>'
        f"<td>{html.escape(window['verdict'])}</td></tr>"
    )


@styled
def over_time(windows: Sequence[dict[str, Any]], stated: tuple[float, float]) -> Any:
    """Unknown rates with their intervals and limits, and the strongest drift column as a share of its limit."""
    made = figure(9.5, 4.6)
    upper, lower = made.subplots(2, 1, sharex=True)
    places = range(len(windows))
    rates = [w["unknown"]["rate"] for w in windows]
    errors = [
        [w["unknown"]["rate"] - w["unknown"]["low"] for w in windows],
        [w["unknown"]["high"] - w["unknown"]["rate"] for w in windows],
    ]
    upper.axhspan(*stated, color="#d3ebe2", label="stated false-reject rate")
    upper.errorbar(places, rates, errors, fmt="o", color=COLOURS[0], capsize=3, label="unknown, 95% interval")
    limits = [(i, w["unknown"]["limit"]) for i, w in enumerate(windows) if "limit" in w["unknown"]]
    upper.plot(*zip(*limits, strict=True), "_", color=COLOURS[1], markersize=14, markeredgewidth=2, label="limit")
    upper.set(ylabel="unknown", ylim=(-0.02, None))
    upper.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    upper.legend(loc="upper left", bbox_to_anchor=(1, 1))
    drift = [(i, w["drift"]["strongest_share_of_its_limit"]) for i, w in enumerate(windows) if w["drift"]]
    lower.axhline(1, color=COLOURS[1], linestyle="--", label="limit")
    if drift:
        lower.plot(*zip(*drift, strict=True), "o-", color=COLOURS[0], label="strongest column")
    lower.set(ylabel="drift / limit", ylim=(0, None))
    lower.legend(loc="upper left", bbox_to_anchor=(1, 1))
    step = max(1, -(-len(windows) // 12))
    lower.set_xticks(
        [i for i in places if i % step == 0],
        [w["window"].partition(" (")[0] for w in windows][::step],
        rotation=30 if len(windows) > 6 else 0,
        color=INK,
    )
    return made
