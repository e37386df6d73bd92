"""What is found out about images of other kinds than 8-bit pictures, and how they reach the networks."""

import json

import numpy as np
import pytest
import tifffile
import torch

from twofold.data import cache
from twofold.data.check import check, sentence
from twofold.data.dataset import open_images
from twofold.data.loader import Loader, load_plain_batch
from twofold.data.manifest import Manifest
from twofold.errors import UsageError
from twofold.formats import images
from twofold.formats.contract import Contract
from twofold.formats.values import to_network

HEIGHT, WIDTH = 20, 24


def draw(kind, i):
    """Image `i` of a kind, as it is stored."""
    rng = np.random.default_rng([i, *kind.encode()])
    x = np.mgrid[:HEIGHT, :WIDTH][1]
    match kind:
        case "twelve":
            return (
                (1500 + 1400 * np.sin(x / 5 + i) + rng.normal(0, 20, x.shape))
                .clip(87, 3912)
                .astype(np.uint16)[..., None]
            )
        case "ct":
            return (1500 * np.sin(x / 9 + i) + 400).clip(-1024, 3071).astype(np.int16)[..., None]
        case "float":
            return (np.sin(x / 9 + i) * 0.5).astype(np.float32)[..., None]
        case "bands":
            return (rng.random((HEIGHT, WIDTH, 13)) * 1000 * np.arange(1, 14)).astype(np.uint16)
        case "rgbn":
            return rng.integers(0, 256, (HEIGHT, WIDTH, 4), dtype=np.uint8)
        case "six":
            return rng.integers(0, 4000, (HEIGHT, WIDTH, 6)).astype(np.uint16)
        case _:
            return rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


SUFFIXES = {"ct": "tif", "float": "tif", "bands": "tif", "rgbn": "tif", "six": "npy"}


@pytest.fixture
def folder(tmp_path):
    """A folder of images of a kind: folder("ct", 5)."""

    def make(kind, count=5, suffix=None, first=0, name=None):
        path = tmp_path / (name or kind)
        path.mkdir(exist_ok=True)
        for i in range(first, first + count):
            to = path / f"{i}.{suffix or SUFFIXES.get(kind, 'png')}"
            if to.suffix == ".tif":
                tifffile.imwrite(
                    to,
                    np.squeeze(draw(kind, i)),
                    photometric="minisblack",
                    planarconfig="contig" if draw(kind, i).shape[2] > 1 else None,
                )
            else:
                images.write(draw(kind, i), to)
        return path

    return make


@pytest.mark.parametrize(
    ("kind", "dtype", "channels"),
    [
        ("twelve", "uint16", 1),
        ("ct", "int16", 1),
        ("float", "float32", 1),
        ("bands", "uint16", 13),
        ("rgbn", "uint8", 4),
        ("six", "uint16", 6),
    ],
)
def test_every_kind_reaches_the_networks_in_its_own_range(folder, build, small, kind, dtype, channels):
    manifest, lines = build(folder(kind), folder("picture"), resize="crop")
    found = manifest.a.contract
    assert (found.dtype, found.channels, found.network_channels) == (dtype, channels, channels)
    assert manifest.b.contract == Contract(icc="srgb")
    assert [line.startswith("A: ") for line in lines] == ([True] if dtype != "uint8" else [])
    stores = open_images(manifest, small(resize="crop"), print)
    for i in range(5):
        stored = stores.a[i]
        assert stored.dtype == getattr(torch, dtype) and np.array_equal(stored.numpy(), draw(kind, i))
    with Loader(
        stores.a, stores.b, small(resize="crop", flip=False), 7, batch=2, device=torch.device("cpu")
    ) as loader:
        a, b, *_ = next(loader)
    assert a.dtype == torch.float32 and a.shape == (2, channels, 8, 8) and b.shape == (2, 3, 8, 8)
    assert -1 <= a.min() < -0.2 and (0.2 if kind != "bands" else -0.5) < a.max() <= 1
    low, high = (np.array(limits)[:, None, None] for limits in (found.low, found.high))
    assert any(torch.equal(a[0], crop) for crop in crops(manifest, stores.a))
    whole = [torch.from_numpy(draw(kind, i)).permute(2, 0, 1) for i in range(5)]
    for x, image in zip([to_network(each, found) for each in whole], whole, strict=True):
        twin = ((image.numpy().astype(np.float64) - low) / (high - low) * 2 - 1).clip(-1, 1)
        assert np.allclose(x.numpy(), twin, atol=1e-6)
    assert load_plain_batch(stores.a, [0], 8).dtype == stores.a[0].dtype
    again = Manifest.from_json(manifest.to_json())
    assert again == manifest and again.a.contract == found


