"""A run whose images were moved goes on as if they were still there, to the bit; other images are refused."""

import json
import shlex
import shutil
import signal
from pathlib import Path

import pytest
import yaml

from twofold.runs import Run


@pytest.fixture
def own(lab, tmp_path):
    """The folders of the lab's runs, to be moved."""
    return [Path(shutil.copytree(folder, tmp_path / "before" / folder.name)) for folder in (lab.a, lab.b)]


def on(folders, tokens):
    return ["train", *map(str, folders), *tokens[3:]]


def moved(folders, tmp_path):
    """The folders elsewhere: A moved, B copied."""
    there = tmp_path / "after"
    there.mkdir()
    a, b = folders
    places = [
        Path(shutil.move(a, there)),
        Path(shutil.copytree(b, there / b.name, copy_function=shutil.copy)),
    ]
    shutil.rmtree(b)
    return places


def test_a_killed_run_goes_on_with_moved_images(lab, finished, own, tmp_path):
    out = tmp_path / "run"
    ended = lab.run(on(own, lab.tokens(out)), ("after step", 5))
    assert ended.code == -signal.SIGKILL
    places = moved(own, tmp_path)
    config, data = Run(out).config.read_text(), Run(out).data.read_text()

    lost = lab.run(["train", "--resume", str(out)])
    assert lost.code == 2 and lost.output.count("\n") == 1
    assert f"`twofold train NEW_A NEW_B --resume {out}`" in lost.output

    again = lab.run(on(places, lab.tokens(out)))
    assert again.code == 2 and again.output.count("\n") == 1
    assert f"was started with a = {own[0]} and b = {own[1]}" in again.output
    command = again.output.split("`")[1]
    assert command == f"twofold train {places[0]} {places[1]} --resume {out}"

    content = (places[0] / "1.png").read_bytes()
    (places[0] / "1.png").write_bytes(content[:-1] + b"x")
    wrong = lab.run(shlex.split(command)[1:])
    assert wrong.code == 2 and wrong.output.count("\n") == 1
    assert f"these are not the images that {out} was started with: A: 1.png was altered;" in wrong.output
    assert (Run(out).config.read_text(), Run(out).data.read_text()) == (config, data)
    (places[0] / "1.png").write_bytes(content)

    ended = lab.run(shlex.split(command)[1:])
    assert ended.code == 0, ended.output
    mine, theirs = lab.outcome(out), lab.outcome(finished)
    document = json.loads(mine.pop("data.json"))
    theirs.pop("data.json")
    assert mine == theirs
    assert [document[side]["folder"] for side in "ab"] == [str(place) for place in places]
    assert [yaml.safe_load(Run(out).config.read_text())[side] for side in "ab"] == [str(p) for p in places]
    assert lab.run(["train", "--resume", str(out)]).code == 0
    assert lab.run(on(places, lab.tokens(out))).code == 0


@pytest.mark.parametrize("kill", [1, 2])
def test_a_kill_while_the_folders_are_recorded(lab, own, tmp_path, kill):
    out = tmp_path / "run"
    assert lab.run(on(own, lab.tokens(out, epochs=1, decay_epochs=0))).code == 0
    places = moved(own, tmp_path)
    tokens = ["train", *map(str, places), "--resume", str(out)]
    assert lab.run(tokens, ("before config", kill)).code == -signal.SIGKILL
    assert lab.run(tokens).code == 0
    assert lab.run(["train", "--resume", str(out)]).code == 0
    assert json.loads(Run(out).data.read_text())["a"]["folder"] == str(places[0])


def test_held_out_images_and_masks_are_moved_with_their_options(lab, many, own, tmp_path, command):
    val = [many(tmp_path / "before" / f"val{side}", 2) for side in "AB"]
    masks = shutil.copytree(own[0], tmp_path / "before" / "masks")
    out = tmp_path / "run"
    options = ["--val", *map(str, val), "--data.masks-a", str(masks), "--cyclegan.mask", "1"]
    tokens = on(own, lab.tokens(out, epochs=1, decay_epochs=0))
    assert command(*tokens, *options).code == 0
    after = Path(shutil.move(tmp_path / "before", tmp_path / "after"))
    options = ["--val", after / "valA", after / "valB", "--data.masks-a", after / "masks"]
    tokens = on([after / "A", after / "B"], tokens)
    ended = command(*tokens, *options)
    words = shlex.split(ended.output.split("`")[1])
    assert words[:7] == ["twofold", "train", *map(str, (after / "A", after / "B", "--val", *options[1:3]))]
    assert words[7:] == ["--data.masks-a", str(after / "masks"), "--resume", str(out)]
    planned = command(*words[1:], "--dry-run")
    assert planned.code == 0 and f"a: {after / 'A'}" in planned.output
    ended = command(*words[1:], "--decay-epochs", "1")
    assert ended.code == 0, ended.output
    data = json.loads(Run(out).data.read_text())
    assert data["a"]["masks"]["folder"] == str(after / "masks")
    assert [data[side]["val"]["folder"] for side in "ab"] == [str(after / "valA"), str(after / "valB")]


def test_by_size_alone(lab, own, tmp_path, command):
    out = tmp_path / "run"
    assert command(*on(own, lab.tokens(out, epochs=1, decay_epochs=0))).code == 0
    places = moved(own, tmp_path)
    content = (places[0] / "1.png").read_bytes()
    (places[0] / "1.png").write_bytes(content[:-1] + b"x")
    words = ["train", *places, "--resume", out, "--decay-epochs", "1"]
    assert "1.png was altered" in command(*words).output
    ended = command(*words, "--data.verify", "size")
    assert ended.code == 0, ended.output
    assert "verify: size" in Run(out).config.read_text()


def test_two_processes_go_on_with_moved_images(lab, own, tmp_path):
    out = tmp_path / "run"
    first = lab.run(on(own, lab.tokens(out, epochs=1, decay_epochs=0)), ranks=2)
    assert first.code == [0, 0], first.output
    places = moved(own, tmp_path)
    words = ["train", *map(str, places), "--resume", str(out), "--decay-epochs", "1"]
    ended = lab.run(words, ranks=2)
    assert ended.code == [0, 0], ended.output
    assert json.loads(Run(out).data.read_text())["b"]["folder"] == str(places[1])
