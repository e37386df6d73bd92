"""Which runs are found, and in which state they are shown."""

import json
import os
from pathlib import Path

import pytest

from twofold.files import lock
from twofold.pages.run_folder import progress
from twofold.runs import Run
from twofold.serving.watch import Watch, state, summarise

TRAINING = {"training": {"epochs": 6, "decay_epochs": 4, "report_every": 10}}


def names(*folders: Path) -> list[str]:
    return sorted(each.name for each in Watch(folders).runs().values())


def test_runs_are_found_two_levels_deep(tmp_path, made):
    for place in ("one", "group/two", ".hidden/three", "too/deep/four"):
        made(tmp_path / place, 0, 0)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    assert names(tmp_path) == ["group/two", "one"]


def test_a_run_is_known_by_its_own_name_and_is_not_searched(tmp_path, made, monkeypatch):
    made(tmp_path / "run", 0, 0)
    made(tmp_path / "run" / "nested", 0, 0)
    assert names(tmp_path / "run") == ["run"]
    monkeypatch.chdir(tmp_path / "run")
    assert names(Path()) == ["run"]


def test_a_run_that_is_given_twice_is_one(tmp_path, made):
    made(tmp_path / "run", 0, 0)
    assert names(tmp_path, tmp_path / "run", tmp_path / "run") == ["run"]


def test_runs_of_one_name_have_keys_of_their_own_that_last(tmp_path, made):
    for place in ("x/run", "y/run", "y/RUN!"):
        made(tmp_path / place, 0, 0)
    found = Watch([tmp_path]).runs()
    assert len(found) == 3
    assert list(Watch([tmp_path]).runs()) == list(found)
    assert all(set(key) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") for key in found)


def test_the_run_that_began_last_comes_first(tmp_path, made):
    for age, name in ((30, "b"), (10, "c"), (20, "a")):
        os.utime(made(tmp_path / name, 0, 0).config, (1e9 - age, 1e9 - age))
    assert [each.name for each in Watch([tmp_path]).runs().values()] == ["c", "a", "b"]


def test_folders_that_are_not_there_or_not_ours_hold_no_run(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path)
    assert names(tmp_path / "none", tmp_path) == []


def test_folder_names_that_are_not_utf8_are_watched(tmp_path, made):
    made(Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe")), 0, 0)
    assert len(Watch([tmp_path]).runs()) == 1


@pytest.mark.parametrize(
    ("last", "speed", "silence", "expected"),
    [
        ({}, 0.0, 5, "starting"),
        ({}, 0.0, 500, "quiet"),
        ({"images": 100, "epoch": 1.0}, 4.0, 119, "training"),
        ({"images": 100, "epoch": 1.0}, 4.0, 121, "quiet"),
        ({"images": 100, "epoch": 1.0}, 0.1, 499, "training"),  # a report takes 100 s
        ({"images": 100, "epoch": 1.0}, 0.1, 501, "quiet"),
        ({"images": 100, "epoch": 1.0}, 4.0, -60, "training"),  # another machine's clock
        ({"images": 1000, "epoch": 10.0}, 4.0, 1e9, "finished"),
        ({"images": 990, "epoch": 9.9}, 4.0, 1e9, "quiet"),
    ],
)
def test_the_state_follows_from_progress_and_the_time_since_the_last_report(last, speed, silence, expected):
    assert state(TRAINING, progress(TRAINING, last), speed, silence) == expected


def test_a_run_whose_lock_is_free_has_stopped(run):
    """As soon as its process ends; a run that is done is finished all the same."""
    assert summarise(run).state == "training"  # no lock file: a guess
    with lock(run.lock, "taken"):
        before = run.lock.stat().st_mtime_ns
        assert summarise(run).state == "training"
    assert summarise(run).state == "stopped"
    assert summarise(run).seconds_left == 0
    assert run.lock.stat().st_mtime_ns == before
    with run.metrics.open("a") as log:
        log.write('{"images": 10, "not_finite": ["gan_ab"]}\n')
    assert summarise(run).diverged
    run.report_at(1000)
    assert summarise(run).state == "finished"


def test_a_run_that_is_locked_and_silent_is_quiet():
    done = progress(TRAINING, {"images": 100, "epoch": 1.0})
    assert state(TRAINING, done, 4.0, 500, locked=True) == "quiet"
    assert state(TRAINING, done, 4.0, 5, locked=True) == "training"
    assert state(TRAINING, done, 4.0, 5, locked=False) == "stopped"


def test_time_left_uses_the_latest_speed(run):
    (each,) = Watch([run.path]).runs().values()
    seen = summarise(each.run)  # 400 images of 1,000 at 4 a second
    assert (seen.state, seen.speed, seen.seconds_left) == ("training", 4.0, 150.0)
    run.report_at(1000)
    assert summarise(each.run).seconds_left == 0
    assert summarise(each.run).state == "finished"


def test_a_summary_survives_whatever_is_there(tmp_path, made):
    run = made(tmp_path / "run", 0, 0)
    (each,) = Watch([run.path]).runs().values()
    for junk in (
        b"",
        b"{torn",
        b"\xff\x00",
        b"[1]",
        b'{"images": "x"}\n',
        b'{"images": null, "images_per_s": []}\n',
    ):
        run.metrics.write_bytes(junk)
        run.timing.write_bytes(junk)
        assert summarise(each.run)[1:3] == ((0, 0, 0, 10), 0.0)
    run.config.unlink()
    assert summarise(each.run).config == {}


@pytest.mark.parametrize("version", [2, "x", None, 1.5])
def test_a_run_of_a_later_format_says_so(run, version):
    (each,) = Watch([run.path]).runs().values()
    assert summarise(each.run).too_new == ""
    run.config.write_text(json.dumps({"format": version}))
    assert f"format {version}" in summarise(each.run).too_new


def test_nothing_is_written(run, tmp_path):
    def everything() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}

    before = everything()
    for each in Watch([tmp_path]).runs().values():
        summarise(each.run)
        assert isinstance(each.run, Run)
    assert everything() == before
