"""The one jinja2 environment of all pages, and what makes a page complete in one file without network."""

import base64
import hashlib
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from twofold.pages.run_folder import duration

ENVIRONMENT = Environment(
    loader=PackageLoader("twofold.pages"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
ENVIRONMENT.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
ENVIRONMENT.filters |= {
    "thousands": "{:,}".format,
    "duration": duration,
    "unbroken": lambda text: text.replace(" ± ", "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}"),
}


def render(template: str, *, live: bool = False, **values: Any) -> str:
    """Render a template that extends page.html.

    The page's policy forbids every fetch and every script except its own, so that a mistake in escaping stays
    harmless. A live page may also fetch itself and pictures from its server.
    """
    style = "".join(map(_static, ["style.css", "live.css"] if live else ["style.css"]))
    script = "".join(map(_static, ["gallery.js", "charts.js", *(["live.js"] if live else [])]))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return ENVIRONMENT.get_template(template).render(
        live=live, style=Markup(style), script=Markup(script), script_digest=digest, **values
    )


def data_uri(content: bytes, kind: str) -> str:
    """An image of a kind, such as "webp", as an address that contains it."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


@cache
def _static(name: str) -> str:
    return resources.files("twofold.pages").joinpath("static", name).read_text(encoding="utf-8")
