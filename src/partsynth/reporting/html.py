"""HTML of the report: text in, markup out. Nothing here knows what the report is about."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from typing import Any


def escape(text: Any) -> str:
    return html.escape(str(text))


def breakable(text: str) -> str:
    """A setup's name, free to break after its underscores."""
    return escape(text).replace("_", "_<wbr>")


def bar(value: float | None) -> str:
    """A fraction as percent over a bar, so that a low cell is found without reading every number."""
    return "–" if value is None else f'<span class="bar" style="--v:{100 * value:.0f}%">{100 * value:.0f}</span>'


def table(caption: str, heads: Sequence[str], rows: Sequence[Sequence[Any]], groups: Sequence[str] = ()) -> str:
    """``groups`` stand over equal shares of the columns after the first."""
    head = "".join(f"<th scope=col>{h}</th>" for h in heads)
    if groups:
        span = (len(heads) - 1) // len(groups)
        above = "".join(f"<th scope=colgroup colspan={span}>{escape(g)}</th>" for g in groups)
        head = f"<td></td>{above}</tr><tr>{head}"
    body = "".join(
        f"<tr><th scope=row>{row[0]}</th>{''.join(f'<td>{cell}</td>' for cell in row[1:])}</tr>" for row in rows
    )
    return scroll(
        f"<table><caption>{caption}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>", caption
    )


def scroll(inner: str, label: str) -> str:
    return f'<div class="scroll" role="region" aria-label="{escape(label)}" tabindex="0">{inner}</div>'


def figure(drawn: bytes, caption: str, alt: str) -> str:
    data = base64.b64encode(drawn).decode()
    image = f'<img src="data:image/svg+xml;base64,{data}" alt="{escape(alt)}">'
    return f"<figure>{scroll(image, caption)}<figcaption>{escape(caption)}</figcaption></figure>"


def details(title: str, inner: str) -> str:
    return f"<details><summary>{escape(title)}</summary>{inner}</details>"


def note(text: str) -> str:
    return f'<p class="note">{text}</p>'


def document(title: str, lead: str, sections: Sequence[tuple[str, str, str]]) -> str:
    """A whole page with its style inside; ``sections`` are (anchor, heading, markup)."""
    links = "".join(f'<a href="#{key}">{escape(name)}</a>' for key, name, _ in sections)
    body = "".join(f'<section id="{key}"><h2>{escape(name)}</h2>{inner}</section>' for key, name, inner in sections)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{CSS}</style></head>\n"
        f"<body><header><h1>{escape(title)}</h1><p>{escape(lead)}</p>"
        f'<nav aria-label="Sections">{links}</nav></header>\n<main>{body}</main></body></html>\n'
    )


CSS = """
:root{color-scheme:light;--ink:#1c2126;--soft:#4a525c;--line:#d5d9df;--faint:#f4f6f8;--blue:#0b5394}
*{box-sizing:border-box}
body{margin:0;font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;color:var(--ink);
background:#fff}
header,main{max-width:1120px;margin:0 auto;padding:0 20px}
header{padding-top:28px}
h1{font-size:1.75rem;line-height:1.2;margin:0 0 6px}
header p{margin:0 0 14px;color:var(--soft)}
nav{display:flex;flex-wrap:wrap;gap:4px 16px;padding:10px 0;border-top:1px solid var(--line);
border-bottom:1px solid var(--line)}
a{color:var(--blue)}
nav a{text-decoration:none}
nav a:hover{text-decoration:underline}
a:focus-visible,summary:focus-visible,.scroll:focus-visible{outline:2px solid var(--blue);outline-offset:2px}
section{margin:34px 0}
h2{font-size:1.35rem;margin:0 0 12px;padding-bottom:4px;border-bottom:2px solid var(--ink)}
h3{font-size:1.05rem;margin:20px 0 8px}
h3 small{font-weight:400;color:var(--soft)}
h3 a{font-weight:400;font-size:.9rem;margin-left:8px}
h4{font-size:.95rem;margin:14px 0 6px}
.card{border:1px solid var(--line);border-left:4px solid var(--ink);padding:10px 16px;margin:0 0 14px}
.card h3{margin:0 0 6px}
.card ul{margin:0;padding:0;list-style:none}
.main,.side{display:flex;gap:10px;margin:7px 0;color:var(--soft)}
.card .main{color:var(--ink);font-size:1.06rem}
.card.absent{border-left-color:#8a6d00}
.sign{flex:none;width:1.7em;height:1.5em;line-height:1.4em;border:1px solid;font-size:.85rem;text-align:center;
margin-top:.12em}
.helps{color:#0b5a3c;background:#e6f4ec}
.hurts{color:#8f1d1d;background:#fbeaea}
.no-evidence,.one-seed{color:#3d444d;background:#f0f2f4}
.scroll{overflow-x:auto;margin:10px 0}
table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}
caption{text-align:left;font-weight:600;padding:6px 0}
th,td{padding:5px 10px;border-bottom:1px solid var(--line);text-align:right;vertical-align:top}
thead th{border-bottom:2px solid var(--ink);vertical-align:bottom;font-weight:600;max-width:9em}
thead th[scope=colgroup]{text-align:center;border-bottom:1px solid var(--line);max-width:none}
thead td{border:0}
td{min-width:6.4em}
.sheet td{min-width:0}
tbody th,thead th:first-child{text-align:left;font-weight:400}
tbody tr:hover{background:var(--faint)}
td small{display:block;color:var(--soft);white-space:nowrap}
code{font-size:.85em;overflow-wrap:anywhere}
.bar{display:block;min-width:3.6em;padding:0 4px;background:linear-gradient(90deg,#cfe0ef var(--v),transparent 0)}
figure{margin:12px 0}
figure img{display:block;width:100%;min-width:680px;height:auto}
figcaption,.note{font-size:.88rem;color:var(--soft);max-width:78ch}
details{margin:10px 0}
summary{cursor:pointer;font-weight:600;font-size:.95rem}
.sheet td,.sheet tbody th{text-align:left;padding:5px;border:0;font-size:.72rem;line-height:1.3;color:var(--soft)}
.sheet thead th,.sheet thead th[scope=colgroup]{text-align:left;padding:5px;border-bottom:2px solid var(--ink)}
.sheet img,.grid img{display:block;width:96px;height:96px;object-fit:contain;background:var(--faint)}
.sheet td:has(img+img){white-space:nowrap}
.sheet img+img{margin-left:4px}
.sheet td img:only-child,.sheet td img+img,.sheet td:has(img+img) img{display:inline-block}
.sheet span,.grid span{display:block;max-width:96px;overflow-wrap:anywhere}
.sheet b,.grid b{display:block;max-width:96px;font-weight:600}
.ok{color:#0b5a3c}
.no{color:#8f1d1d}
.grid{display:flex;flex-wrap:wrap;gap:10px;margin:0;padding:0;list-style:none;font-size:.72rem;line-height:1.3;
color:var(--soft)}
@media print{nav{display:none}details{display:block}}
""".replace("\n", "")
