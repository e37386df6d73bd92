import copy
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from twofold import hardware
from twofold.errors import TwofoldError, UsageError
from twofold.formats import images
from twofold.translation.tiles import Tiling
from twofold.translation.translator import Translator


def noise(height, width, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


@pytest.mark.parametrize("size", [None, 32])
def test_a_translation_is_the_generators_output(translator, size):
    """Of an image the network takes as it is, nothing is resized or padded."""
    made, image = translator(size=size), noise(32, 32)
    batch = torch.from_numpy(image).permute(2, 0, 1)[None]
    with torch.no_grad():
        direct = images.to_uint8(made.generator(images.to_float(batch)))[0].permute(1, 2, 0).numpy()
    assert np.array_equal(made.array(image), direct)
    assert direct.std() > 5  # no flat picture that anything would equal


def test_the_result_has_the_type_of_the_input(translator, tmp_path):
    made, image = translator(), noise(24, 20)
    result = made.array(image)
    images.write(image, tmp_path / "x.png")
    tensor = made(torch.from_numpy(image).permute(2, 0, 1))
    assert np.array_equal(made(image), result)
    assert isinstance(tensor, torch.Tensor) and tensor.shape == (3, 24, 20) and tensor.dtype == torch.uint8
    assert np.array_equal(tensor.permute(1, 2, 0).numpy(), result)
    for given in (Image.fromarray(image), tmp_path / "x.png", str(tmp_path / "x.png")):
        picture = made(given)
        assert isinstance(picture, Image.Image) and picture.mode == "RGB" and picture.size == (20, 24)
        assert np.array_equal(np.array(picture), result)


def test_grey_stays_two_dimensional(translator, resnet):
    made, image = translator(resnet(in_channels=1, out_channels=1)), noise(16, 16, 1)
    assert np.array_equal(made(image[..., 0]), made(image)[..., 0])
    assert made(Image.fromarray(image[..., 0])).mode == "L"
    assert made(Image.new("RGB", (16, 16))).mode == "L"  # colours become grey, as in training


@pytest.mark.parametrize("channels", [1, 4])
def test_other_channel_counts(translator, resnet, channels):
    made = translator(resnet(in_channels=channels, out_channels=channels))
    assert (made.channels, made.out_channels) == (channels, channels)
    assert made.array(noise(16, 20, channels)).shape == (16, 20, channels)
    assert made(Image.fromarray(noise(16, 20))).mode == {1: "L", 4: "RGBA"}[channels]


def test_channel_counts_that_pil_lacks_need_arrays(translator, resnet, tmp_path):
    made = translator(resnet(in_channels=5, out_channels=2))
    assert made(noise(16, 16, 5)).shape == (16, 16, 2)
    np.save(tmp_path / "x.npy", noise(16, 16, 5))
    with pytest.raises(UsageError, match="the model gives 2 channels, which PIL cannot hold"):
        made(tmp_path / "x.npy")
    with pytest.raises(TwofoldError, match="it has 3 channels, not 5"):
        made(Image.new("RGB", (16, 16)))


@pytest.mark.parametrize("network", ["resnet", "unet"])
@pytest.mark.parametrize("at", ["trained", "native", 20])
def test_every_image_keeps_its_size(request, translator, network, at):
    made = translator(request.getfixturevalue(network)(), size=32)
    for height, width in [(1, 1), (3, 200), (200, 3), (33, 31), (7, 8), (64, 32), (1, 90)]:
        assert made.array(noise(height, width), at).shape == (height, width, 3)


def test_sizes_the_network_works_at(translator, unet):
    made = translator(size=64)
    assert made.working_size(128, 32, "trained") == (128, 32)  # as many pixels as 64 × 64
    assert made.working_size(100, 100, "trained") == (64, 64)
    assert made.working_size(400, 100, "trained") == (128, 32)
    assert made.working_size(33, 31, "native") == (33, 31)
    assert made.working_size(100, 100, 50) == (48, 48)  # to the network's multiple, 4
    assert translator().working_size(33, 31, "trained") == (33, 31)  # trained at images' own scale
    assert translator(unet(), size=64).working_size(10, 640, "trained") == (32, 512)


def test_padding_mirrors_the_image_and_is_cut_off(translator):
    made, image = translator(), noise(30, 27)
    padded = made.pad(image)
    assert padded.shape == (32, 28, 3)
    assert np.array_equal(padded[:30, :27], image)
    assert np.array_equal(padded[30:, :27], image[:-3:-1])
    whole = made.array(padded)
    assert np.array_equal(made.array(image), whole[:30, :27])


def test_large_images_are_scaled_down_and_back(translator):
    made, image = translator(size=32), noise(64, 128)
    inner = made.array(images.resize(image, 24, 44), "native")
    assert np.array_equal(made.array(image), images.resize(inner, 64, 128))


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_an_output_depends_on_its_image_alone(translator, unet, norm):
    made = translator(unet(norm=norm, dropout=True))
    one, two = noise(32, 32, seed=1), noise(32, 32, seed=2)
    before = {name: tensor.clone() for name, tensor in made.generator.state_dict().items()}
    first = made.array(one)
    made.array(two)
    assert np.array_equal(made.array(one), first)
    batch = torch.from_numpy(np.stack([two, one])).permute(0, 3, 1, 2)
    with torch.no_grad():
        together = images.to_uint8(made.generator(images.to_float(batch)))[1].permute(1, 2, 0).numpy()
    assert np.abs(together.astype(int) - first).max() <= 1
    assert all(torch.equal(before[name], tensor) for name, tensor in made.generator.state_dict().items())


def test_arrays_of_several_sizes_and_no_array(translator):
    made, images = translator(size=32), [noise(20, 24), noise(40, 24), noise(20, 24)]
    assert all(map(np.array_equal, made.arrays(images), map(made.array, images)))
    assert made.arrays([]) == []


@pytest.mark.parametrize("at", [0, 40.5, None, float("nan"), "40"])
def test_a_wrong_scale_is_named(translator, at):
    with pytest.raises(UsageError, match=f"at must be .*, not {at!r}"):
        translator()(noise(8, 8), at=at)


def test_a_translator_can_be_copied_and_sent_to_another_process(translator):
    made, image = translator(), noise(20, 24)
    copied, sent = copy.deepcopy(made), pickle.loads(pickle.dumps(made))
    for other in (copied, sent):
        assert np.array_equal(other.array(image), made.array(image))
        torch.nn.init.zeros_(next(other.generator.parameters()))
        assert not np.array_equal(other.array(image), made.array(image))  # it runs its own weights


def test_any_memory_will_do(translator):
    """Views that run backwards, other strides, read-only arrays: the same pixels give the same result."""
    made, image = translator(), noise(20, 24)
    result = made.array(image)
    frozen = image.copy()
    frozen.setflags(write=False)
    backwards = image[::-1, ::-1].copy()[::-1, ::-1]
    for same in (frozen, backwards, np.asfortranarray(image), np.asarray(Image.fromarray(image))):
        assert np.array_equal(made.array(same), result)
    assert np.array_equal(made.array(frozen, 16), made.array(image, 16))
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    assert torch.equal(made(tensor), made(tensor.contiguous()))
    assert np.array_equal(image, noise(20, 24))  # and the caller's is left alone


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.zeros((8, 8, 3)), "uint8"),
        (np.zeros((8, 8, 3), np.int64), "int64"),
        (np.zeros((8, 8, 4), np.uint8), r"\(8, 8, 4\)"),
        (np.zeros((8, 8), np.uint8), r"\(H, W, 3\)"),
        (np.zeros((0, 8, 3), np.uint8), r"\(0, 8, 3\)"),
        (np.zeros((1, 8, 8, 3), np.uint8), r"\(1, 8, 8, 3\)"),
        (torch.zeros(3, 8, 8), "float32"),
        (torch.zeros(1, 1, 3, 8, 8, dtype=torch.uint8), r"\(1, 1, 3, 8, 8\)"),
        (torch.zeros(1, 4, 8, 8, dtype=torch.uint8), r"\(3, H, W\) or \(N, 3, H, W\), not .* \(1, 4, 8, 8\)"),
        (b"bytes", "not a bytes"),
        (None, "not a NoneType"),
        ([[1]], "not a list"),
    ],
)
def test_other_inputs_are_refused(translator, wrong, message):
    with pytest.raises(UsageError, match=message):
        translator()(wrong)


