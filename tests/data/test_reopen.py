"""The images of a resumed run: found where they were moved, recognised by content, and read once."""

import os
import shutil
from pathlib import Path

import pytest

from twofold.data import cache
from twofold.data.dataset import open_images
from twofold.data.manifest import Manifest
from twofold.data.reopen import Given, reopen
from twofold.formats import images


@pytest.fixture
def again(given):
    """Reopen a manifest as a later start does: its new form, the differences, and the printed lines."""

    def run(manifest, before, now):
        lines = []
        manifest = Manifest.from_json(manifest.to_json())
        return *reopen(manifest, before, now, lines.append), lines

    return run


@pytest.fixture
def read(monkeypatch):
    """The names of the files that are read from now on, for pixels or for hashes."""
    names = []
    read_bytes, hash_file = Path.read_bytes, cache.hash_file
    monkeypatch.setattr(Path, "read_bytes", lambda path: names.append(path) or read_bytes(path))
    monkeypatch.setattr(cache, "hash_file", lambda path: names.append(path) or hash_file(path))
    return names


def pixels(manifest, settings):
    stores = open_images(manifest, settings, pytest.fail)
    return [[store[i].tolist() for i in range(len(store))] for store in stores]


def moved(path, times=True):
    """Move a folder or list; without `times`, as a copy that is as old as now."""
    place = path.parent / "elsewhere" / path.name
    place.parent.mkdir(exist_ok=True)
    if times:
        return Path(shutil.move(path, place))
    copied = shutil.copytree(path, place, copy_function=shutil.copyfile)
    shutil.rmtree(path)
    return Path(copied)


@pytest.mark.parametrize("times", [True, False])
def test_moved_folders_are_read_once_and_keep_their_cache(fill, build, given, again, read, times):
    a, b = fill("A", 4), fill("B", 45)
    manifest, _ = build(a, b)
    before = given(manifest)
    expected = pixels(manifest, before.settings)
    now = before._replace(a=moved(a, times), b=moved(b, times))
    read.clear()
    found, differences, lines = again(manifest, before, now)
    assert differences == [] and lines == []
    assert sorted(read) == sorted([*images.find(now.a), *images.find(now.b)])
    assert (found.a.folder.path, found.b.folder.path) == (now.a, now.b)
    assert found.b.drawn == manifest.b.drawn and len(found.b.drawn) == 8
    assert pixels(found, now.settings) == expected
    assert len(list(now.settings.cache_dir.glob("*.pixels"))) == 2  # those of before
    read.clear()
    later, differences, _ = again(found, now, now)
    assert differences == [] and read == [] and later == found


def test_a_cache_that_is_missing_is_built_in_the_same_pass(fill, build, given, again, read):
    a, b = fill("A", 4), fill("B", 3)
    manifest, _ = build(a, b)
    before = given(manifest)
    expected = pixels(manifest, before.settings)
    shutil.rmtree(before.settings.cache_dir)
    now = before._replace(a=moved(a), b=moved(b))
    read.clear()
    found, differences, _ = again(manifest, before, now)
    assert differences == []
    assert sorted(read) == sorted([*images.find(now.a), *images.find(now.b)])
    assert pixels(found, now.settings) == expected
    (now.a / "1.png").write_bytes((now.a / "2.png").read_bytes())
    shutil.rmtree(before.settings.cache_dir)
    _, differences, _ = again(manifest, before, now)
    assert differences[0] == "A: 1.png was altered"


@pytest.mark.parametrize("cached", [True, False])
def test_other_content_of_the_same_size_is_named(fill, build, given, again, cached):
    a, b = fill("A", 4), fill("B", 3)
    manifest, _ = build(a, b, cache=cached)
    before = given(manifest, cache=cached)
    now = before._replace(b=moved(b))
    content = bytearray((now.b / "1.png").read_bytes())
    content[-1] ^= 1
    (now.b / "1.png").write_bytes(content)
    assert again(manifest, before, now)[1] == ["B: 1.png was altered"]
    (now.b / "2.png").unlink()
    assert again(manifest, before, now)[1] == ["B: 2.png was removed"]
    assert "does not exist" in again(manifest, before, before)[1][0]
    (now.b / "0.png").rename(now.b / "2.png")
    assert again(manifest, before, now)[1] == ["B: 0.png was removed"]


def test_a_restored_file_replaces_the_cache_of_other_content(fill, build, given, again):
    a, b = fill("A", 3), fill("B", 2)
    manifest, _ = build(a, b, cache=False)
    named = given(manifest)
    good = (a / "1.png").read_bytes()
    times = (a / "1.png").stat().st_mtime_ns
    for content, expected in ((good[:-1] + b"x", ["A: 1.png was altered"]), (good, [])):
        (a / "1.png").write_bytes(content)
        os.utime(a / "1.png", ns=(times, times))
        assert again(manifest, named, named)[1] == expected


def test_by_size_no_file_is_read(fill, build, given, again, read):
    a, b = fill("A", 4), fill("B", 3)
    manifest, _ = build(a, b)
    before = given(manifest, verify="size")
    now = before._replace(a=moved(a, times=False))
    content = (now.a / "1.png").read_bytes()
    (now.a / "1.png").write_bytes(content[:-1] + b"x")
    read.clear()
    found, differences, _ = again(manifest, before, now)
    assert differences == [] and read == [] and found.a.folder.path == now.a
    (now.a / "1.png").write_bytes(content[:-1])
    assert again(manifest, before, now)[1] == ["A: 1.png was altered"]
    (now.a / "1.png").write_bytes(content[:-1] + b"x")
    assert again(found, now, given(found))[1] == ["A: 1.png was altered"]  # by its hash


