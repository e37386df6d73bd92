"""The templates that pages share."""

import re
from typing import NamedTuple

import pytest

from twofold.pages.html import ENVIRONMENT

GALLERY, PARTS = (ENVIRONMENT.get_template(name).module for name in ("gallery.html", "parts.html"))
FRAMES = [("100 images", "data:one"), ("200 images", "data:two"), ("300 images", "data:three")]


def gallery(frames, paired=False):
    return str(GALLERY.gallery(frames, paired))


def test_only_the_newest_grid_shows_at_first():
    images = re.findall(r"<img [^>]*>", gallery({"ab": FRAMES, "ba": FRAMES[:1]}))[:3]
    assert [" hidden" in image for image in images] == [True, True, False]
    assert 'alt="A, A→B and back to A after 300 images"' in images[-1]
    assert 'max=2 value=2 aria-label="Moment of training, A→B"' in gallery({"ab": FRAMES})


def test_a_switch_stands_where_there_are_two_directions():
    assert "class=switch" not in gallery({"ab": FRAMES})
    both = gallery({"ab": FRAMES, "ba": FRAMES})
    assert re.findall(r"<button type=button data-direction=(\w\w)", both) == ["ab", "ba"]
    assert both.count("<div class=panel") == 2
    assert "back to B" in both


def test_the_third_column_is_the_change_where_nothing_translates_back():
    assert "<span class=a>change</span>" in gallery({"ab": FRAMES})
    assert "<span class=a>true B</span>" in gallery({"ab": FRAMES}, paired=True)
    assert "A, A→B and change after 300 images" in gallery({"ab": FRAMES})


def test_one_grid_needs_no_controls():
    assert "<div class=controls hidden>" in gallery({"ab": FRAMES[:1]})
    assert "<div class=controls>" in gallery({"ab": FRAMES[:2]})


def test_without_samples_the_gallery_says_so():
    assert gallery({}) == "\n<p class=soft>No sample yet: the first grid appears here.</p>\n"


def test_labels_and_addresses_are_escaped():
    made = gallery({"ab": [('"><script>', '"><script>')]})
    assert "<script>" not in made


class Finding(NamedTuple):
    severity: str
    sentence: str
    advice: str


def test_parts_of_findings_between_backticks_are_code_and_everything_else_is_text():
    one = Finding("warning", "It copies <b>.", "`twofold data check A B` says why; then `--seed 2`.")
    made = PARTS.findings([one], "calm")
    option = "<code><span>--seed</span> 2</code>"  # a span does not break after the dashes
    assert f"<code>twofold data check A B</code> says why; then {option}." in made
    assert "It copies &lt;b&gt;." in made and "calm" not in made


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("All well, `twofold info` says.", "All well, <code>twofold info</code> says."),
        ("`<i>` and a lone ` tick", "<code>&lt;i&gt;</code> and a lone ` tick"),
        ("`all code`", "<code>all code</code>"),
        ("91 ± 2 of 100", "91\xa0±\xa02 of 100"),
    ],
)
def test_without_findings_the_calm_line_stands_alone(text, html):
    assert PARTS.findings([], text).strip() == f"<p class=soft>{html}</p>"
