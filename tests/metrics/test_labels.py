"""Label maps, their palettes and their scores, each against a twin that counts pixel by pixel."""

import io
import math

import numpy as np
import pytest
from PIL import Image

from twofold.errors import UsageError
from twofold.formats.contract import Labels
from twofold.metrics.labels import (
    FLAT,
    classes_of,
    commonest_label,
    confusion,
    find_palette,
    is_label_map,
    label_score,
    labels_of,
    per_class,
)

PALETTE = np.array([[0, 0, 255], [0, 0, 170], [255, 85, 0], [170, 255, 85], [0, 255, 255]], np.uint8)


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def blocks(rng, height=48, width=40):
    """A label map of rectangles, in the colours of PALETTE, the first ones commoner."""
    image = np.tile(PALETTE[0], (height, width, 1))
    for _ in range(6):
        top, left = rng.integers(0, height - 8), rng.integers(0, width - 8)
        label = rng.choice(len(PALETTE), p=[0.1, 0.4, 0.2, 0.2, 0.1])
        image[top : top + rng.integers(4, 20), left : left + rng.integers(4, 20)] = PALETTE[label]
    return image


def jpeg(image):
    stored = io.BytesIO()
    Image.fromarray(image).save(stored, "JPEG", quality=80)
    return np.array(Image.open(stored))


def test_the_palette_is_every_colour_commonest_first(rng):
    truths = [blocks(rng) for _ in range(4)]
    colours, counts = np.unique(
        np.concatenate([t.reshape(-1, 3) for t in truths]), axis=0, return_counts=True
    )
    found = find_palette(truths)
    assert {tuple(c) for c in found} == {tuple(c) for c in colours}
    sizes = {tuple(c): n for c, n in zip(colours, counts, strict=True)}
    assert [sizes[tuple(c)] for c in found] == sorted(counts, reverse=True)


def test_the_palette_of_grey_levels_keeps_neighbours_apart():
    ramp = np.arange(19, dtype=np.uint8).repeat(4).reshape(4, 19, 1).repeat(3, 2)
    assert sorted(find_palette([ramp])[:, 0].tolist()) == list(range(19))


def test_the_palette_survives_jpeg(rng):
    truths = [blocks(rng, 96, 96).repeat(2, 0).repeat(2, 1) for _ in range(6)]
    exact, found = find_palette(truths), find_palette(jpeg(truth) for truth in truths)
    same = [np.abs(found.astype(int) - colour).max(1).argmin() for colour in exact.astype(int)]
    assert len(found) == len(exact)
    assert np.abs(found[same].astype(int) - exact).max() <= FLAT
    for truth in truths:
        assert (labels_of(truth, exact) == labels_of(jpeg(truth), found[same])).mean() > 0.95


def test_photographs_have_no_palette(rng):
    with pytest.raises(UsageError, match="not label maps"):
        find_palette([rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)])


def test_each_pixel_gets_the_nearest_colour(rng):
    image = rng.integers(0, 256, (13, 9, 3), dtype=np.uint8)
    found = labels_of(image, PALETTE)
    for y in range(13):
        for x in range(9):
            far = [sum((int(p) - int(q)) ** 2 for p, q in zip(image[y, x], c, strict=True)) for c in PALETTE]
            assert found[y, x] == far.index(min(far))


def test_the_first_of_equally_near_colours_wins():
    palette = np.array([[10, 0, 0], [20, 0, 0]], np.uint8)
    assert labels_of(np.array([[[15, 0, 0], [16, 0, 0]]], np.uint8), palette).tolist() == [[0, 1]]


def by_hand(truth, found, classes):
    """(pixel accuracy, mean class accuracy, mean IoU), by sets of pixels."""
    places = {(y, x) for y in range(truth.shape[0]) for x in range(truth.shape[1]) if truth[y, x] < classes}
    true = [{p for p in places if truth[p] == c} for c in range(classes)]
    made = [{p for p in places if found[p] == c} for c in range(classes)]
    right = sum(len(t & m) for t, m in zip(true, made, strict=True)) / len(places)
    accuracy = [len(t & m) / len(t) for t, m in zip(true, made, strict=True) if t]
    iou = [len(t & m) / len(t | m) for t, m in zip(true, made, strict=True) if t | m]
    return right, sum(accuracy) / len(accuracy), sum(iou) / len(iou)


def test_scores_equal_counting_by_hand(rng):
    for classes in (2, 5, 9):
        truth = rng.integers(0, classes - 1, (12, 17))  # the last class is never true
        found = np.where(rng.random(truth.shape) < 0.6, truth, rng.integers(0, classes, truth.shape))
        assert label_score(confusion(truth, found, classes)) == pytest.approx(by_hand(truth, found, classes))


def test_class_by_class(rng):
    matrix = np.array([[6, 2, 0], [1, 3, 0], [0, 0, 0]])
    accuracy, iou = per_class(matrix)
    assert (*accuracy[:2], *iou[:2]) == pytest.approx((6 / 8, 3 / 4, 6 / 9, 3 / 6))
    assert math.isnan(accuracy[2]) and math.isnan(iou[2])
    assert label_score(matrix) == pytest.approx((9 / 12, (6 / 8 + 3 / 4) / 2, (6 / 9 + 3 / 6) / 2))


def test_the_floor_is_the_commonest_label_everywhere(rng):
    truths = [blocks(rng) for _ in range(3)]
    palette = find_palette(truths)

    def matrices(outputs):
        labelled = [[labels_of(image, palette) for image in pictures] for pictures in (truths, outputs)]
        return np.stack([confusion(*pair, len(palette)) for pair in zip(*labelled, strict=True)])

    constant = [np.tile(palette[0], (*truth.shape[:2], 1)) for truth in truths]
    assert np.array_equal(commonest_label(matrices(truths)), matrices(constant))
    assert label_score(matrices(truths).sum(0)) == (1, 1, 1)


def test_a_label_map_has_few_colours_in_flat_parts(rng):
    assert is_label_map(blocks(rng))
    assert not is_label_map(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8))
    assert not is_label_map(rng.choice(PALETTE, (48, 40)))  # few colours, but no flat parts
    assert not is_label_map(np.full((8, 8, 3), 7, np.uint8))


def test_the_classes_of_a_model_and_ids_that_are_none_of_them(rng):
    known = Labels(((0,), (3,), (700,)))
    truth = rng.choice([0, 3, 4, 700, 65535], (12, 17)).astype(np.uint16)
    found = rng.choice([0, 3, 700], truth.shape).astype(np.uint16)
    classes = classes_of(truth[..., None], known)
    numbers = {0: 0, 3: 1, 700: 2, 4: -1, 65535: -1}
    assert classes.tolist() == [[numbers[int(value)] for value in row] for row in truth]
    assert known.unknown_ids(truth[..., None]) == [4, 65535]
    counts = np.zeros((3, 3), int)
    for y in range(12):
        for x in range(17):
            if truth[y, x] in (0, 3, 700):
                counts[numbers[int(truth[y, x])], numbers[int(found[y, x])]] += 1
    assert np.array_equal(confusion(classes, classes_of(found[..., None], known), 3), counts)


def test_the_classes_of_a_model_in_colours_are_the_nearest(rng):
    colours = sorted(map(tuple, PALETTE.tolist()))
    image = rng.integers(0, 256, (13, 9, 3), dtype=np.uint8)
    expected = labels_of(image, np.array(colours, np.uint8))
    assert np.array_equal(classes_of(image, Labels(tuple(colours))), expected)
    assert Labels(tuple(colours)).unknown_ids(image) == []
