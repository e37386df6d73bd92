import json
from itertools import pairwise

import pytest

from twofold import runs
from twofold.runs import last_row, read_evenly, read_lines


def write(log, count, width=0):
    log.write_text(
        "".join(json.dumps({"images": n, "pad": "x" * (n % 7 * width)}) + "\n" for n in range(count))
    )
    return log


def images(rows):
    return [row["images"] for row in rows]


@pytest.mark.parametrize("width", [0, 9])
@pytest.mark.parametrize("count", [1, 2, 30, 1000, 5000])
def test_read_evenly_takes_whole_rows_in_order_with_the_first_and_the_last(tmp_path, count, width):
    found = images(read_evenly(write(tmp_path / "metrics.jsonl", count, width), 100))
    assert found == sorted(set(found))
    assert (found[0], found[-1]) == (0, count - 1)
    assert min(count, 25) <= len(found) <= 100
    gaps = [after - before for before, after in pairwise(found)]
    assert not gaps or max(gaps) <= max(2, 6 * count / 100)


def test_a_log_that_grows_keeps_the_rows_it_showed(tmp_path):
    log = write(tmp_path / "metrics.jsonl", 1000)
    before = images(read_evenly(log, 100))[:-1]
    with log.open("a") as file:
        file.write('{"images": 1000}\n{"images": 1001}\n')
    assert images(read_evenly(log, 100))[: len(before)] == before


def test_the_time_does_not_grow_with_the_log(tmp_path, monkeypatch):
    parsed = []
    monkeypatch.setattr(runs, "_row", lambda line: parsed.append(line) or json.loads(line))
    read_evenly(write(tmp_path / "metrics.jsonl", 50_000), 50)
    assert len(parsed) <= 51


@pytest.mark.parametrize("count", [0, 3, 400, 20_000])
@pytest.mark.parametrize("newest", [1, 300, 5000, 1_000_000])
def test_the_newest_lines_are_the_last_of_all(tmp_path, count, newest):
    log = write(tmp_path / "metrics.jsonl", count, width=9)
    assert images(read_lines(log, newest)) == list(range(count))[-newest:]
    assert images(read_lines(log)) == list(range(count))


def test_a_torn_last_line_is_left_out(tmp_path):
    log = write(tmp_path / "metrics.jsonl", 100)
    with log.open("a") as file:
        file.write('{"images": 10')
    assert images(read_evenly(log, 50))[-1] == 99
    assert last_row(log) == {"images": 99, "pad": ""}


@pytest.mark.parametrize("content", ["", "\n\n", "{torn", "[1]\n7\nnull\n", "\x00\xff" * 50, "[" * 200_000])
def test_nothing_is_found_where_nothing_is(tmp_path, content):
    log = tmp_path / "metrics.jsonl"
    assert read_evenly(log) == []
    assert last_row(log) is None
    log.write_text(content, encoding="latin-1")
    assert read_evenly(log) == []
    assert last_row(log) is None


def test_a_torn_line_in_the_middle_is_left_out(tmp_path):
    log = tmp_path / "metrics.jsonl"
    log.write_text('{"images": 1}\n{"ima{"images": 2}\n{"images": 3}\n')
    assert read_evenly(log) == [{"images": 1}, {"images": 3}]