def crops(manifest, store):
    """Every crop of every image, as the networks see it."""
    for i in range(len(store)):
        planes = to_network(store[i].permute(2, 0, 1), manifest.a.contract)
        for top in range(HEIGHT - 7):
            for left in range(WIDTH - 7):
                yield planes[:, top : top + 8, left : left + 8]


def test_twelve_bits_in_words_and_in_two_bytes_a_value(folder, build, tmp_path):
    manifest, lines = build(folder("twelve"), folder("picture"), resize="crop")
    everything = np.stack([draw("twelve", i) for i in range(5)])
    assert lines == [
        f"A: uint16, 1 channel, values {everything.min():,}…{everything.max():,} of 0…4,095 (12 bits); 0.0 % clipped"
    ]
    assert manifest.a.contract == Contract("uint16", 1, (0.0,), (4095.0,), "bits", icc="srgb")
    own, other = manifest.caches
    assert own.pixels is not None and own.stats is not None and other.stats is None
    assert own.pixels.nbytes - own.stats.nbytes == 5 * HEIGHT * WIDTH * 2
    assert own.stats.nbytes < 5 * 300 and other.pixels.nbytes == 5 * HEIGHT * WIDTH * 3
    again, repeated = build(tmp_path / "twelve", tmp_path / "picture", resize="crop")  # from the cache
    assert again == manifest and repeated == lines and np.array_equal(again.caches[0].stats, own.stats)
    uncached, same = build(tmp_path / "twelve", tmp_path / "picture", resize="crop", cache=False)
    assert uncached == manifest and same[1:] == lines and uncached.caches[0].pixels is None


def test_the_check_finds_the_same(folder, small):
    checked = check(folder("twelve"), folder("ct"), small(resize="crop", range_b=(-1024, 3071)))
    assert checked.ready
    a, b = (sentence(checked.folders[label]) for label in "AB")
    assert a == "5 images, 1 channel, uint16 of 0…4,095 (12 bits), all 24 × 20 px"
    assert b == "5 images, 1 channel, int16 of -1,024…3,071 (as set), all 24 × 20 px"


def test_the_check_of_a_folder_without_a_readable_file(folder, small):
    a = folder("float", 2)
    for path in a.iterdir():
        broken = draw("float", 0)
        broken[0] = np.inf
        tifffile.imwrite(path, broken[..., 0])
    assert check(a, None, small()).problems[0].kind == "unreadable"


def test_the_check_names_a_set_without_a_range(folder, small, tmp_path):
    (tmp_path / "flat").mkdir()
    tifffile.imwrite(tmp_path / "flat" / "0.tif", np.full((HEIGHT, WIDTH), 9, np.int16))
    checked = check(tmp_path / "flat", None, small())
    assert not checked.ready and checked.problems[0][:3] == ("error", "range", "A")


def test_a_cache_of_another_type_is_not_used(folder, build, tmp_path):
    manifest, _ = build(folder("twelve"), folder("picture"), resize="crop")
    for path in (tmp_path / "cache").glob("*.pixels"):
        content = path.read_bytes()
        length = int.from_bytes(content[-8:], "little")
        index = json.loads(content[-8 - length : -8])
        text = json.dumps(index | {"dtype": "int16"}).encode()
        path.write_bytes(content[: -8 - length] + text + len(text).to_bytes(8, "little"))
    again, _ = build(tmp_path / "twelve", tmp_path / "picture", resize="crop")
    assert again == manifest and again.caches[0].pixels.equal(manifest.caches[0].pixels)


