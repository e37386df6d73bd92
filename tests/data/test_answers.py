"""Equal names are answers only where the user or the marker of a data set says so."""

import json
import shutil

import pytest

from twofold.data.answers import answered_by_name, equal_names
from twofold.data.marker import MARKER, have_answers, write_marker
from twofold.errors import UsageError
from twofold.seasons import dataset


@pytest.fixture
def held_out(fill, build):
    """A manifest with the held-out sets valA and valB of so many images: held_out(3, 3)."""

    def make(count_a, count_b, first=0):
        sets = {"val_a": fill("valA", count_a), "val_b": fill("valB", count_b, first=first)}
        return build(fill("A", 2), fill("B", 2), **sets)[0]

    return make


def test_the_marker_names_folders(tmp_path, monkeypatch):
    write_marker(tmp_path, [("valA", "valB")])
    assert json.loads((tmp_path / MARKER).read_text()) == {"answers_by_name": [["valA", "valB"]]}
    for name in ("valA", "valB", "testA", "testB"):
        (tmp_path / name).mkdir()
    assert have_answers(tmp_path / "valA", tmp_path / "valB") and have_answers(
        tmp_path / "valB", tmp_path / "valA"
    )
    assert not have_answers(tmp_path / "testA", tmp_path / "testB")
    assert not have_answers(tmp_path / "valA", tmp_path / "testB")
    monkeypatch.chdir(tmp_path / "valA")
    assert have_answers(tmp_path / "valA" / "." / "..", tmp_path) is False
    assert not have_answers(tmp_path / "valA", tmp_path.parent)
    for text in ("", "[]", '{"answers_by_name": 3}', '{"answers_by_name": [["valA"]]}', "\x00"):
        (tmp_path / MARKER).write_text(text)
        assert not have_answers(tmp_path / "valA", tmp_path / "valB")


def test_the_built_in_set_carries_it(tmp_path):
    dataset.make(tmp_path / "seasons", 1, 16, 0, lambda _: None)
    home = tmp_path / "elsewhere"
    shutil.move(tmp_path / "seasons", home)
    for split, answers in (("val", True), ("test", True), ("train", False)):
        assert have_answers(home / f"{split}A", home / f"{split}B") is answers


def test_held_out_sets(held_out, tmp_path):
    manifest = held_out(3, 3)
    assert equal_names(manifest)
    assert not answered_by_name(manifest, paired=False)
    assert answered_by_name(manifest, paired=True)
    write_marker(tmp_path, [("valA", "valB")])
    assert answered_by_name(manifest, paired=False)


def test_held_out_sets_of_other_names(held_out, tmp_path):
    manifest = held_out(3, 4, first=1)
    write_marker(tmp_path, [("valA", "valB")])
    assert not equal_names(manifest) and not answered_by_name(manifest, paired=False)
    with pytest.raises(
        UsageError, match=r"--paired needs equal names in .*valA and .*valB; only one of them has 0, 3, 4$"
    ):
        answered_by_name(manifest, paired=True)


def test_drawn_images_are_no_pairs(fill, build):
    manifest, _ = build(fill("A", 41), fill("B", 41))
    assert manifest.a.held_out and not equal_names(manifest)
    assert not answered_by_name(manifest, paired=False)
    with pytest.raises(UsageError, match=r"give --val A B; to train on pairs: --method pix2pix"):
        answered_by_name(manifest, paired=True)
