import pytest
import torch

from twofold.data.dataset import Images, ImageStore, open_images
from twofold.data.geometry import LoadRule
from twofold.data.loader import Loader, load_plain_batch
from twofold.data.manifest import Manifest
from twofold.errors import TwofoldError
from twofold.formats import images
from twofold.formats.contract import Contract


def test_a_file_lost_before_the_cache_was_rebuilt_is_named(fill, build, small):
    a, b = fill("A", 3), fill("B", 2)
    manifest = Manifest.from_json(build(a, b, cache=False)[0].to_json())
    (a / "1.png").write_bytes(b"")
    with pytest.raises(TwofoldError, match=r"1.png can no longer be read"):
        open_images(manifest, small(), print)


def test_images_can_lie_on_the_device(fill, small, build):
    """Meta stands in for a GPU: what is there has shapes, and whatever brought it back would be an error."""
    manifest = build(fill("A", 60), fill("B", 50))[0]
    stores = open_images(manifest, small(), print)
    size = sum(store.pixels.nbytes for store in stores[:2])
    meta = torch.device("meta")
    assert stores.resident(meta, size - 1) is stores
    there = stores.resident(meta, size)
    assert there.a.pixels.is_meta and there.b.pixels.is_meta and len(there.a) == len(stores.a)
    assert there.held_out_a is stores.held_out_a and not stores.a.pixels.is_meta
    with Loader(there.a, there.b, small(jitter=0.2), 7, batch=3, device=meta) as loader:
        a, b, *_ = next(loader)
    assert a.is_meta and b.is_meta and a.shape == (3, 3, 8, 8)
    here = load_plain_batch(stores.a.on(torch.device("cpu")), [4, 1], 5)
    assert all(torch.equal(*both) for both in zip(here, load_plain_batch(stores.a, [4, 1], 5), strict=True))


def test_undecoded_images_stay_where_they_are(fill, small):
    store = ImageStore(images.find(fill("A", 2)), LoadRule(small(), Contract(), 4))
    there = Images(store, store, store, store).resident(torch.device("meta"), 0)
    assert there.a.pixels is None and torch.equal(there.a[1], store[1])
