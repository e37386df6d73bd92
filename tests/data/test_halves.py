"""Pairs side by side and single photographs of several kinds are told apart, one by one and as sets."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from twofold.data.halves import Votes, is_pair, vote
from twofold.errors import UsageError
from twofold.formats import images
from twofold.seasons import landscape


def texture(rng, height, width, blur=2):
    """Noise with the falling spectrum of photographs, uint8 (height, width, 3)."""
    spectrum = np.fft.fft2(rng.normal(size=(height + 64, width + 64, 3)), axes=(0, 1))
    frequency = np.hypot(np.fft.fftfreq(height + 64)[:, None], np.fft.fftfreq(width + 64)[None])[..., None]
    spectrum *= np.exp(-4 * (frequency * blur) ** 2) / (frequency + 1e-3)
    found = np.fft.ifft2(spectrum, axes=(0, 1)).real[32:-32, 32:-32]
    return np.clip(127 + 50 * (found - found.mean()) / found.std(), 0, 255).astype(np.uint8)


def gradient(rng, height, width):
    slope = rng.normal(size=2)
    found = slope[0] * np.arange(width) / width + slope[1] * np.arange(height)[:, None] / height
    grey = (found - found.min()) / np.ptp(found) * 200 + rng.integers(40)
    return grey.astype(np.uint8)[..., None].repeat(3, 2)


def cells(rng, height, width, places, brightness):
    """Dim spots with the noise of few photons."""
    y, x = np.mgrid[:height, :width]
    found = np.full((height, width), 4.0)
    for row, column, size in places:
        found += brightness * np.exp(
            -((y - row * height) ** 2 + (x - column * width) ** 2) / (2 * (3 + 8 * size) ** 2)
        )
    return rng.poisson(found)[..., None].repeat(3, 2).clip(0, 255).astype(np.uint8)


def shapes(rng, height, width):
    """Edges of shapes in black on white, and the shapes with texture on white."""
    picture = Image.new("RGB", (width, height), "white")
    for _ in range(4):
        left, top = rng.integers(width // 6, width // 2), rng.integers(height // 6, height // 2)
        box = [
            left,
            top,
            left + rng.integers(width // 8, width // 3),
            top + rng.integers(height // 8, height // 3),
        ]
        ImageDraw.Draw(picture).ellipse(
            [int(v) for v in box], fill=tuple(int(v) for v in rng.integers(0, 200, 3))
        )
    plain = np.asarray(picture).astype(float)
    inside = plain.min(2, keepdims=True) < 250
    photo = np.where(inside, plain + (texture(rng, height, width, 1) - 127.0) / 2, 255)
    edges = np.asarray(picture.convert("L").filter(ImageFilter.FIND_EDGES)) > 20
    drawn = np.where(edges, 0, 255).astype(np.uint8)[..., None].repeat(3, 2)
    return drawn, photo.clip(0, 255).astype(np.uint8)


def regions(rng, height, width):
    """A map of flat colours, and a textured picture of the same regions."""
    classes = texture(rng, height, width, 6)[..., 0] // 50
    palette = rng.integers(0, 255, (2, 8, 3))
    photo = palette[1][classes] / 2 + texture(rng, height, width, 1) / 2
    return palette[0][classes].astype(np.uint8), photo.astype(np.uint8)


def waves(rng, height, width):
    """Regular waves with noise."""
    y, x = np.mgrid[:height, :width]
    phase = rng.integers(20)
    found = [np.sin(x / (9 + 2 * c) + phase) * np.cos(y / (7 + c) + phase) for c in range(3)]
    return (
        (127 + 90 * np.stack(found, 2) + rng.normal(0, 12, (height, width, 3))).clip(0, 255).astype(np.uint8)
    )


def beside(left, right):
    return np.concatenate([left, right], 1)


def scaled_jpeg(image, scale):
    """The image scaled and stored as JPEG, as data sets are prepared."""
    size = round(image.shape[1] * scale / 2) * 2, round(image.shape[0] * scale)
    stored = BytesIO()
    Image.fromarray(image).resize(size, Image.Resampling.BICUBIC).save(stored, "JPEG", quality=80)
    return np.asarray(Image.open(stored))


def two_stains(rng):
    one = texture(rng, 128, 128)
    return beside(one, (255 - 0.6 * one).astype(np.uint8))


def alike(rng):
    """Two pictures of nearly the same values."""
    one = texture(rng, 128, 128)
    return beside(one, (0.9 * one + rng.normal(0, 4, one.shape)).clip(0, 255).astype(np.uint8))


def smooth_pair(rng):
    one = gradient(rng, 128, 128)
    return beside(one, one // 2)


def dark_pair(rng):
    places = rng.random((12, 3))
    return beside(*(cells(rng, 128, 128, places, brightness) for brightness in (40, 25)))


PAIRS = {
    "two stains": two_stains,
    "scaled and compressed": lambda rng: scaled_jpeg(two_stains(rng), 0.7),
    "alike": alike,
    "smooth": smooth_pair,
    "dark": dark_pair,
    "dark, 16 bits": lambda rng: dark_pair(rng).astype(np.uint16) * 40,
    "edges and photo": lambda rng: beside(*shapes(rng, 128, 128)),
    "edges and photo, compressed": lambda rng: scaled_jpeg(beside(*shapes(rng, 256, 256)), 0.5),
    "label map and photo": lambda rng: beside(*regions(rng, 128, 128)),
    "summer and winter": lambda rng: beside(*landscape.draw(int(rng.integers(1000)), 64)),
    "upright": lambda rng: beside(*regions(rng, 160, 64)),
}
SINGLE = {
    "square": lambda rng: texture(rng, 128, 128),
    "wide": lambda rng: texture(rng, 128, 256),
    "wide and rough": lambda rng: texture(rng, 128, 256, 1),
    "wide and compressed": lambda rng: scaled_jpeg(texture(rng, 256, 512, 1), 0.5),
    "smooth": lambda rng: gradient(rng, 128, 256),
    "dark": lambda rng: cells(rng, 128, 256, rng.random((24, 3)), 40),
    "landscape": lambda rng: landscape.draw(int(rng.integers(1000)), 128)[0],
    "things on white": lambda rng: shapes(rng, 128, 256)[1],
    "drawings": lambda rng: shapes(rng, 128, 256)[0],
    "label maps": lambda rng: regions(rng, 128, 256)[0],
    "waves": lambda rng: waves(rng, 64, 64),
    "wide waves": lambda rng: waves(rng, 375, 1242),
    "long waves": lambda rng: waves(rng, 64, 1800),
    "odd": lambda rng: two_stains(rng)[:, :-1],
}


@pytest.mark.parametrize("kind", PAIRS)
def test_pairs_are_recognised(kind):
    found = [is_pair(PAIRS[kind](np.random.default_rng(seed))) for seed in range(8)]
    assert found.count(True) >= 7, found


@pytest.mark.parametrize("kind", SINGLE)
def test_single_images_are_recognised(kind):
    found = [is_pair(SINGLE[kind](np.random.default_rng(seed))) for seed in range(8)]
    assert found.count(False) >= 6, found


def test_images_that_show_nothing():
    rng = np.random.default_rng(0)
    for height, width, expected in ((64, 128, None), (64, 64, False), (10, 12, None), (9, 9, False)):
        assert is_pair(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)) is expected
        assert is_pair(np.full((height, width, 1), 7, np.uint8)) is expected


def test_large_images_and_values_that_are_no_numbers():
    rng = np.random.default_rng(0)
    large = texture(rng, 128, 128).repeat(12, 0).repeat(12, 1)
    assert is_pair(beside(large, 255 - large)) is True and is_pair(large) is False
    floats = two_stains(rng).astype(np.float32)
    floats[5, 7], floats[9, 20], floats[3, 127] = np.nan, np.inf, -np.inf
    assert is_pair(floats) is True
    for height, width in ((1, 4000), (16, 4000), (17, 16), (4000, 16), (1200, 64)):
        is_pair(rng.integers(0, 256, (height, width, 1), dtype=np.uint8))  # of any shape, without a warning


def test_a_set_is_judged_as_a_whole(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(30):
        images.write(two_stains(rng) if i // 2 % 2 else texture(rng, 128, 256), tmp_path / f"{i}.png")
    (tmp_path / "0.png").write_bytes(b"no image")
    names = [f"{i}.png" for i in range(30)]
    votes = vote(tmp_path, names)
    assert len(votes.pairs) + len(votes.photographs) == 11 and votes.twice_as_wide
    assert votes.are_pairs and not votes.are_photographs and not votes.are_surely_pairs
    votes = vote(tmp_path, [name for i, name in enumerate(names) if i // 2 % 2 == 0])
    assert votes.are_photographs and len(votes.photographs) == 11
    images.write(texture(rng, 100, 256), tmp_path / "0.png")
    assert not vote(tmp_path, names).twice_as_wide
    assert not Votes([], [], 0, twice_as_wide=False).are_photographs
    assert not Votes([], ["x.png"], 2, twice_as_wide=False).are_photographs
    assert Votes([], ["x.png", "y.png"], 3, twice_as_wide=False).are_photographs


def write(folder, kind, count=4):
    for i in range(count):
        images.write(kind(np.random.default_rng(i)), folder / f"{i}.png")
    return folder


@pytest.mark.parametrize("kind", ["square", "wide", "landscape", "odd"])
def test_photographs_are_not_cut_in_half_unless_requested(build, tmp_path, kind):
    folder = write(tmp_path / "photos", SINGLE[kind])
    with pytest.raises(UsageError) as caught:
        build(folder, None, paired=True)
    message = str(caught.value)
    assert message.startswith(
        f"the images in {folder} look like single photographs, not like pairs side by side (0.png"
    )
    assert "`twofold train A B`" in message and "`--pairs halves`" in message and "\n" not in message
    if kind != "odd":
        assert build(folder, None, paired=True, pairs="halves")[0].a.folder.part == "left"


def test_pairs_twice_as_wide_in_a_root_of_pairs_are_a_warning(build, tmp_path):
    for split in ("train", "val"):
        write(tmp_path / split, SINGLE["wide"])
    manifest, lines = build(tmp_path / "train", None, paired=True, val_a=tmp_path / "val")
    assert len(manifest.a.held_out) == 4 and lines[0].startswith("the halves of images in")
    write(tmp_path / "test", SINGLE["square"])
    with pytest.raises(UsageError, match="look like single photographs"):
        build(tmp_path / "test", None, paired=True)


def test_held_out_images_are_read_as_the_others_are(build, tmp_path):
    train, val = write(tmp_path / "x", PAIRS["two stains"]), write(tmp_path / "y", SINGLE["wide"])
    assert len(build(train, None, paired=True, val_a=val)[0].a.held_out) == 4
    for side in ("one", "other"):
        write(tmp_path / side, SINGLE["square"])
    with pytest.raises(UsageError, match=f"images in {val} look like single photographs"):
        build(tmp_path / "one", tmp_path / "other", paired=True, val_a=val)
