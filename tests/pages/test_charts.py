import json
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold.pages.charts import Curve, chart, clocks, comparison_charts, evenly, run_charts
from twofold.pages.html import ENVIRONMENT
from twofold.pages.run_folder import RunFolder


@given(st.integers(0, 5000), st.integers(2, 700))
def test_evenly_keeps_both_ends_and_even_gaps(count, most):
    places = evenly(count, most)
    gaps = [after - before for before, after in pairwise(places)]
    assert len(places) == min(count, most)
    assert places[:1] == [0][:count]
    assert places[-1:] == [count - 1][:count]
    assert all(gap > 0 for gap in gaps)
    assert not gaps or max(gaps) - min(gaps) <= 1


def drawn(charts):
    """The figures as HTML, and what their script reads."""
    html = ENVIRONMENT.get_template("parts.html").module.figures(charts, {})
    blocks = re.findall(r'<script type="application/json">(.*?)</script>', html)
    return html, [json.loads(block) for block in blocks]


def test_a_chart_carries_each_log_once_and_gaps_as_null():
    images, values = [float(n) for n in range(100)], [1.0, None, *[2.000001] * 98]
    both = [Curve("A", "a", images, values), Curve("B", "b", images, values[::-1])]
    html, (data,) = drawn([chart("Cycle", "meaning", "loss", [*both, Curve("C", "c", [7.0], [3.0])])])
    assert data["axes"] == [images, [7.0]]
    assert [curve["axis"] for curve in data["curves"]] == [0, 0, 1]
    assert data["curves"][0]["values"] == [1.0, None, *[2.0] * 98]
    assert re.findall("<b>(.*?)</b>", html) == ["2", "1", "3"]  # the legend, before any script runs


def folder(losses):
    return RunFolder("run", {}, {}, [], [{"images": 10, "losses": losses}], [], [])


def test_curves_without_a_value_are_left_out():
    (cycle,) = run_charts(folder({"cycle_a": None, "cycle_b": 1.0, "gan_ab": "x"}))
    assert cycle.title == "Cycle"
    assert [(each["label"], each["colour"]) for each in cycle.curves] == [("B", "b")]


def test_one_run_has_a_chart_for_each_kind_and_several_have_one_for_each_loss():
    one, two = folder({"gan_ba": 1.0, "gan_ab": 1.0, "k": 1.0}), folder({"gan_ba": 1.0})
    (adversarial, other) = run_charts(one)
    assert [each["label"] for each in adversarial.curves] == ["A→B", "B→A"]
    assert (other.title, [each["label"] for each in other.curves]) == ("Other losses", ["k"])
    several = comparison_charts([("one", one), ("two", two)])
    assert [each.title for each in several] == ["Adversarial A→B", "Adversarial B→A", "Other losses k"]
    assert [(each["label"], each["colour"]) for each in several[1].curves] == [("one", "a"), ("two", "b")]


def test_held_out_metrics_of_both_directions():
    """One chart for a run, one for each direction where runs are compared; rows of 0.1 name no direction."""
    rows = [
        {"images": 10, "direction": way, "values": {"swd": value}}
        for way, value in (("ab", 0.5), ("ba", 0.3))
    ]
    one = folder({})._replace(evaluations=rows)
    (swd,) = run_charts(one)
    assert (swd.title, "Lower is better" in swd.meaning) == ("SWD", True)
    assert [(each["label"], each["colour"], each["values"]) for each in swd.curves] == [
        ("A→B", "b", [0.5]),
        ("B→A", "a", [0.3]),
    ]
    old = folder({})._replace(evaluations=[{"images": 10, "values": {"swd": 0.4}, "direction": []}])
    (swd,) = run_charts(old)
    assert [(each["label"], each["colour"]) for each in swd.curves] == [("A→B", "b")]
    several = comparison_charts([("one", one), ("old", old)])
    assert [each.title for each in several] == ["SWD A→B", "SWD B→A"]
    assert [[each["label"] for each in chart.curves] for chart in several] == [["one", "old"], ["one"]]


def test_a_chart_escapes_its_words():
    evil = "</script><img src=x>"
    html, (data,) = drawn([chart(evil, evil, evil, [Curve(evil, evil, [1.0], [1.0])])])
    assert "<img" not in html
    assert data["title"] == evil


def test_a_chart_refuses_what_json_parse_would():
    with pytest.raises(ValueError, match="not JSON compliant"):
        drawn([chart("Cycle", "", "", [Curve("A", "a", [1.0], [float("nan")])])])


def test_the_clock_of_a_run_begins_at_zero_and_skips_rows_without_a_time():
    timing = [{"images": 10, "seconds": 2.5}, {"images": 20, "seconds": "x"}, {"images": 30, "seconds": 9.0}]
    timed = folder({})._replace(timing=timing)
    assert clocks([("a", timed), ("b", folder({}))]) == {"a": [[0, 10, 30], [0, 2.5, 9.0]]}
