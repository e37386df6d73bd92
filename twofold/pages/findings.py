"""The doctor's findings as a part of a page: the report's and the live page's."""

import re
from collections.abc import Iterable

from twofold.pages.html import text


def findings_list(findings: Iterable[tuple[str, str, str, str]], calm: str) -> str:
    """HTML of (name, severity, sentence, advice) each, or the calm line where there are none."""
    notes = "".join(
        f"<p class=note><b>{text(severity)}</b> · {prose(sentence)} <span class=soft>{prose(advice)}</span></p>"
        for _, severity, sentence, advice in findings
    )
    return notes or f"<p class=soft>{prose(calm)}</p>"


def prose(words: str) -> str:
    """Words as HTML; what stands between backticks, as commands do, as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", text(words))
