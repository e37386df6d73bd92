import json
import re
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from twofold.pages.charts import Series, chart, evenly


@given(st.integers(0, 5000), st.integers(2, 700))
def test_evenly_keeps_both_ends_and_even_gaps(count, most):
    places = evenly(count, most)
    gaps = [after - before for before, after in pairwise(places)]
    assert len(places) == min(count, most)
    assert places[:1] == [0][:count]
    assert places[-1:] == [count - 1][:count]
    assert all(gap > 0 for gap in gaps)
    assert not gaps or max(gaps) - min(gaps) <= 1


def data_of(figure):
    return json.loads(re.findall(r'<script type="application/json">(.*?)</script>', figure)[0])


def test_chart_carries_each_log_once_and_gaps_as_null():
    images, values = [float(n) for n in range(100)], [1.0, None, *[2.000001] * 98]
    both = [Series("A", images, values, "a"), Series("B", images, values[::-1], "b")]
    figure = chart("Cycle", "meaning", "loss", [*both, Series("C", [7.0], [3.0], "c")])
    data = data_of(figure)
    assert data["axes"] == [images, [7.0]]
    assert [curve["axis"] for curve in data["curves"]] == [0, 0, 1]
    assert data["curves"][0]["values"] == [1.0, None, *[2.0] * 98]
    assert re.findall("<b>(.*?)</b>", figure) == ["2", "1", "3"]  # the legend, before any script runs


def test_a_chart_leaves_out_what_has_no_value():
    empty = Series("B", [1.0, 2.0], [None, None], "b")
    figure = chart("Cycle", "meaning", "loss", [Series("A", [1.0], [1.0], "a"), empty])
    assert [curve["label"] for curve in data_of(figure)["curves"]] == ["A"]
    assert chart("Cycle", "meaning", "loss", [empty]) == ""


def test_chart_escapes_its_labels():
    evil = "</script><img src=x>"
    figure = chart(evil, evil, evil, [Series(evil, [1.0], [1.0], "a")])
    assert "<img" not in figure
    assert data_of(figure)["title"] == evil
