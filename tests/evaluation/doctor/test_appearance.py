"""Each illness of the pictures made on purpose, and beside it the healthy case in which nothing may be said."""

import numpy as np
import pytest
import torch

from twofold.evaluation.doctor import appearance
from twofold.networks.layers import initialise
from twofold.networks.resnet import ResnetGenerator

WAY = "A→B"


def landscapes(seed, count=4, side=64):
    """Smooth pictures with some edges, no two alike: (N, side, side, 3) in [0, 1]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] / side
    pictures = np.empty((count, side, side, 3), np.float32)
    for picture in pictures:
        sky, ground = rng.uniform(0.1, 0.9, (2, 3))
        height = 0.5 + 0.2 * np.sin(rng.uniform(2, 6) * x + rng.uniform(0, 6))
        picture[:] = np.where((y > height)[..., None], ground * (0.4 + 0.6 * y[..., None]), sky)
        picture += rng.normal(0, 0.02, picture.shape)
    return pictures.clip(0, 1)


@pytest.fixture
def summers():
    return landscapes(1)


@pytest.fixture
def winters():
    """Of other places; brighter, and blue."""
    return frozen(landscapes(2))


def frozen(pictures):
    return (0.5 + 0.5 * pictures * np.array([0.7, 0.9, 1.0], np.float32)).astype(np.float32)


def test_a_healthy_translation_has_no_findings(summers, winters):
    translations = frozen(summers)
    earlier = [frozen(summers) + shift for shift in (0.02, -0.01, 0.01)]
    assert appearance.collapsed(summers, translations, winters, WAY) is None
    assert appearance.copied(summers, translations, winters, WAY) is None
    assert appearance.inverted(summers, translations, winters, WAY) is None
    assert appearance.colours_off(summers, translations, winters, earlier, WAY) is None
    assert appearance.checkerboard(summers, translations, WAY) is None


# ---- collapse


def test_one_picture_for_everything_is_a_collapse(summers, winters):
    rng = np.random.default_rng(0)
    same = (winters[:1] + rng.normal(0, 0.01, summers.shape)).astype(np.float32)
    found = appearance.collapsed(summers, same, winters, WAY)
    assert found is not None and (found.name, found.severity) == ("A→B collapsed", "trouble")
    assert appearance.collapsed(summers, np.full_like(summers, 0.5), None, WAY) is not None


def test_a_domain_whose_pictures_are_all_alike_is_none(summers):
    alike = (0.5 + 0.02 * landscapes(3)).astype(np.float32)
    assert appearance.collapsed(summers, (0.5 + 0.02 * summers).astype(np.float32), alike, WAY) is None
    assert appearance.collapsed(summers[:1], summers[:1], None, WAY) is None  # one picture cannot tell
    assert appearance.collapsed(summers[[0, 0]], summers[[0, 0]], None, WAY) is None  # nor two that are equal


# ---- copies


def test_a_translation_that_is_its_source(summers, winters):
    nearly = (0.9 * summers + 0.1 * frozen(summers)).astype(np.float32)
    for targets in (winters, None):
        found = appearance.copied(
            summers, nearly if targets is not None else summers + np.float32(0.004), targets, WAY
        )
        assert found is not None and found.name == "A→B copies" and "--cyclegan.identity" in found.advice


@pytest.mark.parametrize(
    ("method", "weights", "advice"),
    [
        ("cyclegan", {}, "--cyclegan.identity 0.1"),
        ("cyclegan", {"identity": None}, "--cyclegan.identity 0.1"),
        ("cyclegan", {"identity": 0.2}, "--cyclegan.identity 0.04"),
        ("cyclegan", {"identity": 0, "cycle_a": 2}, "--cyclegan.cycle-a 1 --cyclegan.cycle-b 5"),
        ("cut", {}, "--cut.nce 0.5"),
        ("fastcut", {}, "--cut.nce 5"),
        ("fastcut", {"nce": 2}, "--cut.nce 1"),
    ],
)
def test_the_advice_against_a_copy_is_less_than_the_run_has(summers, winters, method, weights, advice):
    found = appearance.copied(summers, summers, winters, WAY, method, weights)
    assert found is not None and f"`{advice}`" in found.advice


def test_domains_that_are_nearly_the_same_may_be_translated_by_little(summers):
    other = np.clip(landscapes(1) * np.float32(0.97), 0, 1)
    changed = np.clip(summers * np.float32(0.97), 0, 1)
    assert appearance.copied(summers, changed, other, WAY) is None


def test_least_change_of_colour_is_the_distance_of_sorted_pixels():
    rng = np.random.default_rng(4)
    x, y = rng.uniform(0, 1, (2, 1, 16, 16, 3)).astype(np.float32) ** np.array([1, 3]).reshape(2, 1, 1, 1, 1)
    exact = np.mean([np.abs(np.sort(x[..., c], None) - np.sort(y[..., c], None)).mean() for c in range(3)])
    assert appearance.colour_distance(x, y) == pytest.approx(exact, rel=0.02)


# ---- colours


def test_a_negative(summers):
    skies = np.clip(summers**2 + 0.02, 0, 1)  # of the same kind: dark, with bright parts
    found = appearance.inverted(skies, 1 - skies, np.roll(skies, 1, 2), WAY)
    assert found is not None and (found.name, found.severity) == ("A→B inverts", "trouble")
    assert "-1.00" in found.sentence
    assert appearance.inverted(skies, np.full_like(skies, 0.5), skies, WAY) is None  # flat: no correlation
    assert appearance.inverted(skies, 1 - skies, None, WAY) is None  # nothing to compare with


def test_a_negative_of_domains_whose_brightness_does_not_decide(summers, winters):
    found = appearance.inverted(summers, 1 - summers, winters, WAY)
    assert found is not None and found.severity == "watch"


def cells(seed, bright):
    """Discs on an even background: stained ones on a bright field, or fluorescent ones on a dark one."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:64, :64]
    pictures = np.full((4, 64, 64, 3), 0.9, np.float32)
    for picture in pictures:
        for cy, cx, radius in rng.uniform((0, 0, 4), (64, 64, 9), (8, 3)):
            picture[(y - cy) ** 2 + (x - cx) ** 2 < radius**2] = 0.3
    return pictures if bright else 1 - pictures


