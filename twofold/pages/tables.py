"""Tables of a run: its evaluation, and its settings, each part folded away."""

from collections.abc import Iterator
from itertools import islice, zip_longest
from typing import Any

from twofold.pages.html import details, section, table, text
from twofold.read_untrusted import as_dict, as_list

ROWS = 200  # of any table


def evaluation(found: dict[Any, Any], album: str = "") -> str:
    """What evaluation.json says, as a section; `album` is HTML of its pictures."""
    if not found:
        return ""
    head = "".join(f"<th scope=col>{text(name)}</th>" for name in as_list(found.get("columns")))
    rows = "".join(_verdict(as_dict(row)) for row in as_list(found.get("rows"))[:ROWS])
    grid = f"<table class=verdict><thead><tr><th></th>{head}</tr></thead>{rows}</table>" if rows else ""
    return section(
        found.get("title") or "Evaluation",
        f"<p class=lead>{text(found.get('summary') or '')}</p><div class=scroll>{grid}</div>"
        f"<p class=soft>{text(found.get('note') or '')}</p><div class=album>{album}</div>",
    )


def _verdict(row: dict[Any, Any]) -> str:
    sides = [as_list(row.get(key)) for key in ("low", "high")]
    cells = "".join(
        f"<td>{text(_figure(value))}{_interval(*interval)}</td>"
        for value, *interval in zip_longest(as_list(row.get("values")), *sides)
    )
    best, mark = (" class=best", " <small>best</small>") if row.get("best") else ("", "")
    return f"<tr{best}><th scope=row>{text(row.get('name') or '')}{mark}</th>{cells}</tr>"


def _figure(value: object) -> object:
    if not isinstance(value, float):
        return "–" if value is None else value
    return f"{value:.2f}" if abs(value) >= 10 else f"{value:.3f}" if abs(value) >= 0.1 else f"{value:.2g}"


def _interval(low: object, high: object) -> str:
    """Half the 95 % interval, where there is one."""
    if not (isinstance(low, float) and isinstance(high, float)):
        return ""
    return f" <small>± {(high - low) / 2:.2g}</small>"


def settings(config: dict[Any, Any]) -> str:
    """Every setting, by room."""
    parts = {"run": {key: value for key, value in config.items() if not isinstance(value, dict)}}
    parts |= {key: value for key, value in config.items() if isinstance(value, dict)}
    return "".join(details(key, table(islice(flat(value), ROWS))) for key, value in parts.items() if value)


def flat(values: dict[Any, Any], before: str = "") -> Iterator[tuple[str, object]]:
    """Names and values of a nested mapping, as `generator.width`."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", "–" if value is None else value
