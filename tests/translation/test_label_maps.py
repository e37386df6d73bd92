"""Label maps through a translator: known classes alone, and files with the indices and the palette of their kind."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from twofold.errors import UsageError
from twofold.formats import images
from twofold.formats.contract import Contract, Labels

RNG = np.random.default_rng(0)
PALETTE = ((10, 20, 30), (200, 0, 0), (0, 200, 0), (0, 0, 200), (9, 9, 9), (1, 2, 3))
PHOTOS = Contract()


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def ids(values, dtype="uint8", palette=(), onehot=False):
    labels = Labels(tuple((value,) for value in values), (), palette, onehot)
    return Contract(dtype, 1, (float(values[0]),), (float(values[-1]),), "labels", labels)


def colours(count, onehot=False):
    rows = tuple(sorted({tuple(row) for row in RNG.integers(0, 256, (count, 3)).tolist()}))
    return Contract(found="labels", labels=Labels(rows, onehot=onehot))


def label_map(contract, shape=(40, 52)):
    classes = RNG.integers(0, len(contract.labels.values), shape)
    return np.array(contract.labels.values, contract.dtype)[classes]


def picture(pixels, palette, transparency=None):
    made = Image.fromarray(pixels[..., 0])
    made.putpalette([part for colour in palette for part in colour])
    if transparency is not None:
        made.info["transparency"] = transparency
    return made


@pytest.mark.parametrize(
    "contract",
    [
        *(
            ids((0, 1, 7)),
            ids((3, 900, 65535), "uint16"),
            ids((-5, 0, 40), "int16"),
            ids((2, 5), onehot=True),
        ),
        *(colours(7), colours(7, onehot=True), ids(tuple(range(256))), ids(tuple(range(256)), onehot=True)),
    ],
)
@pytest.mark.parametrize("suffix", [".png", ".tif", ".npy"])
def test_an_identity_gives_back_the_file(by_contract, contract, suffix):
    if not images.holds(suffix, contract.dtype, contract.channels):
        suffix = ".tif"
    pixels = label_map(contract)
    images.write(pixels, Path("in", f"x{suffix}"))
    results = by_contract(contract, identity=True).folder("in", "out")
    assert not results.problems
    assert results.written[0].suffix == (".tif" if contract.dtype == "int16" else ".png") or suffix == ".npy"
    back = images.read_stored(results.written[0]).pixels
    assert back.dtype == contract.dtype and np.array_equal(back, pixels)


@pytest.mark.parametrize("transparency", [None, 0])
@pytest.mark.parametrize("onehot", [False, True])
def test_a_palette_file_in_gives_the_same_indices_and_palette_out(by_contract, transparency, onehot):
    contract = ids((0, 1, 3, 5), palette=PALETTE, onehot=onehot)
    pixels = label_map(contract)
    Path("in").mkdir()
    picture(pixels, PALETTE, transparency).save("in/x.png")
    made = by_contract(contract, identity=True)
    (written,) = made.folder("in", "out").written
    with Image.open(written) as out:
        assert out.mode == "P" and np.array_equal(np.array(out), pixels[..., 0])
        assert tuple(zip(*[iter(out.getpalette())] * 3, strict=False))[:6] == PALETTE
    with Image.open("in/x.png") as source:
        assert np.array_equal(np.array(made(source)), pixels[..., 0])
    assert np.array_equal(made.array("in/x.png"), pixels)


@pytest.mark.parametrize(
    "target", [ids((0, 4, 9, 200)), ids((1, 300), "uint16"), colours(5), ids((3, 4, 8), onehot=True)]
)
@pytest.mark.parametrize("resize", ["shortest", "crop", "resize-and-crop"])
def test_a_network_gives_known_classes_alone_at_any_scale(by_contract, target, resize):
    made = by_contract(PHOTOS, target, resize=resize)
    output = made.array(RNG.integers(0, 256, (61, 97, 3), np.uint8))
    assert output.shape == (61, 97, target.channels) and output.dtype == target.dtype
    assert {tuple(row) for row in output.reshape(-1, target.channels).tolist()} <= set(target.labels.values)


def test_the_network_never_sees_mixed_classes(by_contract):
    """Half of the pixels: those of the nearest, where bicubic would give ids between."""
    contract = ids((0, 100, 200))
    pixels = label_map(contract, (72, 72)).repeat(2, 0).repeat(2, 1)
    output = by_contract(contract, identity=True, resize="shortest", load_size=72).array(pixels)
    assert np.array_equal(output, pixels)


def test_other_ids_are_refused_by_name_and_other_colours_are_the_nearest(by_contract):
    contract = ids((0, 1, 7))
    made = by_contract(contract, identity=True)
    pixels = label_map(contract)
    images.write(pixels, Path("in", "good.png"))
    strange = pixels.copy()
    strange[0, :2, 0] = 9, 255
    images.write(strange, Path("in", "strange.png"))
    with pytest.raises(
        UsageError, match="its ids 9, 255 are none of the 3 classes that the model was trained on"
    ):
        made(strange)
    lines = []
    results = made.folder("in", "out", notify=lines.append)
    assert [path.name for path in results.written] == ["good.png"]
    assert len(lines) == 1 and lines[0].startswith("skipped in/strange.png: its ids 9, 255 are none of")
    near = Contract(found="labels", labels=Labels(((0, 0, 0), (200, 0, 0))))
    noisy = np.array([[[3, 2, 0], [190, 9, 9]]], np.uint8).repeat(16, 0).repeat(8, 1)
    output = by_contract(near, identity=True).array(noisy)
    assert np.array_equal(output, np.where(noisy[..., :1] < 100, [0, 0, 0], [200, 0, 0]))


def test_lossy_formats_are_refused_before_work_starts(by_contract):
    images.write(label_map(ids((0, 1))), Path("in", "x.png"))
    made = by_contract(ids((0, 1)), identity=True)
    for format in ("jpg", "webp"):
        with pytest.raises(UsageError, match=f"{format} changes the values of label maps; use .png"):
            made.folder("in", "out", format=format)
    assert not Path("out").exists()
