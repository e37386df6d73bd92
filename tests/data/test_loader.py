import threading
from itertools import islice

import pytest
import torch

from twofold.data.dataset import ImageStore
from twofold.data.geometry import LoadRule
from twofold.data.loader import Loader, load_plain_batch
from twofold.data.sampler import offset, pick, placement
from twofold.errors import TwofoldError, UsageError
from twofold.formats import images
from twofold.formats.contract import Contract
from twofold.prefetch import prefetch

CPU = torch.device("cpu")


@pytest.fixture
def stores(fill, small):
    def store(name, count):
        folder = fill(name, count)
        return ImageStore(images.find(folder), LoadRule(small(), Contract(), 4))

    return store("A", 5), store("B", 3)


def stream(stores, settings, steps, **options):
    with Loader(*stores, settings, 7, device=CPU, **{"batch": 1, **options}) as loader:
        return [(a, b) for a, b, *_ in islice(loader, steps)]


def same(one, other):
    return all(torch.equal(x, y) for pair in zip(one, other, strict=True) for x, y in zip(*pair, strict=True))


def test_batches_are_what_the_position_says(stores, small):
    batches = stream(stores, small(), 4, batch=2)
    for k, batch in enumerate(batches):
        for domain, store, tensor in zip(("a", "b"), stores, batch, strict=True):
            assert tensor.shape == (2, 3, 8, 8) and tensor.dtype == torch.float32 and tensor.is_contiguous()
            for i in range(2):
                position = 2 * k + i
                image = store[pick(7, domain, len(store), position)]
                place = placement(7, domain, position)
                top, left = offset(place.y, 1), offset(place.x, 1)
                crop = image[top : top + 8, left : left + 8].permute(2, 0, 1) / 127.5 - 1
                assert torch.allclose(tensor[i], crop.flip(2) if place.flip else crop, atol=1e-6)


@pytest.mark.parametrize("workers", [1, 3])
def test_a_stream_goes_on_anywhere(stores, small, workers):
    whole = stream(stores, small(jitter=0.3), 9)
    for start in (0, 1, 5):
        assert same(stream(stores, small(jitter=0.3, workers=workers), 9 - start, start=start), whole[start:])


def test_ranks_share_the_stream_of_one(stores, small):
    whole = stream(stores, small(), 12)
    ranks = [stream(stores, small(), 2, batch=3, rank=rank, world=2) for rank in range(2)]
    shared = [
        tuple(side[i : i + 1] for side in batch)
        for pair in zip(*ranks, strict=True)
        for batch in pair
        for i in range(3)
    ]
    assert same(shared, whole)


def test_flip_and_jitter_can_be_off(stores, small):
    plain, flipped = stream(stores, small(flip=False), 6), stream(stores, small(), 6)
    for (a, _), (b, _) in zip(plain, flipped, strict=True):
        assert torch.equal(a, b) or torch.equal(a, b.flip(3))
    assert not same(plain, flipped)
    assert not same(plain, stream(stores, small(flip=False, jitter=0.5), 6))


def test_augmentation_turns_what_the_plain_stream_has(stores, small):
    plain, changed = stream(stores, small(), 12), stream(stores, small(augment=("vertical", "turns")), 12)
    seen = set()
    for k, ((a, _), (turned, _)) in enumerate(zip(plain, changed, strict=True)):
        place = placement(7, "a", k)
        a = a.flip(2) if place.upside_down else a
        assert torch.equal(turned, a.rot90(place.turns, (2, 3)))
        seen.add((place.upside_down, place.turns))
    assert len(seen) > 4


def test_whole_images_come_one_by_one(fill, small):
    settings = small(resize="none")
    folder = fill("A", 2)
    fill("A", 1, size=(31, 17), first=2)
    store = ImageStore(images.find(folder), LoadRule(settings, Contract(), 4))
    shapes = {tuple(a.shape) for a, _ in stream((store, store), settings, 3)}
    assert shapes == {(1, 3, 16, 20), (1, 3, 16, 28)}
    with pytest.raises(UsageError, match=r"cannot be batched; set training\.batch to 1"):
        Loader(store, store, settings, 0, batch=2, device=CPU)
    settings = small(resize="scale-width", load_size=30)
    store = ImageStore(images.find(folder), LoadRule(settings, Contract(), 4))
    assert {tuple(a.shape) for a, _ in stream((store, store), settings, 3)} == {
        (1, 3, 24, 28),
        (1, 3, 16, 28),
    }
    with pytest.raises(UsageError, match=r"whole images \(data\.resize scale-width\) cannot be batched"):
        Loader(store, store, settings, 0, batch=2, device=CPU)


def test_a_file_that_has_gone_is_named(stores, small):
    stores[0].paths[0].unlink()
    with pytest.raises(TwofoldError, match=r"0\.png: No such file"):
        stream(stores, small(), 5)
    assert not data_threads()


def test_closing_ends_the_threads_and_the_stream(stores, small):
    with Loader(*stores, small(), 0, batch=1, device=CPU) as loader:
        next(loader)
        assert data_threads()
        assert loader.waiting > 0
    assert not data_threads()
    assert list(loader) == []


def data_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("twofold-data")]


def test_plain_pictures_are_the_middle_as_it_is(stores):
    plain = load_plain_batch(stores[0], [2], 5)[0]
    assert plain.dtype == torch.uint8 and plain.shape == (3, 5, 5)
    assert torch.equal(plain, stores[0][2][2:7, 2:7].permute(2, 0, 1))
    assert torch.equal(load_plain_batch(stores[0], [2, 0], 5)[0], plain)
    assert load_plain_batch(stores[0], [0], None).shape == (1, 3, 9, 9)


def test_ahead_keeps_the_order_and_the_depth():
    started = []
    items = prefetch(lambda i: started.append(i) or i * i, range(100), threads=2, depth=3)
    assert list(islice(items, 5)) == [0, 1, 4, 9, 16]
    items.close()
    assert max(started) <= 5 + 3
    assert list(prefetch(str, range(4), 2, 10)) == ["0", "1", "2", "3"]


def test_workers_leave_torch_one_thread_and_the_caller_its_own():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert list(prefetch(lambda _: torch.get_num_threads(), range(3), threads=2, depth=3)) == [1, 1, 1]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
