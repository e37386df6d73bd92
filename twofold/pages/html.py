"""Render pages: one jinja2 environment, and styles and scripts inside each page, so that it needs no other file."""

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

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


class Assets(NamedTuple):
    """The files of static/ that a page contains, and what else its policy allows."""

    styles: Sequence[str] = ("style.css",)
    scripts: Sequence[str] = ("gallery.js", "charts.js")
    policy: str = "img-src data:; form-action 'none'"
    script_sources: str = ""
    """What may be a script besides the page's own."""


REPORT = Assets()
LIVE = Assets(
    ("style.css", "live.css"),
    (*REPORT.scripts, "live.js"),
    "img-src 'self' data:; connect-src 'self'; form-action 'self'",
)


def render(template: str, assets: Assets = REPORT, **values: Any) -> str:
    """Render a template that extends page.html.

    The page's policy forbids every fetch and every script except its own, so that a mistake in escaping stays
    harmless. A live page may also fetch itself and pictures from its server.
    """
    style, script = (Markup("".join(map(static_text, names))) for names in (assets.styles, assets.scripts))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    policy = Markup(f"script-src 'sha256-{digest}' {assets.script_sources}; {assets.policy}")
    return ENVIRONMENT.get_template(template).render(
        live=assets is LIVE, style=style, script=script, policy=policy, **values
    )


def data_uri(content: bytes, kind: str) -> str:
    """An image of a kind, such as "webp", as an address that contains it."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


@cache
def static_text(name: str) -> str:
    """The text of a file of static/."""
    return resources.files("twofold.pages").joinpath("static", name).read_text(encoding="utf-8")
