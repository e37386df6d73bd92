import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from twofold.data.build import draw_held_out
from twofold.data.dataset import open_images
from twofold.data.manifest import Manifest
from twofold.errors import TwofoldError, UsageError
from twofold.formats import images
from twofold.formats.contract import Contract


def names(entries):
    return [entry.name for entry in entries]


def test_two_folders(fill, build):
    manifest, lines = build(fill("A", 12), fill("B", 3))
    assert lines == []
    assert names(manifest.a.train) == [f"{i}.png" for i in range(12)]  # 2 before 10
    assert (manifest.a.held_out, manifest.a.channels, manifest.epoch) == ((), 3, 12)
    assert (manifest.a.train[0].width, manifest.a.train[0].height) == (20, 16)


def test_the_index_survives_json(fill, build):
    a = fill("A", 60)
    (a / "bad.png").write_text("x")
    manifest, _ = build(a, fill("B", 3))
    document = json.loads(manifest.to_json())
    assert document["format"] == 2 and document["geometry"]["resize"] == "resize-and-crop"
    assert document["a"]["contract"]["dtype"] == "uint8" and document["a"]["contract"]["high"] == [255.0]
    assert document["a"]["folder"] == str(a) and len(document["a"]["held_out"]) == 8
    assert set(document["a"]["files"][0]) >= {"name", "bytes", "mtime_ns", "hash"}
    assert Manifest.from_json(manifest.to_json()) == manifest
    with pytest.raises(TwofoldError, match="newer"):
        Manifest.from_json(json.dumps({**document, "format": 3}))
    for damaged in ("", "{}", "[]", manifest.to_json()[:-9]):
        with pytest.raises(TwofoldError, match="damaged"):
            Manifest.from_json(damaged)


@pytest.mark.parametrize("run", ["cyclegan", "pix2pix"])
def test_the_manifests_of_twofold_0_1_are_read_and_written_in_format_2(run):
    text = (Path(__file__).parents[1] / "old_runs" / run / "data.json").read_text()
    manifest = Manifest.from_json(text)
    old, new = json.loads(text), json.loads(manifest.to_json())
    assert (old.pop("format"), new.pop("format")) == (1, 2)
    for side in "ab":
        assert Contract.from_dict(new[side].pop("contract")) == Contract(channels=old[side].pop("channels"))
    assert json.loads(json.dumps(new)) == old and Manifest.from_json(manifest.to_json()) == manifest
    assert manifest.paired == (run == "pix2pix") and manifest.a.folder.part == (
        "left" if manifest.paired else "whole"
    )
    assert all(file.hash and not file.error for file in (*manifest.a.train, *manifest.b.train))


@pytest.mark.parametrize(
    ("count", "drawn"), [(39, 0), (40, 8), (160, 8), (200, 10), (2000, 100), (9000, 100)]
)
def test_how_many_are_held_out(count, drawn, fill, build):
    manifest, _ = build(fill("A", 1), fill("B", 1))
    files = [manifest.a.train[0]._replace(name=f"{i}") for i in range(count)]
    held_out = draw_held_out(files, 3, "a")
    assert len(held_out) == drawn
    assert held_out == draw_held_out(files, 3, "a")
    assert not drawn or held_out != draw_held_out(files, 4, "a") != draw_held_out(files, 4, "b")


def test_held_out_images_are_not_trained_on(fill, build, small):
    a, b = fill("A", 50), fill("B", 41)
    manifest, _ = build(a, b)
    for side, count in ((manifest.a, 50), (manifest.b, 41)):
        assert len(side.held_out) == 8
        assert sorted(names(side.train + side.held_out)) == sorted(f"{i}.png" for i in range(count))
    stores = open_images(manifest, small(), print)
    assert [len(store) for store in stores] == [42, 33, 8, 8]
    assert stores.held_out_a.paths == [a / name for name in names(manifest.a.held_out)]
    everything, _ = build(a, b, hold_out=False)
    assert (len(everything.a.train), everything.a.held_out) == (50, ())


def test_held_out_folders_of_their_own(fill, build, small):
    folders = {name: fill(name, count) for name, count in [("A", 50), ("B", 3), ("vA", 4), ("vB", 5)]}
    vals = {"val_a": folders["vA"], "val_b": folders["vB"]}
    manifest, _ = build(folders["A"], folders["B"], **vals)
    assert (len(manifest.a.train), len(manifest.a.held_out), len(manifest.b.held_out)) == (50, 4, 5)
    again = Manifest.from_json(manifest.to_json())
    assert again == manifest
    for each in (manifest, again):
        stores = open_images(each, small(**vals), print)
        assert [len(store) for store in stores] == [50, 3, 4, 5]
        assert stores.held_out_b.paths[0] == folders["vB"] / "0.png"
        assert stores.held_out_b[0].shape == (9, 9, 3)


def test_a_bad_file_in_twenty_is_skipped_and_named(fill, build):
    a = fill("A", 19)
    (a / "bad.jpg").write_text("no image")
    manifest, lines = build(a, fill("B", 1))
    assert len(manifest.a.train) == 19 and names(manifest.a.folder.skipped) == ["bad.jpg"]
    assert len(lines) == 1
    assert lines[0].startswith(
        f"A: 1 of 20 files in {a} cannot be read and are skipped: bad.jpg (not an image"
    )
    assert build(a, fill("B", 1))[1] == lines  # from the cache too