def test_a_negative_that_is_right():
    """From a bright field to fluorescence and back, the background must change between light and dark."""
    for bright in (True, False):
        sources, targets = cells(1, bright), cells(2, not bright)
        assert appearance.inverted(sources, 1 - sources, targets, WAY) is None
        wrong = appearance.inverted(sources, 1 - sources, cells(2, bright), WAY)
        assert wrong is not None and wrong.severity == "trouble"


def test_colours_that_wander_off(summers, winters):
    orange = np.clip(summers * np.array([1.2, 0.5, 0.0], np.float32), 0, 1)
    found = appearance.colours_off(summers, orange, winters, [], WAY)
    assert found is not None and found.name == "A→B colours off"


def test_colours_that_swing(summers):
    grids = [summers + np.float32(shift) for shift in (0.2, -0.2, 0.2)]
    found = appearance.colours_off(summers, summers, None, grids, WAY)
    assert found is not None and found.name == "A→B colours swing"
    assert appearance.colours_off(summers, summers, None, grids[:1], WAY) is None  # two grids: one step


# ---- checkerboards


@pytest.mark.parametrize("period", [2, 4])
@pytest.mark.parametrize("where", ["rows", "columns", "both"])
def test_a_checkerboard(summers, period, where):
    side = summers.shape[1]
    wave = np.cos(2 * np.pi * np.arange(side) / period)
    grid = {"rows": wave[:, None], "columns": wave[None], "both": wave[:, None] * wave}[where]
    found = appearance.checkerboard(summers, (summers + 0.02 * grid[..., None]).astype(np.float32), WAY)
    assert found is not None and f"checkerboard of {period} px" in found.sentence
    assert "--generator.upsample resize" in found.advice


