"""Sets of label maps: from files to the classes in the manifest, and the pixels that training gets."""

import numpy as np
import pytest
import torch
from PIL import Image

from twofold.data.check import check
from twofold.data.dataset import open_images
from twofold.data.loader import Loader
from twofold.data.manifest import Manifest
from twofold.errors import UsageError

VOC = (0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0)
COLOURS = tuple(zip(VOC[::3], VOC[1::3], VOC[2::3], strict=True))


def classes(i, count=4, size=(20, 16)):
    """Class numbers in squares of 4 pixels; each class occurs."""
    cells = np.random.default_rng(i).permutation(np.arange(size[0] * size[1] // 16) % count)
    return cells.reshape(size[1] // 4, -1).repeat(4, 0).repeat(4, 1).astype(np.uint8)


def indexed(pixels, palette=VOC):
    picture = Image.new("P", pixels.shape[::-1])
    picture.putdata(pixels.ravel().tolist())
    picture.putpalette(palette)
    return picture


@pytest.fixture
def maps(tmp_path):
    """Write label maps: maps(lambda i: a PIL picture or an array, 5)."""

    def make(picture, count=5, name="maps", suffix="png"):
        folder = tmp_path / name
        folder.mkdir()
        for i in range(count):
            made = picture(i)
            if isinstance(made, np.ndarray) and suffix == "npy":
                np.save(folder / f"{i}.npy", made)
            else:
                (Image.fromarray(made) if isinstance(made, np.ndarray) else made).save(
                    folder / f"{i}.{suffix}"
                )
        return folder

    return make


def stored(manifest, settings):
    """The label maps of B as training reads them, (H, W, C)."""
    return [image.numpy() for image in map(open_images(manifest, settings, print).b.__getitem__, range(5))]


@pytest.mark.parametrize("cache", [True, False])
def test_a_palette_keeps_its_indices_and_a_transparent_one_too(fill, build, small, maps, cache):
    def transparent(i):
        picture = indexed(classes(i))
        picture.info["transparency"] = 0
        return picture

    folder = maps(transparent)
    manifest, lines = build(fill("A", 5), folder, labels_b=True, resize="crop", cache=cache)
    contract = manifest.b.contract
    assert (contract.dtype, contract.channels, contract.low, contract.high) == ("uint8", 1, (0.0,), (3.0,))
    assert contract.labels.values == ((0,), (1,), (2,), (3,)) and contract.labels.palette[:4] == COLOURS
    assert "B: uint8, label maps of 4 classes: 0, 1, 2, 3" in lines and not any("alpha" in x for x in lines)
    assert Manifest.from_json(manifest.to_json()).b.contract == contract
    settings = small(labels_b=True, resize="crop", cache=cache)
    for i, image in enumerate(stored(manifest, settings)):
        assert np.array_equal(image[..., 0], classes(i))
    assert (
        build(tmp := manifest.a.folder.path, folder, labels_b=True, resize="crop", cache=cache)[0] == manifest
    ), tmp


def test_palettes_that_differ_mean_colours(fill, build, maps):
    def own_order(i):
        turned = (classes(i) + i) % 4
        return indexed(turned, np.roll(np.array(COLOURS), i, axis=0).ravel().tolist())

    manifest, _ = build(fill("A", 5), maps(own_order), labels_b=True)
    assert manifest.b.contract.channels == 3 and manifest.b.contract.labels.palette == ()
    assert manifest.b.contract.labels.values == tuple(sorted(COLOURS))


@pytest.mark.parametrize(("dtype", "suffix"), [("uint16", "png"), ("int16", "npy"), ("int64", "npy")])
def test_deep_ids_keep_their_values(fill, build, small, maps, dtype, suffix):
    ids = np.array([3, 260, 700, 30000]).astype(dtype)
    folder = maps(lambda i: ids[classes(i)], suffix=suffix)
    manifest, _ = build(fill("A", 5), folder, labels_b=True, resize="crop")
    contract = manifest.b.contract
    assert contract.dtype == {"int64": "int32"}.get(dtype, dtype)
    assert contract.labels.ids == (3, 260, 700, 30000)
    for i, image in enumerate(stored(manifest, small(labels_b=True, resize="crop"))):
        assert np.array_equal(image[..., 0], ids[classes(i)])


def test_training_sees_known_classes_alone(fill, build, small, maps):
    folder = maps(lambda i: classes(i) * 9)
    for onehot in (False, True):
        settings = small(labels_b=True, onehot=onehot)
        manifest, _ = build(fill("A", 5), folder, labels_b=True, onehot=onehot)
        found = open_images(manifest, settings, print)
        with Loader(found.a, found.b, settings, 0, batch=3, device=torch.device("cpu")) as loader:
            b = next(loader).b
        assert b.shape == (3, 4 if onehot else 1, 8, 8)
        if onehot:
            assert ((b == 1).sum(1) == 1).all() and (b.abs() == 1).all()
        else:
            steps = (b + 1) * 1.5
            assert torch.allclose(steps, steps.round(), atol=1e-5) and (b.abs() <= 1).all()


def test_ids_that_are_held_out_alone_are_named(fill, build, maps):
    train = maps(lambda i: classes(i))
    val = maps(lambda i: classes(i) * (80 if i == 1 else 1), name="val")
    manifest, lines = build(fill("A", 5), train, labels_b=True, val_a=fill("val A", 5), val_b=val)
    assert manifest.b.contract.labels.ids == (0, 1, 2, 3)
    assert (
        "B: 1 image held out with ids that no training image has (1.png: 80, 160, 240); each counts as the nearest class"
    ) in lines


def test_what_is_no_label_map_stops_training_and_the_check_says_so(fill, build, small, maps):
    a, b = fill("A", 5), fill("B", 5)
    with pytest.raises(
        UsageError, match=r"^B: 0\.png has \d+ different values, and no few of them stand out"
    ):
        build(a, b, labels_b=True)
    checked = check(a, b, small(labels_b=True))
    assert not checked.ready and checked.problems[0][:3] == ("error", "labels", "B")
    floats = maps(lambda i: classes(i).astype(np.float32), suffix="npy")
    with pytest.raises(
        UsageError, match=r"B: 0\.npy holds float32 values of 1 channel, which are no classes"
    ):
        build(a, floats, labels_b=True)


def test_the_check_suggests_labels_and_training_is_silent(fill, build, small, maps):
    ids = np.array([0, 7, 3, 90], np.uint8)
    a, b = fill("A", 5), maps(lambda i: ids[classes(i)].repeat(3, 0).repeat(3, 1))
    advice = [problem for problem in check(a, b, small()).problems if problem.kind == "labels"]
    assert [(each.severity, each.domain) for each in advice] == [("advice", "B")]
    assert "train with --labels-b" in advice[0].text
    assert not any(problem.kind == "labels" for problem in check(a, b, small(labels_b=True)).problems)
    manifest, lines = build(a, b)
    assert not manifest.b.labels and manifest.b.contract.found == "dtype"
    assert not any("label" in line for line in lines)


def test_onehot_needs_labels(small):
    assert "onehot is for label maps" in next(small(onehot=True).contradictions())
    assert "lab images are no label maps" in next(small(lab=True, labels_b=True).contradictions())
