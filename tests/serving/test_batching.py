"""Images of equal working size go through the network together, the oldest first."""

import threading
import time

import numpy as np
import pytest
import torch

from twofold.exchange.load import load
from twofold.serving.batching import WINDOW, Batcher

from .service import picture, write_model


@pytest.fixture
def batcher():
    """A batcher that waits for `batcher.free` after each batch; `batcher.sizes` are those of its batches."""
    sizes, free = [], threading.Event()

    def on_batch(size, seconds):
        assert seconds > 0
        sizes.append(size)
        assert free.wait(10)

    made = Batcher(on_batch)
    made.sizes, made.free = sizes, free
    yield made
    free.set()
    made.close()


@pytest.fixture
def translator(tmp_path):
    return load(write_model(tmp_path / "h2z.safetensors"))


def busy(batcher, translator):
    """Keep the network busy with one image."""
    first = batcher.submit(translator, picture(), "trained")
    while not batcher.sizes:
        time.sleep(0.001)
    return first


def test_images_of_other_sizes_share_a_batch_where_the_network_sees_one_size(batcher, translator):
    first = busy(batcher, translator)
    sizes = [(40, 48), (64, 32), (32, 32), (80, 80), (24, 24)]
    given = [picture(*size) for size in sizes]
    waiting = [batcher.submit(translator, image, "trained") for image in given]
    native = batcher.submit(translator, picture(40, 40), "native")
    batcher.free.set()
    for image, each in zip(given, waiting, strict=True):
        done = each.result(10)
        assert done.image.shape == image.shape
        assert np.abs(done.image.astype(int) - translator.array(image)).max() <= 1
    assert first.result(10).problem == ""
    assert native.result(10).image.shape == (40, 40, 3)
    assert batcher.sizes == [1, 4, 1, 1]


def test_images_wait_for_each_other_for_a_moment(batcher, translator):
    batcher.free.set()
    together = [batcher.submit(translator, picture(), "trained") for _ in range(4)]
    assert [each.result(10).network > 0 for each in together] == [True] * 4
    start = time.monotonic()
    alone = batcher.submit(translator, picture(), "trained").result(10)
    assert WINDOW <= alone.queued < time.monotonic() - start
    assert len(batcher.sizes) < 5


def test_the_oldest_image_comes_first(batcher, translator):
    busy(batcher, translator)
    order = []
    for number, at in enumerate([24, 32, 24, 32, 40]):
        result = batcher.submit(translator, picture(), at)
        result.add_done_callback(lambda _, number=number: order.append(number))
    batcher.free.set()
    while len(order) < 5:
        time.sleep(0.001)
    assert order == [0, 2, 1, 3, 4]


def test_a_cancelled_image_is_left_out(batcher, translator):
    busy(batcher, translator)
    kept, left = (batcher.submit(translator, picture(), "trained") for _ in range(2))
    assert left.cancel()
    batcher.free.set()
    assert kept.result(10).image is not None
    assert batcher.sizes == [1, 1]


def test_an_image_that_fails_does_not_disturb_its_batch(batcher, translator, monkeypatch):
    busy(batcher, translator)
    good, bad = picture(), picture().astype(np.uint16)
    waiting = [batcher.submit(translator, image, "trained") for image in (good, bad, good)]
    batcher.free.set()
    results = [each.result(10) for each in waiting]
    assert "takes uint8 images" in results[1].problem and results[1].image is None
    assert np.array_equal(results[0].image, translator.array(good))
    monkeypatch.setattr(translator, "arrays", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        batcher.submit(translator, good, "trained").result(10)


def test_the_end_cancels_what_waits(batcher, translator):
    first = busy(batcher, translator)
    waiting = batcher.submit(translator, picture(), "trained")
    ended = threading.Thread(target=batcher.close)
    ended.start()
    while not waiting.cancelled():
        time.sleep(0.001)
    batcher.free.set()
    ended.join(10)
    assert first.result(10).image is not None


def test_the_network_keeps_the_threads_of_its_maker(translator):
    seen = []
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    batcher = Batcher(lambda *_: seen.append(torch.get_num_threads()))
    batcher.submit(translator, picture(), "trained").result(10)
    batcher.close()
    torch.set_num_threads(before)
    assert seen == [2]


def test_the_network_keeps_its_threads_when_others_take_one(translator):
    """torch gives the number set last to each thread that has run nothing yet, and codecs' threads set one."""
    before, found = torch.get_num_threads(), []
    torch.set_num_threads(2)
    made = Batcher(lambda size, seconds: found.append(torch.get_num_threads()))
    try:
        other = threading.Thread(target=torch.set_num_threads, args=(1,))
        time.sleep(0.05)  # the batcher's thread has begun
        other.start()
        other.join()
        made.submit(translator, picture(), "trained").result(20)
    finally:
        made.close()
        torch.set_num_threads(before)
    assert found == [2]
