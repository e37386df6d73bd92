import json
import math
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold.pages import charts
from twofold.pages.charts import Series, chart, evenly, number, read_evenly, smooth


@given(st.integers(0, 5000), st.integers(2, 700))
def test_evenly_keeps_both_ends_and_even_gaps(count, most):
    places = evenly(count, most)
    gaps = [after - before for before, after in pairwise(places)]
    assert len(places) == min(count, most)
    assert places[:1] == [0][:count]
    assert places[-1:] == [count - 1][:count]
    assert all(gap > 0 for gap in gaps)
    assert not gaps or max(gaps) - min(gaps) <= 1


@pytest.mark.parametrize(
    ("value", "kept"),
    [(1, 1.0), (-2.5, -2.5), (True, None), ("3", None), (None, None), ([1], None), (10**400, None)],
)
def test_number_takes_finite_numbers_only(value, kept):
    assert number(value) == kept


def test_number_refuses_what_is_not_finite():
    assert [number(value) for value in (math.nan, math.inf, -math.inf)] == [None] * 3


def test_smooth_is_the_mean_of_the_middle_half():
    # reach 2, in the middle: {1, 2, 3, 4, 100} less one on either side
    assert smooth([1, 2, 100, 3, 4], 2)[2] == 3
    # at the left end: {1, 2, 100} less none
    assert smooth([1, 2, 100, 3, 4], 2)[0] == pytest.approx(103 / 3)


def test_smooth_forgets_a_spike_keeps_gaps_and_lines():
    spiked = [0.5] * 20 + [1e6] + [0.5] * 20
    assert smooth(spiked, 4) == [0.5] * 41
    assert smooth([1, None, 3], 1) == [1, None, 3]
    line = [float(x) for x in range(50)]
    assert smooth(line, 5)[5:-5] == line[5:-5]


def test_smooth_with_no_reach_changes_nothing():
    assert smooth([3.0, 1.0, None, 2.0], 0) == [3.0, 1.0, None, 2.0]


def test_read_evenly_keeps_the_first_and_the_last_whole_line(tmp_path):
    log = tmp_path / "metrics.jsonl"
    log.write_text("".join(f'{{"images": {n}}}\n' for n in range(1000)) + '{"images": 10')
    rows = read_evenly(log, 50)
    assert len(rows) == 50
    assert rows[0] == {"images": 0}
    assert rows[-1] == {"images": 999}


def test_read_evenly_parses_only_what_it_keeps(tmp_path, monkeypatch):
    log = tmp_path / "metrics.jsonl"
    log.write_text('{"images": 1}\n' * 10_000)
    parsed = []
    monkeypatch.setattr(charts.json, "loads", lambda line: parsed.append(line) or {})
    assert len(read_evenly(log, 50)) == 50
    assert len(parsed) <= 51


@pytest.mark.parametrize("content", ["", "\n\n", "{torn", "[1]\n7\nnull\n", "\x00\xff" * 50, "[" * 100_000])
def test_read_evenly_finds_nothing_where_nothing_is(tmp_path, content):
    log = tmp_path / "metrics.jsonl"
    assert read_evenly(log) == []
    log.write_text(content, encoding="latin-1")
    assert read_evenly(log) == []


def test_read_evenly_leaves_out_a_torn_line_in_the_middle(tmp_path):
    log = tmp_path / "metrics.jsonl"
    log.write_text('{"images": 1}\n{"ima{"images": 2}\n{"images": 3}\n')
    assert read_evenly(log) == [{"images": 1}, {"images": 3}]


def data_of(figure):
    return json.loads(re.findall(r'<script type="application/json">(.*?)</script>', figure)[0])


def test_chart_carries_measured_and_smoothed_values():
    values = [1.0, None, *[2.0] * 98]
    figure = chart("Cycle", "meaning", "loss", list(range(100)), [Series("A", values, "a")])
    (curve,) = data_of(figure)["curves"]
    assert curve["raw"] == values
    assert curve["smooth"][1] is None
    assert curve["smooth"][0] == 1.5
    assert "<b>2</b>" in figure  # the legend, before any script runs


def test_chart_escapes_its_labels():
    evil = "</script><img src=x>"
    figure = chart(evil, evil, evil, [1], [Series(evil, [1.0], "a")])
    assert "<img" not in figure
    assert data_of(figure)["title"] == evil
