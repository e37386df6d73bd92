"""Feature networks: what goes in, what comes out, what is refused; and a FID from files against a NumPy twin."""

import os
import sys

import numpy as np
import pytest
import torch
from torch import nn

from twofold.data import cache
from twofold.data.settings import DataSettings
from twofold.errors import TwofoldError, UsageError
from twofold.evaluation import features as room
from twofold.evaluation.features import features, of_files, outputs, own_network
from twofold.formats import images
from twofold.metrics.distribution import fid

CPU = torch.device("cpu")


@pytest.fixture
def rng():
    return np.random.default_rng(2)


def pictures(rng, count, *shape):
    return [rng.integers(0, 256, shape, dtype=np.uint8) for _ in range(count)]


def by_hand(conv, picture):
    """`conftest.Small` in NumPy."""
    x = picture.astype(np.float64) / 127.5 - 1
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(0, 1))  # (H, W, C, 3, 3)
    maps = (
        np.einsum("hwcij,ocij->ohw", windows, conv.weight.double().numpy()) + conv.bias.numpy()[:, None, None]
    )
    return np.maximum(maps, 0).mean((1, 2))


def test_fid_from_files_is_that_of_a_numpy_twin(rng, tmp_path, scripted, small):
    sets = []
    for name, low in (("made", 0), ("real", 60)):
        for i in range(14):
            images.write(rng.integers(low, 256, (9, 11, 3), dtype=np.uint8), tmp_path / name / f"{i}.png")
        sets.append(images.find(tmp_path / name))
    network = own_network(scripted(small), None, CPU)
    x, y = (of_files(network, paths, 3, CPU).astype(np.float64) for paths in sets)
    mine = [np.stack([by_hand(small.conv, images.read(path, 3)) for path in paths]) for paths in sets]
    assert np.allclose(x, mine[0], rtol=1e-5) and np.allclose(y, mine[1], rtol=1e-5)
    (mean_x, cov_x), (mean_y, cov_y) = ((z.mean(0), np.cov(z, rowvar=False)) for z in mine)
    values, vectors = np.linalg.eigh(cov_x)
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T
    shared = np.sqrt(np.linalg.eigvalsh(root @ cov_y @ root).clip(0)).sum()
    twin = np.square(mean_x - mean_y).sum() + np.trace(cov_x + cov_y) - 2 * shared
    assert fid(x, y).value == pytest.approx(twin, rel=1e-3)


def test_sizes_and_channels_may_differ(rng, scripted, small):
    network = own_network(scripted(small), None, CPU)
    mixed = [*pictures(rng, 3, 8, 8, 3), *pictures(rng, 2, 8, 6, 1), *pictures(rng, 18, 8, 8, 4)]
    found = features(network, mixed, CPU)
    assert found.shape == (23, 5)
    for row, picture in zip(found, mixed, strict=True):
        colours = picture[..., :3] if picture.shape[2] > 1 else picture.repeat(3, 2)
        assert np.allclose(row, by_hand(small.conv, colours), atol=1e-5)


def test_a_network_may_want_one_size(rng, scripted, small):
    picture = pictures(rng, 1, 20, 30, 3)[0]
    found = features(own_network(scripted(small), 12, CPU), [picture], CPU)[0]
    assert np.allclose(found, by_hand(small.conv, images.resize(picture, 12, 12)), atol=1e-5)


class Maps(nn.Module):
    def forward(self, x):
        return x


class Pooled(nn.Module):
    def forward(self, x):
        return x.mean((0, 2, 3))


class Broken(nn.Module):
    def forward(self, x):
        return x.mean((2, 3)) / 0


class Fixed(nn.Module):
    def forward(self, x):
        return x.reshape(-1, 3 * 7 * 7)


@pytest.mark.parametrize(
    ("module", "error", "words"),
    [
        (Maps(), UsageError, r"maps gives \(3, 8, 8\) for an image; a feature network gives a row"),
        (Pooled(), UsageError, r"maps gives \(3,\) for 2 images"),
        (Broken(), TwofoldError, "not finite"),
        (Fixed(), UsageError, "maps does not take images of 8×8 pixels .*--network-size"),
    ],
)
def test_networks_that_give_no_features(rng, scripted, module, error, words):
    with pytest.raises(error, match=words):
        features(own_network(scripted(module, "maps"), None, CPU), pictures(rng, 2, 8, 8, 3), CPU)


