"""Each problem of the images made on purpose, and beside it the healthy case in which nothing may be said."""

import pytest

from twofold.evaluation.doctor import inputs


def test_domains_that_share_images():
    found = inputs.mixed_domains([f"a{i}" for i in range(50)], ["a1", "a2", *(f"b{i}" for i in range(40))])
    assert found is not None and found.severity == "trouble"
    assert found.sentence.startswith("2 images of A are in B as well") and "data check" in found.advice
    found = inputs.mixed_domains([f"a{i}" for i in range(500)], ["a1", *(f"b{i}" for i in range(400))])
    assert found is not None and found.severity == "watch" and "1 image of A is in B" in found.sentence


def test_domains_that_do_not():
    assert inputs.mixed_domains(["a", "b", "b"], ["c", "d", "d"]) is None
    assert inputs.mixed_domains([], []) is None


def test_held_out_images_that_are_trained_on():
    found = inputs.leaked_images(["x", "y"], ["y", "z"], "B")
    assert found is not None and "1 held-out image of B is also trained on" in found.sentence
    assert inputs.leaked_images(["x", "y"], ["z"], "B") is None


# ---- too few images


@pytest.mark.parametrize(
    ("images", "values", "weights", "found"),
    [
        (20, 32 * 32 * 3, 2_764_737, True),  # the default discriminator
        (1, 100, 101, True),
        (480, 64 * 64 * 3, 400_000, False),  # the demo
        (1067, 256 * 256 * 3, 2_764_737, False),  # horse2zebra
        (400, 256 * 256 * 6, 2_767_809, False),  # facades, in pairs
        (20, 32 * 32 * 3, 0, False),  # no discriminator, or no state yet
        (0, 32 * 32 * 3, 1000, False),
    ],
)
def test_images_that_are_too_few_for_the_discriminator(images, values, weights, found):
    finding = inputs.few_images(images, values, weights, "B")
    assert (finding is not None) == found
    if finding:
        assert (finding.name, finding.severity) == ("few images of B", "watch")
        assert (
            f"{weights:,} weights" in finding.sentence and f"{images * values:,} values" in finding.sentence
        )
        assert "--adversarial.augment colour,translation,cutout" in finding.advice


# ---- shapes and scales


def test_domains_that_are_squashed_differently():
    found = inputs.squashed([(512, 256)] * 9, [(256, 256)] * 9)
    assert found is not None and found.severity == "watch" and "--data.resize shortest" in found.advice
    assert "A are 2 times as wide as high and those of B 1 times" in found.sentence


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ([(512, 256)], [(1024, 512)]),  # equal shapes of two sizes
        ([(640, 480)] * 3, [(640, 427)] * 3),  # photographs of two cameras
        ([(512, 256)], [(256, 256), (512, 256), (512, 256)]),  # a few of another shape
        ([], [(256, 256)]),
    ],
)
def test_domains_that_are_squashed_alike(a, b):
    assert inputs.squashed(a, b) is None


def test_a_domain_that_is_enlarged():
    found = inputs.enlarged({"A": 4.0, "B": 0.5}, {"A": 71, "B": 572})
    assert found is not None and (found.name, found.severity) == ("A enlarged", "watch")
    assert "loaded at 4 times their size and those of B at 0.5 times" in found.sentence
    assert "`--size 64 --data.load-size 64`" in found.advice


@pytest.mark.parametrize("scales", [(1.12, 1.12), (4.0, 4.0), (1.4, 0.2), (2.0, 1.1)])
def test_domains_that_are_scaled_alike_or_reduced(scales):
    """Both are as blurred as each other, or neither is."""
    assert inputs.enlarged(dict(zip("AB", scales, strict=True)), {"A": 256, "B": 256}) is None


# ---- value ranges


def test_a_range_that_leaves_out_many_values():
    found = inputs.clipped(0.031, (87.0, 3912.0), "0…1,023 (as set)", "A")
    assert found is not None and (found.name, found.severity) == ("range of A clips", "watch")
    assert found.sentence.startswith("3.1% of the values of A are outside the range 0…1,023 (as set)")
    assert "`--data.range-a 87 3912`" in found.advice


@pytest.mark.parametrize("share", [0.0, 0.001])  # found ranges leave out 0.001
def test_a_range_that_leaves_out_few_values(share):
    assert inputs.clipped(share, (0.0, 1.0), "0…1", "B") is None
