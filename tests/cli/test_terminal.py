"""What a training looks like from outside, in each of its three forms."""

import io
import itertools
import json
import re

import pytest
from rich.console import Console

from twofold.cli import terminal
from twofold.cli.terminal import Bar, Json, Plain

LOSSES = {
    **{"gan_ab": 0.42, "gan_ba": 0.40, "cycle_a": 1.31, "cycle_b": 1.19},
    **{"idt_a": 0.60, "idt_b": 0.50, "disc_a": 0.20, "disc_b": 0.22},
}
SHORT = "gan 0.41 cycle 1.25 idt 0.55 disc 0.21"


def test_plain_lines(capsys):
    watcher = Plain(every=1000)
    watcher.notify("training: cyclegan")
    watcher.progress(10, 100, 2.0, LOSSES)
    watcher.progress(11, 100, 2.0, LOSSES)  # too soon for another line
    watcher.progress(100, 100, 2.0, LOSSES)  # the last is always shown
    assert capsys.readouterr().out.splitlines() == [
        "training: cyclegan",
        f"10/100 images  2.0 images/s  0:45 left  {SHORT}",
        f"100/100 images  2.0 images/s  0:00 left  {SHORT}",
    ]


def test_plain_lines_come_as_often_as_asked(capsys):
    watcher = Plain(every=0)
    for images in (1, 2, 3):
        watcher.progress(images, 9, 0.0, {})
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_the_first_progress_is_a_line_on_a_machine_just_started(capsys):
    Plain(every=1000, clock=lambda: 1.0).progress(1, 9, 0.0, {})
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_json_is_an_object_a_line(capsys):
    watcher = Json()
    watcher.notify('Grüße\nfrom "a"')
    watcher.progress(1, 9, 1.23456, {})
    watcher.progress(2, 9, 1.23456, LOSSES)
    watcher.progress(3, 9, 1.23456, LOSSES)  # nothing new was reported
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line) for line in lines] == [
        {"say": 'Grüße\nfrom "a"'},
        {"images": 2, "total": 9, "images_per_s": 1.235, "losses": LOSSES},
    ]


def frames(width, rate=1.2345, losses=LOSSES, total=266800, done=123456, notify=""):
    """What a terminal of that width is sent, without its control codes: messages and states of the bar."""
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=width, color_system=None, legacy_windows=False)
    with Bar(console) as bar:
        if notify:
            bar.notify(notify)
        bar.progress(done, total, rate, losses)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    return [line for line in re.split(r"[\r\n]+", plain) if line.strip()]


@pytest.mark.parametrize("width", [80, 100, 160])
def test_the_bar_is_one_line_that_says_it_all(width):
    (line,) = set(frames(width))
    assert len(line) <= width
    assert line.startswith("46.3% ━")
    assert line.rstrip().endswith(f"1.2 images/s 32:15:15 left {SHORT}")


def test_a_narrow_terminal_cuts_the_losses_first():
    (line,) = set(frames(50))
    assert len(line) <= 50
    assert "46.3%" in line and "1.2 images/s 32:15:15" in line


def test_messages_above_the_bar_are_not_broken():
    command = "resume:     twofold train --resume " + "a-long-folder-name/" * 8
    assert frames(80, notify=command)[0] == command


def test_a_hostile_name_cannot_steer_the_terminal(capsys):
    name = "x\x1b[2J\x07\u202e.png"
    assert "\x1b[2J" not in "".join(frames(80, notify=name))
    Plain().notify(name)
    terminal.complain(f"skipped {name}:\n not an image")
    out, err = capsys.readouterr()
    assert out == "x�[2J��.png\n"
    assert err == "twofold: skipped x�[2J��.png: not an image\n"


def test_the_watcher_fits_where_the_output_goes(monkeypatch):
    def kind(as_json):
        with terminal.watcher(as_json) as watcher:
            return type(watcher)

    assert (kind(True), kind(False)) == (Json, Plain)
    monkeypatch.setattr(Console, "is_terminal", True)
    assert (kind(True), kind(False)) == (Json, Bar)


@pytest.mark.parametrize(
    ("rate", "words"),
    [(0.0, "0.0 images/s"), (0.25, "4.0 s/image"), (1, "1.0 images/s"), (123.4, "123.4 images/s")],
)
def test_speed(rate, words):
    assert terminal.speed(rate) == words


