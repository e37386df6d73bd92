"""Escaping, and the shell of a page that is whole in one file: no network, no fonts, no build step."""

import base64
import hashlib
import html
import json
from collections.abc import Iterable
from functools import cache
from importlib import resources
from urllib.parse import quote


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


def page(title: object, body: str, live: bool = False) -> str:
    """The whole document around `body`, which is HTML.

    Its policy forbids every fetch and every script but its own, so that a mistake in escaping stays inert. A live
    page may also ask the server it came from for itself, and for pictures.
    """
    style = _asset("style.css") + (_asset("live.css") if live else "")
    script = _asset("script.js") + (_asset("live.js") if live else "")
    return f"""<!doctype html>
<html lang=en><head><meta charset=utf-8>
<meta http-equiv=Content-Security-Policy content="{_policy(script, live)}">
<meta name=viewport content="width=device-width, initial-scale=1">
<title>{text(title)}</title><link rel=icon href="{ICON}"><style>{style}</style></head>
<body>
{body}
<script>{script}</script>
</body></html>
"""


ICON = "data:image/svg+xml," + quote(
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><path fill="#17699b" d="M1 3l7 2v10l-7-2z"/>'
    '<path fill="#b04a1f" d="M15 3L8 5v10l7-2z"/></svg>'
)


@cache
def _policy(script: str, live: bool) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    own = "default-src 'none'; base-uri 'none'; style-src 'unsafe-inline'"
    if live:
        return f"{own}; script-src 'sha256-{digest}'; img-src 'self' data:; connect-src 'self'; form-action 'self'"
    return f"{own}; script-src 'sha256-{digest}'; img-src data:; form-action 'none'"


@cache
def _asset(name: str) -> str:
    return resources.files("twofold.pages").joinpath(name).read_text(encoding="utf-8")