def test_a_range_may_be_set(folder, build):
    a, b = folder("ct"), folder("picture")
    manifest, lines = build(a, b, range_a=(-1024, 3071), range_b=(10, 240))
    assert manifest.a.contract == Contract("int16", 1, (-1024.0,), (3071.0,), "settings", icc="srgb")
    assert manifest.b.contract == Contract("uint8", 3, (10.0,), (240.0,), "settings", icc="srgb")
    assert "of -1,024…3,071 (as set); 0.0 % clipped" in lines[0] and "B: uint8, 3 channels" in lines[1]
    assert lines[2].startswith("B: 5 images with over 1 % of the pixels outside the range (0.png ")
    many, lines = build(folder("bands"), b, range_a="per-channel")
    greatest = np.max([draw("bands", i) for i in range(5)], axis=(0, 1, 2))
    depths = [next(bits for bits in (8, 10, 12, 14, 16) if value < 2**bits) for value in greatest]
    assert many.a.contract.high == tuple(2.0**bits - 1 for bits in depths) and len(set(depths)) == 3
    assert "by channel (14 bits)" in lines[0]


def test_images_that_are_clipped_are_used_and_named(folder, build, small):
    a = folder("ct", 60)
    bright = np.full((HEIGHT, WIDTH), 30, np.int16)
    bright[0] = 9000
    for i in range(3):
        tifffile.imwrite(a / f"bright{i}.tif", bright + i)
    manifest, lines = build(a, folder("picture"), range_a=(-1024, 3071))
    assert lines[1].startswith(
        "A: 3 images with over 1 % of the pixels outside the range (bright0.tif 5.0 %, bright1.tif 5.0 %, bright2.tif"
        " 5.0 %); these values are clipped"
    )
    assert len(manifest.a.train) + len(manifest.a.held_out) == 63


def test_held_out_images_do_not_count_for_the_range(folder, build):
    a, val = folder("twelve"), folder("twelve", name="val", first=5)
    images.write(np.full((HEIGHT, WIDTH, 1), 60000, np.uint16), val / "5.png")
    manifest, lines = build(
        a, folder("picture"), val_a=val, val_b=folder("picture", 2, name="val_b", first=5)
    )
    assert manifest.a.contract.high == (4095.0,)
    assert lines[1].startswith("A: 1 image with over 1 % of the pixels outside the range (5.png 100.0 %)")


def test_one_domain_holds_images_of_one_kind(folder, build):
    a, b = folder("twelve", 3), folder("picture")
    folder("picture", 2, name="twelve", first=3)
    with pytest.raises(
        UsageError,
        match=r"A: the images differ in the type of their values \(uint16: 0\.png, 1\.png and 1 more; uint8: 3\.png, 4\.png\)",
    ):
        build(a, b)
    six = folder("six")
    np.save(six / "9.npy", draw("bands", 0))
    with pytest.raises(
        UsageError, match=r"A: the images differ in channels \(13 channels: 9\.npy; 6 channels: 0\.npy, "
    ):
        build(six, b)
    rgbn = folder("rgbn", 3)
    folder("picture", 1, name="rgbn", first=7)
    with pytest.raises(UsageError, match=r"A: .*differ in channels \(3 channels: 7\.png; 4 channels: 0\.tif"):
        build(rgbn, b)
    with pytest.raises(UsageError, match=r"A: .*type of their values \(int16: val/0.tif.*; uint8: 0\.png"):
        build(
            b,
            folder("picture", name="other"),
            val_a=folder("ct", name="val"),
            val_b=folder("picture", name="v", first=9),
        )


def test_channels_that_do_not_fit_are_refused(folder, build):
    b = folder("picture")
    with pytest.raises(UsageError, match=r"A: 0\.npy has 6 channels, not 3; leave out data\.channels_a"):
        build(folder("six"), b, channels_a=3)
    with pytest.raises(UsageError, match=r"B: 0\.png has 3 channels, not 2; leave out data\.channels_b"):
        build(folder("ct"), b, channels_b=2)
    manifest, _ = build(folder("twelve"), b, channels_a=3, channels_b=1)
    assert (manifest.a.contract.channels, manifest.b.contract.channels) == (3, 1)