@pytest.mark.parametrize(
    ("images", "rate", "words"),
    [(0, 0.0, "-:--"), (100, 1.0, "0:00"), (40, 1.0, "1:00"), (99, 0.01, "1:40"), (0, 0.01, "2:46:40")],
)
def test_time_left(images, rate, words):
    assert terminal.time_left(images, 100, rate) == words


def clock(step):
    """A clock that goes on by so many seconds whenever it is read."""
    return itertools.count(0.0, step).__next__


def test_a_long_pass_off_a_terminal_is_a_line_every_ten_seconds():
    lines = []
    items = terminal.with_lines(iter(range(25)), 1200, "reading /a", lines.append, clock(1.0))
    assert list(items) == list(range(25))
    assert lines == ["reading /a: 10 of 1,200, 19:50 left", "reading /a: 20 of 1,200, 19:40 left"]
    assert list(terminal.with_lines(iter("abc"), None, "reading", lines.append, clock(6.0))) == [*"abc"]
    assert lines[2:] == ["reading: 2"]
    assert list(terminal.with_lines(iter(range(12)), 100, "rows", lines.append, clock(1.0), 88)) == [
        *range(12)
    ]
    assert lines[3:] == ["rows: 98 of 100, 0:02 left"]


def test_a_short_pass_shows_nothing(capsys):
    for watcher in (Plain(), Json()):
        assert list(watcher.track(iter(range(5)), 5, "reading")) == list(range(5))
    assert list(terminal.tracked(iter(range(5)), 5, "reading")) == list(range(5))
    assert bar_of(5, terminal.SOON) == ""
    assert capsys.readouterr() == ("", "")


def bar_of(count, soon):
    """What a terminal is sent for a pass over so many items."""
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=80, color_system=None, legacy_windows=False)
    with pytest.MonkeyPatch.context() as patch, Bar(console) as bar:
        patch.setattr(terminal, "SOON", soon)
        assert list(bar.track(iter(range(count)), count, "reading /a\x1b[2J")) == list(range(count))
    return screen.getvalue()


def test_a_long_pass_on_a_terminal_is_a_bar():
    text = bar_of(5, 0.0)
    assert "reading /a�[2J" in text and "100%" in text
    assert "\x1b[2J" not in text


def test_lines_of_json_say_the_progress(capsys, monkeypatch):
    monkeypatch.setattr(terminal, "EVERY", 0.0)
    assert list(Json().track(iter("ab"), 2, "reading /a")) == ["a", "b"]
    assert json.loads(capsys.readouterr().out) == {"say": "reading /a: 1 of 2, 0:00 left"}
    assert list(terminal.tracked(iter("ab"), 2, "reading /a")) == ["a", "b"]
    assert capsys.readouterr() == ("", "twofold: reading /a: 1 of 2, 0:00 left\n")


def test_paragraphs_fit_and_keep_long_words_whole(monkeypatch):
    monkeypatch.setenv("COLUMNS", "30")
    text = terminal.paragraph("some words and /a/very/long/path/that-does-not/fit-in-here.png", "-  ", "   ")
    assert text.splitlines() == ["-  some words and", "   /a/very/long/path/that-does-not/fit-in-here.png"]
    text = terminal.paragraph("to run it, type `twofold translate 'my x.onnx' IMAGES -o OUT` here")
    assert text.splitlines() == ["to run it, type", "`twofold translate 'my x.onnx' IMAGES -o OUT`", "here"]
    assert terminal.paragraph("", "empty:  ") == "empty:"


def test_values_in_words():
    value = {"a": 1, "b": [1.0, 2.5], "c": {"d": None}, "e": "x"}
    assert terminal.in_words(value) == "a 1, b 1 2.5, c d none, e x"


def test_verbs_off_a_terminal_print_a_line_every_ten_seconds():
    times, lines = iter([0.0, 4.0, 11.0, 12.0, 20.5, 21.5, 60.0]), []
    images = terminal.with_lines(iter(range(6)), 6, "translating", lines.append, lambda: next(times))
    assert list(images) == list(range(6))
    assert lines == ["translating: 2 of 6, 0:22 left", "translating: 5 of 6, 0:04 left"]


def test_large_losses_are_short():
    assert (
        terminal.mean_losses({"gan_ab": 2.5e15, "cycle_a": 1.5, "cycle_b": 2.5}) == "gan 2.5e+15 cycle 2.00"
    )
