"""The doctor's findings as a part of a page: the report's and the live page's."""

from collections.abc import Iterable

from twofold.pages.html import text


def findings_list(findings: Iterable[tuple[str, str, str, str]], calm: str) -> str:
    """HTML of (name, severity, sentence, advice) each, or the calm line where there are none."""
    notes = "".join(
        f"<p class=note><b>{text(severity)}</b> · {text(sentence)} <span class=soft>{text(advice)}</span></p>"
        for _, severity, sentence, advice in findings
    )
    return notes or f"<p class=soft>{text(calm)}</p>"
