"""Tiles and windows equal the whole translation."""

import numpy as np
import pytest
import torch

from twofold import hardware
from twofold.errors import TwofoldError, UsageError
from twofold.formats import images
from twofold.formats.contract import Contract, Labels
from twofold.networks.registry import describe
from twofold.translation.header import Header
from twofold.translation.sampling import mixed, moments_of
from twofold.translation.tiles import Tiling
from twofold.translation.translator import Translator

NETWORKS = {
    "instance": lambda resnet, unet: resnet(width=6, blocks=2),
    "antialias": lambda resnet, unet: resnet(width=4, blocks=2, antialias=True, upsample="blur"),
    "resize": lambda resnet, unet: resnet(
        width=4, blocks=2, upsample="resize", norm="instance-affine", halvings=3
    ),
    "no norm": lambda resnet, unet: resnet(
        width=4, blocks=2, upsample="resize-zero", norm="none", halvings=1
    ),
    "skips": lambda resnet, unet: resnet(width=4, blocks=2, skips=True),
    "skips to grey": lambda resnet, unet: resnet(width=4, blocks=1, skips=True, out_channels=1),
    "unet": lambda resnet, unet: unet(),
    "deep unet": lambda resnet, unet: unet(depth=7, norm="instance"),
    "no norm unet": lambda resnet, unet: unet(depth=7, norm="none"),
    "encoder-decoder": lambda resnet, unet: unet(skips=False, upsample="blur"),
}


@pytest.fixture(params=NETWORKS)
def network(request, resnet, unet):
    return NETWORKS[request.param](resnet, unet)


def picture(height, width, channels=3, seed=0):
    """Bright above, dark below, with noise: parts differ from the whole."""
    noise = np.random.default_rng(seed).random((height, width, channels))
    return ((noise + np.linspace(3, 0, height)[:, None, None]) * 63).astype(np.uint8)


def difference(one, other):
    assert one.shape == other.shape and one.dtype == other.dtype
    return np.abs(one.astype(float) - other).max()


def test_tiles_with_exact_statistics_equal_the_whole(translator, network):
    made, image = translator(network), picture(210, 131)
    whole = made.array(image)
    for folder in (None, 1):
        made.tiling = Tiling(32, memory=None if folder is None else 2**27, statistics="exact")
        assert difference(made.array(image), whole) <= 1


def test_progress_is_shown_by_passes_and_by_tiles(translator, resnet):
    made, seen = translator(resnet(width=4, blocks=1)), []

    def track(parts, total, what, done):
        for number, part in enumerate(parts, 1):
            yield part
            seen.append((what, done + number, total))

    made.track, made.tiling = track, Tiling(32, statistics="exact")
    made.array(picture(64, 90), "native")
    passes = seen[0][2]
    expected = [("statistics", number, passes) for number in range(1, passes + 1)]
    assert seen == expected + [("tiles", number, 6) for number in range(1, 7)]


def test_windows_equal_the_crop_of_the_whole(translator, network):
    made, image = translator(network), picture(150, 203)
    made.tiling = Tiling(64, statistics="exact")
    whole, statistics = made.array(image, "native"), made.statistics(image)
    random = np.random.default_rng(1)
    for _ in range(20):
        (x, right), (y, bottom) = (sorted(random.choice(side + 1, 2, replace=False)) for side in (203, 150))
        part = made.window(image, x, y, right - x, bottom - y, statistics=statistics)
        assert difference(part, whole[y:bottom, x:right]) <= 1


def test_a_sample_gives_nearly_the_whole(translator, resnet):
    torch.manual_seed(0)
    made, image = translator(resnet(width=4, blocks=1)), picture(700, 900)
    whole = made.array(image)
    made.tiling = Tiling(256, statistics="fast")
    error = np.square(made.array(image).astype(float) - whole).mean() ** 0.5
    assert 0 < error < 10


def test_the_statistics_of_two_samples_together():
    one, other = torch.randn(3, 30) * 2 + 1, torch.randn(3, 10)
    both = mixed(moments_of(one), moments_of(other), 0.25)
    torch.testing.assert_close(both, moments_of(torch.cat([one, other], 1)))


def test_auto_takes_exact_statistics_where_a_sample_is_wrong(translator, resnet):
    said = []
    made, image = translator(resnet(blocks=3)), picture(256, 256)
    image[:, 100:110] = 255  # most windows of a sample miss it
    made.notify = said.append
    made.tiling = Tiling(64)
    made.array(image)
    assert said == [s for s in said if s.startswith("translating in tiles of 64 px, ")] and len(said) == 1


@pytest.mark.parametrize("at", ["native", 96])
def test_an_image_over_the_memory_is_translated_in_tiles(translator, monkeypatch, at):
    made, image = translator(), picture(300, 400)
    whole = made.array(image, at)
    monkeypatch.setattr(hardware, "free_memory", lambda device: 6 * 2**20 if at == "native" else 2**20)
    made.notify = (said := []).append
    assert difference(made.array(image, at), whole) <= (1 if "exact" in "".join(said) else 20)
    assert len(said) == 1