def test_a_checkerboard_spread_over_many_frequencies(summers):
    """Dots, each of whose waves alone would be too faint to see; as a CycleGAN at 128 px laid them over skies."""
    dots = np.zeros(summers.shape[1:3])
    dots[::4, ::4] = 0.02
    found = appearance.checkerboard(summers, (summers + dots[..., None]).astype(np.float32), WAY)
    assert found is not None and "of 4 px" in found.sentence
    fainter = (summers + 0.4 * dots[..., None]).astype(np.float32)
    assert appearance.checkerboard(summers, fainter, WAY) is None


def test_transposed_convolutions_leave_one_and_repeated_pixels_do_not(summers):
    images = torch.from_numpy(summers.transpose(0, 3, 1, 2).copy()) * 2 - 1
    found = {}
    for upsample in ("transposed", "resize"):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network = ResnetGenerator(3, 3, width=8, blocks=1, upsample=upsample)
            initialise(network, "normal", 0.1)
        with torch.inference_mode():
            translated = (network(images).permute(0, 2, 3, 1).numpy() + 1) / 2
        found[upsample] = appearance.checkerboard(summers, translated, WAY)
    assert found["transposed"] is not None
    assert found["resize"] is None


def test_a_texture_that_the_source_has_as_well_is_none(summers):
    side = summers.shape[1]
    blinds = (summers + 0.05 * np.cos(np.pi * np.arange(side))[None, :, None, None]).astype(np.float32)
    assert appearance.checkerboard(blinds, frozen(blinds), WAY) is None
    small = summers[:, :16, :16]
    assert appearance.checkerboard(small, small, WAY) is None


@pytest.mark.parametrize("seed", range(10, 20))
def test_pictures_of_other_places_have_no_checkerboard(seed):
    assert appearance.checkerboard(landscapes(seed), frozen(landscapes(seed + 100)), WAY) is None


# ---- cycles and discriminators


def test_a_cycle_that_reads_a_hidden_signal():
    found = appearance.hidden_signal(5.1, {"faint noise": (15.3, 1.5), "JPEG 90": (22.9, 2.6)}, "A→B→A")
    assert (
        found is not None
        and "after JPEG 90" in found.sentence
        and "22.9 levels in place of 5.1" in found.sentence
    )


@pytest.mark.parametrize(
    "damaged",
    [
        {"faint noise": (8.2, 1.5), "JPEG 90": (8.4, 2.4)},  # the demo
        {"faint noise": (10.4, 1.5)},  # more by as much again as the damage itself
        {},
    ],
)
def test_a_cycle_that_reads_the_picture(damaged):
    assert appearance.hidden_signal(7.8, damaged, "A→B→A") is None
    assert appearance.hidden_signal(0.5, {"faint noise": (2.0, 1.5)}, "A→B→A") is None  # nearly a copy


def test_a_discriminator_that_memorised_its_images():
    rng = np.random.default_rng(0)
    train, held_out, translated = (rng.normal(mean, 0.1, 16).tolist() for mean in (0.9, 0.2, 0.1))
    found = appearance.overfitted(train, held_out, translated, "B")
    assert found is not None and found.severity == "trouble" and "--adversarial.augment" in found.advice


@pytest.mark.parametrize(
    ("train", "held_out", "translated"),
    [(0.7, 0.65, 0.2), (0.2, 0.65, 0.7), (0.5, 0.5, 0.5), (0.55, 0.5, 0.46)],
)
def test_a_discriminator_that_judges_unseen_images_alike(train, held_out, translated):
    rng = np.random.default_rng(1)
    scores = [rng.normal(mean, 0.15, 16).tolist() for mean in (train, held_out, translated)]
    assert appearance.overfitted(*scores, "B") is None
    assert appearance.overfitted([0.9], [0.1], [0.1], "B") is None  # too few to say
