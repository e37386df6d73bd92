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
from twofold.evaluation.features import batches, features, features_of_files, own_network
from twofold.formats import images
from twofold.formats.display import View
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
    network = own_network(scripted(small), CPU)
    x, y = (features_of_files(network, paths, View(), "hwc", CPU).astype(np.float64) for paths in sets)
    mine = [np.stack([by_hand(small.conv, images.read(path, 3)) for path in paths]) for paths in sets]
    assert np.allclose(x, mine[0], rtol=1e-5) and np.allclose(y, mine[1], rtol=1e-5)
    (mean_x, cov_x), (mean_y, cov_y) = ((z.mean(0), np.cov(z, rowvar=False)) for z in mine)
    values, vectors = np.linalg.eigh(cov_x)
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T
    shared = np.sqrt(np.linalg.eigvalsh(root @ cov_y @ root).clip(0)).sum()
    twin = np.square(mean_x - mean_y).sum() + np.trace(cov_x + cov_y) - 2 * shared
    assert fid(x, y).value == pytest.approx(twin, rel=1e-3)


def test_sizes_and_channels_may_differ(rng, scripted, small):
    network = own_network(scripted(small), CPU)
    mixed = [*pictures(rng, 3, 8, 8, 3), *pictures(rng, 2, 8, 6, 1), *pictures(rng, 18, 8, 8, 4)]
    found = features(network, mixed, CPU)
    assert found.shape == (23, 5)
    for row, picture in zip(found, mixed, strict=True):
        colours = picture[..., :3] if picture.shape[2] > 1 else picture.repeat(3, 2)
        assert np.allclose(row, by_hand(small.conv, colours), atol=1e-5)


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
        (Maps(), UsageError, r"maps gives \(2, 3, 8, 8\) for 2 images; a feature network gives \(N, D\)"),
        (Pooled(), UsageError, r"maps gives \(3,\) for 2 images"),
        (Broken(), TwofoldError, "not finite"),
        (Fixed(), UsageError, "maps does not take images of 8×8 pixels .*resize inside the network"),
    ],
)
def test_networks_that_give_no_features(rng, scripted, module, error, words):
    with pytest.raises(error, match=words):
        features(own_network(scripted(module, "maps"), CPU), pictures(rng, 2, 8, 8, 3), CPU)


class Identity(nn.Module):
    def forward(self, x):
        return x.flatten(1)


def test_features_come_in_order(rng, scripted):
    shown = pictures(rng, 35, 4, 4, 3)
    found = features(own_network(scripted(Identity()), CPU), shown, CPU)
    again = images.to_uint8(torch.from_numpy(found).reshape(35, 3, 4, 4)).permute(0, 2, 3, 1)
    assert np.array_equal(again, np.stack(shown))


def test_features_of_different_sizes_cannot_be_compared(rng, scripted):
    mixed = [*pictures(rng, 2, 4, 4, 3), *pictures(rng, 2, 4, 5, 3)]
    with pytest.raises(UsageError, match="a different number of features"):
        features(own_network(scripted(Identity()), CPU), mixed, CPU)


def test_images_are_prepared_before_they_go_to_the_device(rng, scripted, small):
    """torch resizes bytes on a CPU only."""
    seen = []
    network = own_network(scripted(small), CPU)
    watched = network._replace(prepare=lambda x: seen.append(x.device.type) or network.prepare(x))
    (batch,) = batches(watched, pictures(rng, 2, 12, 20, 3), torch.device("meta"))
    assert seen == ["cpu", "cpu"] and batch.shape == (2, 3, 12, 20) and batch.device.type == "meta"


def test_a_folder_is_looked_at_once(rng, tmp_path, scripted, small, monkeypatch):
    for i, picture in enumerate(pictures(rng, 3, 8, 8, 3)):
        images.write(picture, tmp_path / f"{i}.png")
    paths, network = images.find(tmp_path), own_network(scripted(small), CPU)
    first = features_of_files(network, paths, View(), "hwc", CPU)
    monkeypatch.setattr(room, "features", lambda *_: pytest.fail("looked again"))
    assert np.array_equal(features_of_files(network, paths, View(), "hwc", CPU), first)
    monkeypatch.undo()
    red = features_of_files(network, paths, View(channels=(0,)), "hwc", CPU)
    assert not np.array_equal(red, first)
    images.write(255 - images.read(paths[1], 3), paths[1])
    assert not np.array_equal(features_of_files(network, paths, View(), "hwc", CPU), first)


def test_the_cache_stays_small(rng, tmp_path, monkeypatch):
    monkeypatch.setenv("TWOFOLD_CACHE", str(tmp_path))
    folder = cache.home(DataSettings()) / "features"
    monkeypatch.setattr(room, "CACHE_BYTES", 1000)
    for i in range(4):
        room.store(np.zeros(60, np.float32), folder / f"old-{i}.npy")
        os.utime(folder / f"old-{i}.npy", (i, i))
    room.store(np.zeros(60, np.float32), folder / "new.npy")
    kept = sorted(path.name for path in folder.glob("*.npy"))
    assert kept == ["new.npy", "old-3.npy"]  # of 368 bytes each


def test_files_that_are_no_network(tmp_path):
    with pytest.raises(UsageError, match="there is no network"):
        own_network(tmp_path / "gone.pt", CPU)
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(UsageError, match=r"cannot read .* as TorchScript"):
        own_network(tmp_path / "text.pt", CPU)


def test_onnx_without_its_runtime_names_the_extra(tmp_path, monkeypatch):
    (tmp_path / "net.onnx").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UsageError, match=r"pip install 'twofold\[export\]'"):
        own_network(tmp_path / "net.onnx", CPU)


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
    found = features(own_network(tmp_path / "net.onnx", CPU), shown, CPU)
    assert seen == [(3, 3, 6, 6)]
    assert np.allclose(found[0], images.resize(shown[0], 6, 6).mean((0, 1)) / 127.5 - 1, atol=1e-5)
