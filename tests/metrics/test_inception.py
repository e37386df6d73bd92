"""FID's network: its resizes against loops and Pillow, itself against an independent one, its weights' file."""

import hashlib
import importlib.util
import sys
import types

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from twofold.errors import TwofoldError, UsageError
from twofold.metrics import inception
from twofold.metrics.inception import Inception, clean_resize, download, load, tensorflow_resize


@pytest.fixture
def rng():
    return np.random.default_rng(9)


def tensorflow_twin(plane):
    """Bilinear at the places i · H / 299, the last row and column repeated, pixel by pixel."""
    height, width = plane.shape
    result = np.empty((299, 299))
    for i in range(299):
        for j in range(299):
            y, x = i * height / 299, j * width / 299
            top, left = int(y), int(x)
            below, right = min(top + 1, height - 1), min(left + 1, width - 1)
            upper = plane[top, left] + (plane[top, right] - plane[top, left]) * (x - left)
            lower = plane[below, left] + (plane[below, right] - plane[below, left]) * (x - left)
            result[i, j] = upper + (lower - upper) * (y - top)
    return result


@pytest.mark.parametrize("shape", [(7, 12), (310, 400)])
def test_the_resize_of_tensorflow(rng, shape):
    plane = rng.integers(0, 256, shape, dtype=np.uint8)
    found = tensorflow_resize(torch.from_numpy(plane)[None, None].expand(1, 3, *shape))
    assert found.shape == (1, 3, 299, 299)
    assert np.allclose(found[0, 2] * 128 + 128, tensorflow_twin(plane.astype(float)), atol=2e-2)


def test_the_clean_resize_is_pillows(rng):
    picture = rng.integers(0, 256, (400, 350, 3), dtype=np.uint8)
    found = clean_resize(torch.from_numpy(picture).permute(2, 0, 1)[None])
    for c in range(3):
        plane = Image.fromarray(picture[..., c].astype(np.float32)).resize(
            (299, 299), Image.Resampling.BICUBIC
        )
        assert np.allclose(found[0, c] * 128 + 128, np.array(plane).clip(0, 255), atol=1e-2)


def weights(seed=0):
    """Random weights under the published file's names."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = Inception()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, 0, 0.1)
                nn.init.normal_(module.running_mean, 0, 0.1)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
        return network.state_dict() | {"fc.weight": torch.randn(1008, 2048), "fc.bias": torch.randn(1008)}


def test_the_weights_of_a_file_without_counters(tmp_path):
    stored = {name: w for name, w in weights().items() if not name.endswith("num_batches_tracked")}
    torch.save(stored, tmp_path / "w.pth")
    network = load(tmp_path / "w.pth")
    with torch.inference_mode():
        found = network(torch.zeros(1, 3, 299, 299))
    assert found.shape == (1, 2048) and found.isfinite().all() and found.std() > 0
    assert (
        len(stored) == 472
    )  # 94 convolutions of one weight and four of batch norm, and the classifier's two


def test_files_that_are_no_weights(tmp_path):
    with pytest.raises(UsageError, match=r"--download-weights.*--inception"):
        load(tmp_path / "gone.pth")
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(UsageError, match="does not hold the weights"):
        load(tmp_path / "text.pth")
    torch.save({"conv": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(UsageError, match="does not hold the weights"):
        load(tmp_path / "other.pth")


def test_a_download_is_kept_if_its_checksum_is_right(tmp_path):
    (tmp_path / "source").write_bytes(b"weights")
    address = (tmp_path / "source").as_uri()
    target = tmp_path / "cache" / "w.pth"
    with pytest.raises(TwofoldError, match="is not the published file"):
        download(target, address, "0" * 64)
    assert list(target.parent.iterdir()) == []
    download(target, address, hashlib.sha256(b"weights").hexdigest())
    assert target.read_bytes() == b"weights"


def test_without_a_connection_the_place_is_named(tmp_path):
    with pytest.raises(TwofoldError, match=r"cannot fetch .* put that file at .*w\.pth"):
        download(tmp_path / "w.pth", (tmp_path / "nothing").as_uri())


def test_published_weights_are_those_that_fid_names():
    assert inception.SHA256.startswith(inception.NAME.rsplit("-", 1)[1].removesuffix(".pth"))


def test_the_features_of_an_independent_inception(tmp_path, rng, monkeypatch):
    found = importlib.util.find_spec("torch_fidelity")
    if found is None:
        pytest.skip("torch-fidelity is not installed")
    if importlib.util.find_spec("torchvision") is None:  # which only other parts of it need
        package = types.ModuleType("torch_fidelity")
        package.__path__ = list(found.submodule_search_locations)
        monkeypatch.setitem(sys.modules, "torch_fidelity", package)
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    torch.save(weights(), tmp_path / "w.pth")
    other = FeatureExtractorInceptionV3(
        "inception-v3-compat", ["2048"], feature_extractor_weights_path=str(tmp_path / "w.pth")
    )
    pictures = torch.from_numpy(rng.integers(0, 256, (2, 3, 70, 90), dtype=np.uint8))
    with torch.inference_mode():
        assert torch.allclose(
            load(tmp_path / "w.pth")(tensorflow_resize(pictures)), other(pictures)[0], atol=1e-5
        )