def test_more_bad_files_stop_with_a_list(fill, build):
    b = fill("B", 18)
    whole = (b / "0.png").read_bytes()
    (b / "cut.png").write_bytes(whole[:-40])
    (b / "text.png").write_text("no image")
    with pytest.raises(TwofoldError, match=r"B: only 18 of 20 files .*cut.png .*text.png") as caught:
        build(fill("A", 1), b)
    assert caught.value.exit_code == 1 and "\n" not in str(caught.value)


def test_folders_must_be_two(fill, build, tmp_path):
    a, b = fill("A", 2), fill("B", 2)
    (tmp_path / "link").symlink_to(a)
    for one, other in ((a, a), (a, tmp_path / "link"), (a, a / ".." / "A")):
        with pytest.raises(UsageError, match="given twice"):
            build(one, other)
    with pytest.raises(UsageError, match="lies inside"):
        build(tmp_path, b)
    with pytest.raises(UsageError, match="lies inside"):
        build(a, b, val_a=fill("A/val", 1), val_b=fill("C", 1))
    with pytest.raises(UsageError, match="does not exist"):
        build(a, tmp_path / "missing")


def test_duplicates_are_named(fill, build):
    a, b = fill("A", 3), fill("B", 3)
    (a / "copy.png").write_bytes((a / "1.png").read_bytes())
    (b / "9.png").write_bytes((a / "2.png").read_bytes())
    _, lines = build(a, b)
    assert lines[0].startswith("A: 1 image stored more than once") and "1.png = copy.png" in lines[0]
    assert lines[1].startswith("1 image of A also in B") and "2.png" in lines[1]


def test_mixed_depths_are_refused_and_alpha_and_animations_are_named(fill, build):
    a, b = fill("A", 1, channels=4), fill("B", 1)
    Image.fromarray(np.zeros((9, 9), np.uint16)).save(b / "deep.png")
    with pytest.raises(UsageError, match=r"B: .*type of their values \(uint16: deep\.png; uint8: 0\.png\)"):
        build(a, b)
    (b / "deep.png").unlink()
    frames = [Image.new("RGB", (9, 9), colour) for colour in ("red", "blue")]
    frames[0].save(b / "moving.webp", save_all=True, append_images=frames[1:], lossless=True)
    manifest, lines = build(a, b)
    assert manifest.a.channels == 3
    assert lines == [
        "A: 1 image with alpha: laid over white (data.channels_a 4 keeps alpha) (0.png)",
        "B: 1 image with several frames: only the first is used (moving.webp)",
    ]
    manifest, lines = build(a, b, channels_a=4)
    assert manifest.a.channels == 4 and len(lines) == 1


def test_channels_are_found_out(fill, build, small, tmp_path):
    grey, colour = fill("grey", 2, channels=1), fill("colour", 2)
    many = fill("many", 2, channels=6, suffix="npy")
    manifest, _ = build(grey, many)
    assert (manifest.a.channels, manifest.b.channels) == (1, 6)
    assert open_images(manifest, small(), print).b[0].shape == (9, 9, 6)
    fill("grey", 1, first=5)
    assert build(grey, colour)[0].a.channels == 3
    fill("many", 1, first=5)
    with pytest.raises(
        UsageError, match=r"B: .*differ in channels \(3 channels: 5\.png; 6 channels: 0\.npy, 1\.npy\)"
    ):
        build(grey, many)
    fill("many", 1, first=6, channels=5, suffix="npy")
    with pytest.raises(
        UsageError,
        match=r"differ in channels \(3 channels: 5\.png; 5 channels: 6\.npy; 6 channels: 0\.npy, 1\.npy\)",
    ):
        build(grey, many)


def test_images_smaller_than_the_crop(fill, build):
    a, b = fill("A", 2, size=(7, 40)), fill("B", 2)
    with pytest.raises(UsageError, match=r"A: 2 images smaller than the crop \(8\) \(0.png, 1.png: 7 x 40\)"):
        build(a, b, resize="crop")
    with pytest.raises(UsageError, match=r"A: 2 images smaller than the network's 16"):
        build(a, b, resize="none", multiple_of=16)
    for resize in ("resize-and-crop", "scale-width-and-crop"):
        assert len(build(a, b, resize=resize)[0].a.train) == 2


def test_changes_are_named(fill, build, changes):
    a, b = fill("A", 4), fill("B", 2)
    (b / "bad.png").write_text("no image")
    fill("B", 40, first=2)
    manifest, _ = build(a, b)
    assert changes(manifest) == []
    os.utime(a / "0.png", (1, 1))
    assert changes(manifest) == []  # the same content
    (a / "1.png").write_bytes((a / "1.png").read_bytes() + b"x")
    swapped = bytearray((a / "2.png").read_bytes())
    swapped[-1] ^= 1
    (a / "2.png").write_bytes(swapped)
    assert changes(manifest) == ["A: 1.png was altered"]  # by its size, before anything is read
    (a / "1.png").write_bytes((a / "1.png").read_bytes()[:-1])
    assert changes(manifest) == ["A: 2.png was altered"]
    (a / "3.png").unlink()
    fill("A", 1, first=9)
    (b / "bad.png").unlink()
    assert changes(manifest) == [
        "A: 9.png was added",
        "A: 3.png was removed",
        "B: bad.png was removed",
    ]
    for path in a.iterdir():
        path.unlink()
    assert "A: " in changes(manifest)[0] and "holds no images" in changes(manifest)[0]


def test_nothing_is_written_into_the_folders(fill, build):
    a, b = fill("A", 3), fill("B", 2)
    build(a, b)
    assert sorted(path.name for path in a.iterdir()) == ["0.png", "1.png", "2.png"]
    assert len(images.find(b)) == 2
