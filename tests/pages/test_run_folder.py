import json
import math
import os

import pytest

from twofold.pages.run_folder import (
    POINTS,
    differences,
    duration,
    evaluation,
    progress,
    read,
    settings_by_room,
    usual_speed,
)
from twofold.read_untrusted import mark, number, parsed
from twofold.runs import Run


@pytest.mark.parametrize(
    ("value", "kept"),
    [(1, 1.0), (-2.5, -2.5), (True, None), ("3", None), (None, None), ([1], None), (10**400, None)],
)
def test_number_takes_finite_numbers_only(value, kept):
    assert number(value) == kept


def test_number_refuses_what_is_not_finite():
    assert [number(value) for value in (math.nan, math.inf, -math.inf)] == [None] * 3


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, ""), (0.4, "0 s"), (89, "89 s"), (90, "2 min"), (3599, "1 h 00 min"), (7500, "2 h 05 min")],
)
def test_durations_are_rounded_to_what_matters(seconds, text):
    assert duration(seconds) == text


def test_the_total_is_that_of_the_settings_or_follows_from_the_epoch():
    last = {"images": 500, "epoch": 0.25}  # 2,000 images an epoch
    assert progress({"training": {"epochs": 3, "decay_epochs": 2}}, last) == (500, 10_000, 0.25, 5)
    assert progress({"training": {"epochs": 3, "total_images": 777}}, last) == (500, 777, 0.25, 3)
    assert progress({"training": {"epochs": 3}}, {}) == (0, 0, 0, 3)
    assert progress({}, {"images": 5, "epoch": 0}) == (5, 0, 0, 0)
    assert progress({"training": {"total_images": 1000}}, last).share == 0.5
    assert progress({"training": {"total_images": 100}}, last).share == 1


def test_the_usual_speed_is_the_median():
    assert usual_speed([{"images_per_s": speed} for speed in (4, 4, 0.01, None, "x", 0, 6)]) == 4
    assert usual_speed([]) == 0


def test_a_file_is_parsed_once_until_it_changes(tmp_path):
    file, calls = tmp_path / "env.json", []

    def parse(content):
        calls.append(content)
        return json.loads(content)

    for content in ("[1]", "[2, 3]"):
        file.write_text(content)
        os.utime(file, ns=(0, len(content)))
        assert parsed(file, parse) == parsed(file, parse) == json.loads(content)
    assert calls == ["[1]", "[2, 3]"]
    file.unlink()
    assert parsed(file, parse) is None


def test_only_files_and_folders_have_a_mark(tmp_path):
    os.mkfifo(tmp_path / "config.yaml")
    assert mark(tmp_path) is not None
    assert mark(tmp_path / "config.yaml") is None
    assert mark(tmp_path / "none") is None
    assert mark(tmp_path / "a\0b") is None
    assert read(Run(tmp_path)).config == {}  # and nobody waits for a pipe


def test_rows_come_in_the_order_of_their_images(tmp_path):
    lines = [{"images": 3}, {"images": "x"}, {"images": 1}, {"other": 1}, {"images": math.inf}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert read(Run(tmp_path)).metrics == [{"images": 1}, {"images": 3}]


def test_a_long_log_keeps_both_directions_of_an_evaluation(tmp_path):
    run, ways = Run(tmp_path), ("ab", "ba")
    rows = [{"images": n, "direction": way, "values": {"psnr": 20.0}} for n in range(1000) for way in ways]
    run.evaluations.write_text("".join(json.dumps(row) + "\n" for row in rows))
    kept = read(run).evaluations
    counts = [sum(row["direction"] == way for row in kept) for way in ways]
    assert len(kept) <= POINTS and min(counts) > 200 and max(counts) - min(counts) <= 1


def test_an_evaluation_says_where_it_comes_from():
    known = {"date": "2026-11-29T06:36:10+0000", "snapshots": [{"file": "8-ab.safetensors"}, "junk"]}
    assert evaluation(known)["origin"] == "2026-11-29 · 8-ab.safetensors"


def test_an_evaluation_becomes_text_with_half_intervals():
    row = {"name": "translated", "values": [13.4172, None, 3], "low": [13.0, 1], "high": [14.0], "best": True}
    found = evaluation({"columns": ["PSNR", "SSIM", "n"], "rows": [row, "junk"]})
    assert found["candidates"] == [("translated", True), ("", False)]
    assert found["metrics"] == [("PSNR", ["13.42 ± 0.50", "–"]), ("SSIM", ["–", "–"]), ("n", ["3", "–"])]
    assert evaluation({}) == {}


def test_settings_are_grouped_by_room():
    config = {"seed": 7, "generator": {"name": "unet", "deep": {"er": None}}, "empty": {}}
    assert settings_by_room(config) == {
        "run": [("seed", 7)],
        "generator": [("name", "unet"), ("deep.er", "–")],
    }


def test_settings_that_differ_are_listed_with_their_values():
    one = {"seed": 1, "optim": {"lr": 1e-4, "betas": [0.5, 0.9]}, "generator": None}
    two = {"seed": 1, "optim": {"lr": 2e-4, "betas": [0.5, 0.9]}, "generator": {"width": 16}}
    assert differences([one, two]) == [
        ("optim.lr", [1e-4, 2e-4]),
        ("generator", ["–", "not set"]),
        ("generator.width", ["not set", 16]),
    ]
    assert differences([one, one, {}])[0] == ("seed", [1, 1, "not set"])
    assert differences([one, one]) == differences([]) == []
