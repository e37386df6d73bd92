from itertools import islice

import numpy as np
import pytest
import torch

from twofold.data.build import build_manifest
from twofold.data.dataset import open_images
from twofold.data.loader import Loader
from twofold.data.manifest import Manifest
from twofold.errors import UsageError
from twofold.formats import images

CPU = torch.device("cpu")


@pytest.fixture
def folders(fill, tmp_path):
    """Three images in A and two in B; the masks of A keep what is bright in its first channel."""
    a, b = fill("A", 3), fill("B", 2)
    for path in images.find(a):
        images.write(images.read(path)[..., :1], tmp_path / "masks" / path.name)
    return a, b


@pytest.fixture
def indexed(folders, small, tmp_path):
    def run(**changes):
        lines = []
        settings = small(**{"masks_a": tmp_path / "masks", "resize": "crop", **changes})
        return build_manifest(*folders, settings, 0, lines.append), settings, lines

    return run


@pytest.mark.parametrize("augment", [(), ("vertical", "turns")])
@pytest.mark.parametrize("paired", [False, True])
def test_a_mask_is_cut_mirrored_and_turned_with_its_image(indexed, folders, paired, augment):
    if paired:
        (folders[0] / "2.png").unlink()
    manifest, settings, _ = indexed(paired=paired, augment=augment)
    stores = open_images(Manifest.from_json(manifest.to_json()), settings, print)
    with Loader(stores.a, stores.b, settings, 3, batch=2, device=CPU, paired=paired) as loader:
        seen = 0.0
        for a, b, _, mask_a, mask_b in islice(loader, 5):
            assert (
                mask_a is not None and mask_b is None and mask_a.shape == (2, 1, 8, 8) and b.shape == a.shape
            )
            assert torch.equal(mask_a, (a[:, :1] > 0).float())
            seen += mask_a.mean().item() / 5
    assert 0.3 < seen < 0.7


def test_masks_are_frozen_with_the_images(indexed, changes, tmp_path):
    manifest, _, _ = indexed()
    assert Manifest.from_json(manifest.to_json()) == manifest and changes(manifest) == []
    images.write(np.zeros((16, 20, 1), np.uint8), tmp_path / "masks" / "other.png")
    assert changes(manifest) == []  # of an image that is not there
    images.write(np.zeros((16, 20, 1), np.uint8), tmp_path / "masks" / "1.png")
    (tmp_path / "masks" / "2.png").unlink()
    assert changes(manifest) == ["masks of A: 2.png was removed", "masks of A: 1.png was altered"]


def test_held_out_images_leave_the_masks_in_step(fill, indexed, tmp_path):
    folder = fill("A", 41)
    for path in images.find(folder):
        images.write(images.read(path)[..., :1], tmp_path / "masks" / path.name)
    manifest, settings, _ = indexed()
    stores = open_images(manifest, settings, print)
    assert len(stores.a) == 33 and stores.a.masks is not None and len(stores.a.masks) == 33
    assert [path.name for path in stores.a.paths] == [path.name for path in stores.a.masks.paths]


def test_masks_that_do_not_fit_are_named(indexed, tmp_path):
    masks = tmp_path / "masks"
    images.write(np.zeros((16, 30, 1), np.uint8), masks / "1.png")
    with pytest.raises(UsageError, match=r"sizes that differ: 1.png \(20 x 16\) with 1.png \(30 x 16\)"):
        indexed()
    (masks / "1.png").write_text("no image")
    with pytest.raises(UsageError, match=r"cannot be read: 1.png \(not an image"):
        indexed()
    images.write(np.zeros((16, 20, 1), np.uint8), masks / "0.jpg")
    (masks / "1.png").unlink()
    with pytest.raises(
        UsageError, match=r"more than one mask of one name: 0.jpg = 0.png; no mask for: 1.png"
    ):
        indexed()
