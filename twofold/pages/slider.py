"""Sample grids: a slider through training, and a divider between a source and its translation.

A grid's rows are scenes; its three columns of square cells are source, translation, and back again; or what the
translation changed, where nothing translates back.
"""

from collections.abc import Sequence
from typing import NamedTuple

from twofold.pages.html import text

NOTHING_YET = "<p class=soft>No sample yet: the first grid appears here.</p>"


class Frame(NamedTuple):
    """One sample grid: when it was made, in words, and its address (a data URI in a report, a file on a live page)."""

    label: str
    address: str


def gallery(frames: dict[str, list[Frame]], paired: bool = False) -> str:
    """Both views for each direction ("ab", "ba") that has frames, oldest first; a switch if both have.

    With pairs, a one-way method's grids show the right answers in their third column.
    """
    shown = {direction: found for direction, found in frames.items() if found}
    panels = (_panel(direction, found, len(shown) > 1, paired) for direction, found in shown.items())
    return switch(list(shown)) + "".join(panels)


def switch(directions: Sequence[str]) -> str:
    """Buttons that show one direction's panel at a time; nothing where there is no choice."""
    if len(directions) < 2:
        return ""
    buttons = "".join(
        f"<button type=button data-direction={direction} aria-pressed=false>{_arrow(direction)}</button>"
        for direction in directions
    )
    return f'<div class=switch role=group aria-label="Direction">{buttons}</div>'


def _arrow(direction: str) -> str:
    return "→".join(direction.upper())


def _panel(direction: str, frames: list[Frame], both_ways: bool, paired: bool) -> str:
    a, b = direction
    name, arrow, last = a.upper(), _arrow(direction), len(frames) - 1
    third = f"back to {name}" if both_ways else f"true {b.upper()}" if paired else "change"
    pictures = "".join(
        f'<img alt="{name}, {arrow} and {third} after {text(label)}" data-label="{text(label)}"'
        f' src="{text(address)}"{"" if place == last else " loading=lazy hidden"}>'
        for place, (label, address) in enumerate(frames)
    )
    return f"""<div class=panel data-direction={direction}>
<div class=over-time><h3>Over time</h3>
<div class=head>
<div class=controls{"" if last else " hidden"}>
<button type=button class=play aria-label="Play through training">▶</button>
<input type=range min=0 max={last} value={last} aria-label="Moment of training, {arrow}"></div>
<p class=moment>{text(frames[last].label)}</p>
<div class=columns aria-hidden=true>
<span class={a}>{name}</span><span class={b}>{arrow}</span><span class={a}>{third}</span></div>
</div>
<div class=frames>{pictures}</div>
</div>
<div class=before-after hidden><h3>Before and after</h3>
<p>The newest sample; drag the line.</p>
<div class=stage><div class="cell after"></div><div class="cell before"></div>
<span class="tag {a}">{name}</span><span class="tag {b}">{arrow}</span>
<input type=range min=0 max=100 value=50 aria-label="Divider between {name} and {arrow}, in percent">
<div class=divider></div></div>
<div class=scenes role=group aria-label="Scene"></div>
</div>
</div>"""