@pytest.mark.parametrize("at", [0, -4, "big", "32"])
def test_other_scales_are_refused(translator, at):
    with pytest.raises(UsageError, match="number of pixels"):
        translator(size=16).array(noise(8, 8), at)


def test_an_image_too_large_for_the_memory_is_refused_with_a_size_that_fits(translator, monkeypatch):
    made = translator()
    made.tiling = Tiling("off")
    monkeypatch.setattr(hardware, "free_memory", lambda device: 2**20)
    with pytest.raises(UsageError, match=r"300×400 pixels need .* use --at \d+") as caught:
        made.array(noise(400, 300))
    fits = int(str(caught.value).split("--at ")[1].split()[0])
    assert made.array(noise(400, 300), fits).shape == (400, 300, 3)
    assert translator(size=32).array(noise(400, 300)).shape == (400, 300, 3)
    monkeypatch.setattr(hardware, "free_memory", lambda device: None)
    assert made.array(noise(400, 300)).shape == (400, 300, 3)


def test_an_out_of_memory_error_is_one_line(translator, monkeypatch):
    made = translator()

    def full(_):
        raise RuntimeError(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
        )

    monkeypatch.setattr(made.generator, "forward", full)
    with pytest.raises(TwofoldError, match=r"use --at 16 or less") as caught:
        made.array(noise(32, 8))
    assert "\n" not in str(caught.value)


def test_a_translator_loads_from_its_file(translator, tmp_path):
    made, image = translator(size=32, direction="ba"), noise(40, 20)
    made.save(tmp_path / "deep" / "x.safetensors")
    loaded = Translator.load(tmp_path / "deep" / "x.safetensors", device="cpu")
    assert loaded.header == made.header
    assert np.array_equal(loaded.array(image), made.array(image))
    assert Translator.load(tmp_path / "deep" / "x.safetensors", direction="ba").header == made.header
    with pytest.raises(UsageError, match="translates ba, not ab"):
        Translator.load(tmp_path / "deep" / "x.safetensors", direction="ab")


def test_a_run_loads_its_newest_snapshot(translator, resnet, tmp_path):
    for seed, name in enumerate(["000000100-ab", "000000020-ab", "000000300-ba", "000000400-ab.part"]):
        translator(resnet(seed), direction=name[10:12]).save(tmp_path / "snapshots" / f"{name}.safetensors")
    image = noise(16, 16)
    assert np.array_equal(Translator.load(tmp_path)(image), translator(resnet(0))(image))
    assert np.array_equal(Translator.load(tmp_path, direction="ba")(image), translator(resnet(2))(image))
    with pytest.raises(UsageError, match="has no snapshot of direction"):
        Translator.load(tmp_path / "snapshots")