def test_outputs_come_one_by_one_in_order(rng, scripted):
    shown = pictures(rng, 35, 4, 4, 3)
    found = list(outputs(own_network(scripted(Maps()), None, CPU), shown, CPU))
    for one, picture in zip(found, shown, strict=True):
        assert torch.equal(images.to_uint8(one), torch.from_numpy(picture).permute(2, 0, 1))


def test_images_are_resized_before_they_go_to_the_device(rng, scripted, small):
    """On others than CPUs torch resizes no bytes."""
    seen = []
    network = own_network(scripted(small), 8, CPU)
    watched = network._replace(
        prepare=lambda x: seen.append(x.device.type) or network.prepare(x),
        run=lambda x: seen.append((x.device.type, x.shape)) or torch.zeros(len(x), 2),
    )
    assert len(list(outputs(watched, pictures(rng, 2, 12, 20, 3), torch.device("meta")))) == 2
    assert seen == ["cpu", "cpu", ("meta", (2, 3, 8, 8))]


def test_a_folder_is_looked_at_once(rng, tmp_path, scripted, small, monkeypatch):
    for i, picture in enumerate(pictures(rng, 3, 8, 8, 3)):
        images.write(picture, tmp_path / f"{i}.png")
    paths, network = images.find(tmp_path), own_network(scripted(small), None, CPU)
    first = of_files(network, paths, 3, CPU)
    monkeypatch.setattr(room, "features", lambda *_: pytest.fail("looked again"))
    assert np.array_equal(of_files(network, paths, 3, CPU), first)
    monkeypatch.undo()
    images.write(255 - images.read(paths[1], 3), paths[1])
    assert not np.array_equal(of_files(network, paths, 3, CPU), first)


def test_the_cache_stays_small(rng, tmp_path, monkeypatch):
    monkeypatch.setenv("TWOFOLD_CACHE", str(tmp_path))
    folder = cache.home(DataSettings()) / "features"
    monkeypatch.setattr(room, "CACHE_BYTES", 1000)
    for i in range(4):
        room.keep(np.zeros(60, np.float32), folder / f"old-{i}.npy")
        os.utime(folder / f"old-{i}.npy", (i, i))
    room.keep(np.zeros(60, np.float32), folder / "new.npy")
    kept = sorted(path.name for path in folder.glob("*.npy"))
    assert kept == ["new.npy", "old-3.npy"]  # of 368 bytes each


def test_files_that_are_no_network(tmp_path):
    with pytest.raises(UsageError, match="there is no network"):
        own_network(tmp_path / "gone.pt", None, CPU)
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(UsageError, match=r"cannot read .* as TorchScript"):
        own_network(tmp_path / "text.pt", None, CPU)


def test_onnx_without_its_runtime_names_the_extra(tmp_path, monkeypatch):
    (tmp_path / "net.onnx").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UsageError, match=r"pip install 'twofold\[onnx\]'"):
        own_network(tmp_path / "net.onnx", None, CPU)


def test_onnx_is_run_at_the_size_it_has(rng, tmp_path, monkeypatch):
    """A stand-in for onnxruntime, which is optional: what is passed on and what comes back."""
    seen = []

    class Input:
        name, shape = "pixels", ["n", 3, 6, 6]

    class Session:
        def __init__(self, path, providers):
            pass

        def get_inputs(self):
            return [Input]

        def run(self, names, given):
            seen.append(given["pixels"].shape)
            return [given["pixels"].mean((2, 3))]

    monkeypatch.setitem(sys.modules, "onnxruntime", type(sys)("onnxruntime"))
    monkeypatch.setattr(sys.modules["onnxruntime"], "InferenceSession", Session, raising=False)
    (tmp_path / "net.onnx").write_bytes(b"")
    shown = pictures(rng, 3, 12, 9, 3)
    found = features(own_network(tmp_path / "net.onnx", None, CPU), shown, CPU)
    assert seen == [(3, 3, 6, 6)]
    assert np.allclose(found[0], images.resize(shown[0], 6, 6).mean((0, 1)) / 127.5 - 1, atol=1e-5)