def test_images_that_do_not_fit_together_go_one_by_one(translator, monkeypatch):
    made, batch = translator(), [picture(64, 64, seed=seed) for seed in range(4)]
    whole = made.arrays(batch)
    one = 64 * 64 * 120
    monkeypatch.setattr("twofold.translation.memory.needed", lambda *a: a[3] * 120.0)
    made.tiling = Tiling(memory=2 * one)
    assert all(difference(*pair) <= 1 for pair in zip(made.arrays(batch), whole, strict=True))


def test_a_limit_that_is_too_low_is_named(translator):
    made = translator()
    made.tiling = Tiling(memory=1)
    with pytest.raises(UsageError, match=r"too large for this memory.*raise --memory or use a smaller --at"):
        made.array(picture(64, 64))


def test_deep_values_in_tiles(by_contract):
    deep = Contract("uint16", 2, low=(0.0,), high=(4095.0,))
    made, image = by_contract(deep, deep, identity=False), picture(90, 70, 2).astype(np.uint16) * 16
    whole = made.array(image)
    made.tiling = Tiling(32, statistics="exact")
    assert difference(made.array(image), whole) <= 2


def test_bf16_in_tiles(resnet):
    network, image = resnet(width=8, blocks=2), picture(128, 96)
    made = Translator.of(network, Header(describe(network), "ab"), device="cpu", precision="bf16")
    whole = made.array(image)
    made.tiling = Tiling(32, statistics="exact")
    error = made.array(image).astype(float) - whole
    assert np.square(error).mean() ** 0.5 < 2 and np.abs(error).max() < 20


def test_noise_is_one_draw_over_all_tiles(unet):
    network = unet(depth=6, dropout=True)
    image = picture(192, 192)
    drawn = []
    for tile in (64, 128):
        made = Translator(network, Header(describe(network), "ab", noise=True), seed=3)
        made.tiling = Tiling(tile, statistics="exact")
        drawn.append(made.array(image))
    assert difference(*drawn) <= 1
    made.seed = 4
    assert difference(made.array(image), drawn[0]) > 1


def test_what_cannot_be_tiled_is_one_line(translator, resnet, monkeypatch):
    made, image = translator(), picture(64, 64)
    made.tiling = Tiling(0)
    with pytest.raises(UsageError, match="tiles must be"):
        made.array(image)
    monkeypatch.setattr(hardware, "free_memory", lambda device: 2**15)
    made.tiling = Tiling(64)
    with pytest.raises(UsageError, match=r"a tile of 64 px needs about .* MiB of memory .*--tiles auto"):
        made.array(image)
    made.tiling = Tiling("auto")
    with pytest.raises(UsageError, match=r"its smallest tile, 4 px .* needs about"):
        made.array(image)


@pytest.mark.parametrize("statistics", ["auto", "fast"])
def test_an_image_too_small_for_a_sample(translator, statistics):
    made, image = translator(), picture(9, 6)
    whole = made.array(image)
    made.tiling = Tiling(4, statistics=statistics)
    assert difference(made.array(image), whole) <= 1


def test_label_maps_have_windows(by_contract):
    labels = Labels(((0,), (1,), (2,)), ())
    made, image = by_contract(Contract("uint8", 1, (0.0,), (2.0,), "labels", labels)), picture(40, 52, 1) % 3
    made.tiling = Tiling(16, statistics="exact")
    assert difference(made.window(image, 5, 6, 20, 10), made.array(image, "native")[6:16, 5:25]) <= 1


def test_other_libraries_do_not_tile(resnet, tmp_path):
    pytest.importorskip("onnxruntime")
    network = resnet()
    made = Translator(network, Header(describe(network), "ab"), backend="onnxruntime")
    made.tiling = Tiling(16)
    images.write(picture(20, 20), tmp_path / "x.png")
    for translate in (lambda: made.array(picture(8, 8)), lambda: made.folder(tmp_path, tmp_path / "out")):
        with pytest.raises(UsageError, match="--tiles 16: onnxruntime does not translate in tiles; give"):
            translate()
    assert not (tmp_path / "out").exists()


def test_what_has_no_window_is_one_line(translator, resnet):
    made, image = translator(), picture(64, 64)
    statistics = made.statistics(image)
    with pytest.raises(UsageError, match=r"must be whole numbers, not 0.5, 0, 8, 8$"):
        made.window(image, 0.5, 0, 8, 8, statistics=statistics)  # pyright: ignore[reportArgumentType]
    with pytest.raises(UsageError, match=r"x = 60, y = 0 does not lie inside the image of 64×64"):
        made.window(image, 60, 0, 5, 5, statistics=statistics)
    with pytest.raises(UsageError, match="the statistics are of another model; make them"):
        made.window(image, 0, 0, 8, 8, statistics=translator(resnet(blocks=2)).statistics(image))
    with pytest.raises(UsageError, match="statistics are of an image of 64×64"):
        made.window(picture(128, 64), 0, 0, 5, 5, statistics=statistics)


def test_exact_statistics_that_no_disk_holds(translator, monkeypatch):
    made, image = translator(), picture(256, 256)
    made.tiling = Tiling(64, memory=2**23, statistics="exact")
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10})())
    monkeypatch.setattr("twofold.translation.tiles.MAPS_SHARE", 0)
    with pytest.raises(TwofoldError, match="use --tile-statistics fast"):
        made.array(image)
