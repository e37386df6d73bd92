"""Label maps and their scores, each against a twin that counts pixel by pixel."""

import math

import numpy as np
import pytest

from twofold.formats.contract import Labels
from twofold.metrics.labels import (
    classes_of,
    commonest_label,
    confusion,
    label_score,
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
    known = Labels(tuple(sorted(map(tuple, PALETTE.tolist()))))

    def matrices(outputs):
        labelled = [[classes_of(image, known) for image in pictures] for pictures in (truths, outputs)]
        return np.stack([confusion(*pair, len(PALETTE)) for pair in zip(*labelled, strict=True)])

    counts = [sum((truth == colour).all(-1).sum() for truth in truths) for colour in PALETTE]
    constant = [np.tile(PALETTE[np.argmax(counts)], (*truth.shape[:2], 1)) for truth in truths]
    assert np.array_equal(commonest_label(matrices(truths)), matrices(constant))
    assert label_score(matrices(truths).sum(0)) == (1, 1, 1)


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
    distances = np.square(image[:, :, None].astype(int) - colours).sum(-1)
    assert np.array_equal(classes_of(image, Labels(tuple(colours))), distances.argmin(-1))
    assert Labels(tuple(colours)).unknown_ids(image) == []
