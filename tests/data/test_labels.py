"""The classes of a training set, and which sets look like label maps."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from twofold.data.labels import (
    find_classes,
    from_json,
    held_out_only,
    look_at,
    look_like_labels,
)
from twofold.data.manifest import Folder
from twofold.data.scan import palette_of
from twofold.errors import UsageError
from twofold.formats.contract import Labels
from twofold.formats.images import Facts

Y, X = np.mgrid[:96, :128]


def blocks(classes, seed=0, side=8, size=96):
    """Class numbers (size, size) in squares, each class somewhere."""
    rng = np.random.default_rng(seed)
    cells = rng.permutation(np.arange((size // side) ** 2) % classes).reshape(size // side, -1)
    return cells.repeat(side, 0).repeat(side, 1)


def photo(i=0, noise=12):
    waves = [np.sin(X / (19 + 2 * c) + i) * np.cos(Y / (17 + c) + i) for c in range(3)]
    grain = np.random.default_rng(i).normal(0, noise, (96, 128, 3))
    return (127 + 90 * np.stack(waves, 2) + grain).clip(0, 255).astype(np.uint8)


def jpeg(image, quality=80):
    file = io.BytesIO()
    Image.fromarray(image.squeeze()).save(file, "JPEG", quality=quality)
    return np.atleast_3d(np.array(Image.open(file)))


def look(make, count, suffix):
    """What each of some label maps holds: of make(0) as 0.png, and so on."""
    return {(name := f"{i}.{suffix}"): look_at(make(i), name) for i in range(count)}


# ---- the classes


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32"])
def test_ids_are_all_values_of_the_set_in_ascending_order(dtype):
    values = np.array([0, 3, 7, 100, 2])
    maps = {f"{i}.png": values[blocks(k, i)].astype(dtype)[..., None] for i, k in enumerate((3, 4, 5))}
    assert find_classes("B", {name: look_at(each, name) for name, each in maps.items()}) == (
        *((0,), (2,), (3,), (7,), (100,)),
    )


def test_colours_are_all_colours_of_the_set():
    palette = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [0, 0, 254]], np.uint8)
    seen = look(lambda i: palette[blocks(2 + 2 * i, i)], 2, "png")
    assert find_classes("B", seen) == ((0, 0, 254), (0, 0, 255), (0, 255, 0), (255, 0, 0))


@pytest.mark.parametrize("name", ["0.png", "0.jpg"])
@pytest.mark.parametrize("colours", [False, True])
def test_what_was_seen_counts_pixels_as_a_loop_does(name, colours):
    levels = (
        np.random.default_rng(0).choice([0, 3, 50], (9, 11), p=[0.7, 0.2, 0.1])[..., None].astype(np.uint8)
    )
    image = levels.repeat(3, 2) if colours else levels
    seen = look_at(image, name)
    counts = dict.fromkeys([0, 3, 50], 0)
    for y in range(9):
        for x in range(11):
            around = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
            inside = [p for p in around if 0 <= p[0] < 9 and 0 <= p[1] < 11]
            flat = all(abs(int(levels[p][0]) - int(levels[y, x, 0])) <= 6 for p in inside)
            counts[int(levels[y, x, 0])] += flat or name == "0.png"
    assert dict(zip((value[0] for value in seen.values), seen.counts, strict=True)) == counts
    assert (seen.distinct, seen.clear) == (3, sum(counts.values()))
    assert from_json(json.loads(json.dumps(seen))) == seen


def test_the_colours_of_jpeg_label_maps_are_those_that_stand_out():
    palette = np.array([[0, 0, 255], [0, 0, 170], [255, 85, 0], [170, 255, 85], [0, 255, 255]], np.uint8)
    seen = look(lambda i: jpeg(palette[blocks(5, i, 12)]), 6, "jpg")
    assert max(each.distinct for each in seen.values()) > 256
    found = np.array(find_classes("B", seen), int)
    nearest = np.abs(found[:, None] - palette.astype(int)).max(-1)
    assert len(found) == 5 and (nearest.min(1) <= 6).all() and len(set(nearest.argmin(1))) == 5


def test_black_and_white_masks_stored_as_jpeg_have_two_classes():
    seen = look(lambda i: jpeg(grey(blocks(2, i, 12) * 255)), 3, "JPG")
    assert max(each.distinct for each in seen.values()) > 2
    assert find_classes("A", seen) == ((0,), (255,))


def test_photographs_and_damaged_ids_are_no_label_maps():
    with pytest.raises(
        UsageError, match=r"^B: 3\.png has [\d,]+ different values, and no few of them stand out: not a"
    ):
        find_classes("B", look(lambda i: photo(i)[: 40 + 9 * i], 4, "png"))
    smooth = look(lambda i: jpeg(photo(i, noise=0)), 4, "jpg")
    with pytest.raises(UsageError, match="leave out --labels-a, or store the label maps as PNG"):
        find_classes("A", smooth)
    ids = look(lambda i: jpeg(grey(blocks(19, i))), 3, "jpg")
    with pytest.raises(UsageError, match="store the label maps as PNG"):
        find_classes("A", ids)


def test_numbers_of_instances_are_no_classes():
    seen = look(lambda i: (np.arange(200) + 200 * i).astype(np.uint16)[:, None, None], 3, "png")
    with pytest.raises(UsageError, match=r"B: 0\.png has 200 different values, all files together 600"):
        find_classes("B", seen)


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (np.zeros((4, 4, 1), np.float32), "float32 values are not classes"),
        (np.zeros((4, 4, 5), np.uint8), "5 channels are not classes"),
    ],
)
def test_what_cannot_be_label_maps_is_refused(pixels, words):
    with pytest.raises(UsageError, match=words):
        look_at(pixels, "0.npy")


def test_one_value_alone_is_refused():
    with pytest.raises(UsageError, match="B: all label maps hold one value alone, 9;"):
        find_classes("B", look(lambda _: np.full((4, 4, 1), 9, np.uint8), 2, "png"))


def test_a_palette_counts_if_all_files_have_it():
    voc = ((0, 0, 0), (128, 0, 0), (0, 128, 0))

    def found(*palettes):
        facts = {f"{i}.png": Facts(8, 8, 3, False, palette=palette) for i, palette in enumerate(palettes)}
        return palette_of([Folder(Path(), (), facts=facts)])

    assert found(voc, voc[:2], voc) == voc
    assert found(voc, ((0, 0, 0), (9, 9, 9))) == found(voc, ()) == found() == ()


def test_ids_of_held_out_files_alone_are_named():
    labels = Labels(((0,), (5,)))
    maps = {"x.png": [[0, 5]], "y.png": [[5, 255]]}
    seen = {name: look_at(np.array(rows, np.uint8)[..., None], name) for name, rows in maps.items()}
    assert held_out_only(seen, labels) == {"y.png": [255]}
    assert held_out_only(look(photo, 1, "png"), Labels(((0, 0, 0),))) == {}


# ---- what looks like label maps


def sets(make, count=6):
    return [make(i) for i in range(count)]


def grey(pixels):
    return pixels.astype(np.uint8)[..., None]


def quantised(image, colours):
    return np.array(Image.fromarray(image).quantize(colours).convert("RGB"))


@pytest.mark.parametrize("classes", [3, 5, 12, 34])
def test_label_maps_look_like_label_maps(classes):
    palette = np.random.default_rng(classes).integers(0, 256, (classes, 3)).astype(np.uint8)
    assert look_like_labels(sets(lambda i: grey(blocks(classes, i))))
    assert look_like_labels(sets(lambda i: grey(blocks(classes, i) * (255 // (classes - 1)))))
    assert look_like_labels(sets(lambda i: palette[blocks(classes, i)]))
    one_colour = np.zeros((8, 8, 1), np.uint8)
    assert look_like_labels([one_colour, *sets(lambda i: grey(blocks(classes, i)))])
    assert not look_like_labels([photo(), *sets(lambda i: palette[blocks(classes, i)])])


def test_ids_that_follow_each_other_look_like_label_maps():
    assert look_like_labels(sets(lambda i: grey((X // 16 + Y // 16 + i) % 19), 12))


@pytest.mark.parametrize(
    ("what", "make"),
    [
        ("photographs", photo),
        ("smooth pictures", lambda i: photo(i, noise=0)),
        (
            "dark fluorescence",
            lambda i: grey(np.random.default_rng(i).poisson(3 + 15 * np.exp(-((X - 60) ** 2) / 400))),
        ),
        ("one bit", lambda i: grey((np.sin(X / 5 + i) > 0) * 255)),
        ("dithered", lambda i: np.array(Image.fromarray(photo(i)).convert("1").convert("L"))[..., None]),
        ("16 grey levels", lambda i: photo(i)[..., :1] // 16 * 17),
        ("palette of 256", lambda i: quantised(photo(i), 256)),
        ("palette of 16", lambda i: quantised(photo(i), 16)),
        ("one colour", lambda i: np.full((8, 8, 3), i, np.uint8)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_noisy_pictures_of_few_colours_do_not(what, make):
    assert not look_like_labels(sets(make)), what