def test_deep_colour_with_alpha_is_laid_over_white(build, folder, tmp_path, small):
    deep = tmp_path / "deep"
    deep.mkdir()
    for i in range(3):
        image = np.full((HEIGHT, WIDTH, 4), 65535, np.uint16)
        image[..., :3] = 1000 * i
        image[:2, ..., 3] = 0
        images.write(image, deep / f"{i}.png")
    manifest, lines = build(deep, folder("picture"), resize="crop")
    assert manifest.a.contract == Contract("uint16", 3, (0.0,), (65535.0,), "bits", icc="srgb")
    assert lines[0].startswith("A: 3 images with alpha: laid over white")
    image = open_images(manifest, small(resize="crop"), print).a[2].numpy()
    assert (image[:2] == 65535).all() and (image[2:] == 2000).all()
    assert build(deep, folder("picture"), channels_a=4)[0].a.channels == 4


def test_sets_without_a_range_are_refused(folder, build, tmp_path):
    flat = tmp_path / "flat"
    flat.mkdir()
    for i in range(2):
        tifffile.imwrite(flat / f"{i}.tif", np.full((HEIGHT, WIDTH), 9, np.int16))
        (flat / f"{i}.tif").write_bytes((flat / f"{i}.tif").read_bytes())
    message = r"A: every value of the training set is 9, so no range can be found; set one \(--data\.range-a LOW HIGH\)"
    with pytest.raises(UsageError, match=message):
        build(flat, folder("picture"))
    assert build(flat, folder("picture"), range_a=(0, 20))[0].a.contract.high == (20,)


def test_lab_takes_colour_pictures_of_eight_bits_alone(folder, build):
    with pytest.raises(
        UsageError, match=r"data\.lab needs colour pictures of 8 bits; 0\.png, .* hold uint16 with 1 channels"
    ):
        build(folder("twelve"), None, lab=True, paired=True)


def test_pixels_that_are_not_finite_are_named(folder, build):
    a = folder("float", 25)
    broken = draw("float", 99)
    broken[3, 4] = np.nan
    tifffile.imwrite(a / "broken.tif", broken[..., 0])
    manifest, lines = build(a, folder("picture"))
    assert len(manifest.a.train) == 25 and "broken.tif (" in lines[0] and "NaN" in lines[0]


def test_channels_first_arrays(build, small, folder, tmp_path):
    first = tmp_path / "first"
    first.mkdir()
    for i in range(3):
        np.save(first / f"{i}.npy", draw("six", i).transpose(2, 0, 1))
    manifest, _ = build(first, folder("picture"), layout="chw", resize="crop")
    assert manifest.a.channels == 6 and (manifest.a.train[0].width, manifest.a.train[0].height) == (
        WIDTH,
        HEIGHT,
    )
    stores = open_images(manifest, small(layout="chw", resize="crop"), print)
    assert np.array_equal(stores.a[1].numpy(), draw("six", 1))


def test_pairs_of_different_types(folder, build, small):
    manifest, lines = build(folder("ct"), folder("bands"), paired=True, resize="crop")
    assert manifest.paired and (manifest.a.contract.dtype, manifest.b.contract.channels) == ("int16", 13)
    assert [line[:2] for line in lines if ":" in line[:2]] == ["A:", "B:"]
    stores = open_images(manifest, small(resize="crop"), print)
    with Loader(
        stores.a,
        stores.b,
        small(resize="crop", augment=("vertical", "turns")),
        7,
        batch=3,
        device=torch.device("cpu"),
        paired=True,
    ) as loader:
        a, b, *_ = next(loader)
    assert a.shape == (3, 1, 8, 8) and b.shape == (3, 13, 8, 8)


def test_the_same_bytes_are_not_decoded_for_another_range(folder, build, tmp_path):
    a, b = folder("ct"), folder("picture")
    build(a, b)
    known = set((tmp_path / "cache").glob("*.pixels"))
    build(a, b, range_a=(0, 100))
    assert set((tmp_path / "cache").glob("*.pixels")) == known
    assert cache.FORMAT == 3