def test_touched_files_are_read_once(fill, build, given, again, read):
    a, b = fill("A", 4), fill("B", 3)
    manifest, _ = build(a, b)
    named = given(manifest)
    os.utime(a / "2.png", (1, 1))
    read.clear()
    found, differences, _ = again(manifest, named, named)
    assert differences == [] and read == [a / "2.png"]
    assert again(found, named, named)[1] == [] and read == [a / "2.png"]


def test_a_moved_root_and_its_held_out_folders(fill, build, given, again, tmp_path):
    for name, count in (("trainA", 3), ("trainB", 4), ("valA", 2), ("valB", 2)):
        fill(f"root/{name}".replace("/", "-"), count)
    root = tmp_path / "root"
    root.mkdir()
    for name in ("trainA", "trainB", "valA", "valB"):
        (tmp_path / f"root-{name}").rename(root / name)
    vals = {"val_a": root / "valA", "val_b": root / "valB"}
    manifest, _ = build(root / "trainA", root / "trainB", **vals)
    before = given(manifest)
    new = moved(root)
    settings = before.settings.model_copy(update={"val_a": new / "valA", "val_b": new / "valB"})
    named = Given(new / "trainA", new / "trainB", settings)
    as_root = Given(root, None, settings.model_copy(update={"val_a": None, "val_b": None}))
    for then, now in ((before, named), (as_root, as_root._replace(a=new))):
        found, differences, _ = again(manifest, then, now)
        assert differences == []
        places = [folder.path.relative_to(new).as_posix() for _, folder, _ in found.folders]
        assert places == ["trainA", "valA", "trainB", "valB"]


@pytest.mark.parametrize("direction", ["ab", "ba"])
def test_moved_pairs_of_one_folder_and_moved_masks(fill, build, given, again, tmp_path, direction):
    folder, masks = fill("pairs", 3, size=(40, 16)), fill("masks", 3, channels=1)
    manifest, _ = build(folder, None, masks_a=masks, direction=direction, paired=True)
    before = given(manifest, direction=direction)
    new, new_masks = moved(folder), moved(masks)
    settings = before.settings.model_copy(update={"masks_a": new_masks})
    found, differences, _ = again(manifest, Given(folder, None, before.settings), Given(new, None, settings))
    assert differences == []
    assert [folder.path for _, folder, _ in found.folders] == [new, new_masks, new]
    assert found.a.folder.part == ("left" if direction == "ab" else "right")


@pytest.mark.parametrize("direction", ["ab", "ba"])
def test_two_folders_are_exchanged_as_at_the_first_start(fill, build, given, again, direction):
    a, b = fill("A", 3), fill("B", 4)
    manifest, _ = build(a, b, direction=direction)
    settings = given(manifest, direction=direction).settings
    new_b = moved(b)
    found, differences, _ = again(manifest, Given(a, b, settings), Given(a, new_b, settings))
    assert differences == []
    places = [found.a.folder.path, found.b.folder.path]
    assert places == ([a, new_b] if direction == "ab" else [new_b, a])


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("direction", ["ab", "ba"])
def test_a_moved_list_and_one_rewritten_for_moved_images(
    fill, build, given, again, tmp_path, absolute, direction
):
    root = tmp_path / "root"
    root.mkdir()
    for name in "AB":
        fill(name, 45).rename(root / name)

    def write(place):
        prefix = f"{place}/" if absolute else ""
        rows = [f"{prefix}A/{i}.png,{prefix}B/{44 - i}.png" for i in range(45)]
        (place / "list.csv").write_text("a,b\n" + "\n".join(rows))
        return place / "list.csv"

    then = write(root)
    manifest, _ = build(then, None, direction=direction, paired=True)
    settings = given(manifest, direction=direction).settings
    expected = pixels(manifest, settings)
    new = moved(root)
    now = write(new) if absolute else new / "list.csv"
    found, differences, _ = again(manifest, Given(then, None, settings), Given(now, None, settings))
    assert differences == [] and len(found.a.drawn) == 8
    assert pixels(found, settings) == expected
    rows = now.read_text().splitlines()
    now.write_text("\n".join([rows[0], rows[2], rows[1], *rows[3:]]))
    _, differences, _ = again(manifest, Given(then, None, settings), Given(now, None, settings))
    assert differences and all(line.endswith(".png was altered") for line in differences)
    now.unlink()
    _, differences, _ = again(manifest, Given(then, None, settings), Given(now, None, settings))
    assert differences == [f"{label}: {now}: No such file or directory" for label in "AB"]


def test_a_link_that_leads_elsewhere_now(fill, build, given, again, tmp_path):
    a, b = fill("A", 3), fill("B", 2)
    (tmp_path / "link").symlink_to(a)
    manifest, _ = build(tmp_path / "link", b)
    named = given(manifest)._replace(a=tmp_path / "link")
    new = moved(a)
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to(new)
    found, differences, _ = again(manifest, named, named)
    assert differences == [] and found.a.folder.path == new


def test_a_cache_that_may_only_be_read_serves_moved_images(fill, build, given, again, monkeypatch):
    a, b = fill("A", 3), fill("B", 2)
    manifest, _ = build(a, b)
    before = given(manifest)
    now = before._replace(a=moved(a))
    monkeypatch.setattr(cache, "lock", refuse)
    monkeypatch.setattr(os, "utime", refuse)
    found, differences, lines = again(manifest, before, now)
    assert differences == [] and lines == [] and found.caches[0].pixels is not None


def refuse(*_, **__):
    raise PermissionError(13, "Permission denied")
