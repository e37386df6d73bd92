"""Escaping, and the shell of a page that is whole in one file: no network, no fonts, no build step."""

import base64
import hashlib
import html
import json
from collections.abc import Iterable
from importlib import resources


def text(value: object) -> str:
    """Anything as HTML text, safe between tags and inside a quoted attribute."""
    return html.escape(str(value))


def json_block(data: object) -> str:
    """Data for the page's script; no string in it can end the block. NaN and infinities raise ValueError."""
    body = json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return f'<script type="application/json">{body}</script>'


def data_uri(content: bytes, kind: str) -> str:
    """An image of a kind, such as "webp", as an address that holds it whole."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def table(rows: Iterable[tuple[object, object]]) -> str:
    """Names and values, side by side."""
    lines = (f"<tr><th scope=row>{text(name)}</th><td>{text(value)}</td></tr>" for name, value in rows)
    return f"<table class=pairs>{''.join(lines)}</table>"


def details(title: object, body: str, unfolded: bool = False) -> str:
    """A part that folds away; `body` is HTML."""
    return f"<details{' open' if unfolded else ''}><summary>{text(title)}</summary>{body}</details>"


def section(title: object, body: str) -> str:
    """A headed part of the page; `body` is HTML, and an empty one leaves the whole part out."""
    return f"<section><h2>{text(title)}</h2>{body}</section>" if body else ""


def page(title: object, body: str) -> str:
    """The whole document around `body`, which is HTML.

    Its policy forbids every fetch and every script but its own, so that a mistake in escaping stays inert.
    """
    style, script = _asset("style.css"), _asset("script.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    return f"""<!doctype html>
<html lang=en><head><meta charset=utf-8>
<meta http-equiv=Content-Security-Policy content="{policy}">
<meta name=viewport content="width=device-width, initial-scale=1">
<title>{text(title)}</title><style>{style}</style></head>
<body>
{body}
<script>{script}</script>
</body></html>
"""


def _asset(name: str) -> str:
    return resources.files("twofold.pages").joinpath(name).read_text(encoding="utf-8")
