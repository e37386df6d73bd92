"""Pages that translate pictures in a browser: one file that holds the models, and the front end of a server."""

import base64
import gzip
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from twofold.pages.html import Assets, render, static_text

_STYLES, _SCRIPTS = ("style.css", "translate.css"), ("gallery.js", "translate.js")

OFFLINE = Assets(
    _STYLES,
    (*_SCRIPTS, "translate-offline.js"),
    "worker-src blob:; img-src data: blob:; form-action 'none'",
    "'wasm-unsafe-eval' blob:",
)
"""The only addresses are those of what the page made itself, so that a browser sends nothing anywhere."""

SERVER = Assets(
    _STYLES,
    (*_SCRIPTS, "translate-server.js"),
    "img-src data: blob:; connect-src 'self'; form-action 'none'",
)


def pack(content: bytes) -> Markup:
    """Bytes as base64 of gzip, which needs no escape in a page; equal bytes give equal text."""
    return Markup(base64.b64encode(gzip.compress(content, 6, mtime=0)).decode("ascii"))


def offline_page(
    title: str,
    models: Sequence[Mapping[str, Any]],
    blocks: Mapping[str, Markup],
    *,
    webgpu: bool,
    version: str,
    licence: str,
) -> str:
    """A page with everything inside, for a browser without network.

    Args:
        models: what static/translate-worker.js needs to know of each model.
        blocks: packed files by name: "ort", "glue", "wasm", and "model-ab", "model-ba" as there are.
        webgpu: whether the runtime computes on a graphics card where the browser can.
        version, licence: of ONNX Runtime Web.
    """
    return render(
        "translate_offline.html",
        OFFLINE,
        title=title,
        contents={"models": models, "webgpu": webgpu},
        blocks=blocks,
        worker=Markup(static_text("translate-worker.js")),
        version=version,
        licence=licence,
    )


def server_page(title: str) -> str:
    """The page of `twofold serve`; it has neither data nor a token, and asks its server for the models."""
    return render("translate_server.html", SERVER, title=title)
