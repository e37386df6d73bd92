"""The replay buffer against the original's image pool, given the same draws."""

import pytest
import torch
from torch import nn

from twofold.methods.replay import ReplayBuffer


class ImagePool:
    """The rule of the original's pool, in plain lists: draws come from outside."""

    def __init__(self, size):
        self.size, self.images = size, []

    def query(self, images, uniforms, places):
        if self.size == 0:
            return images
        returned = []
        for image, uniform, place in zip(images, uniforms, places, strict=True):
            if len(self.images) < self.size:
                self.images.append(image)
                returned.append(image)
            elif uniform > 0.5:
                returned.append(self.images[place])
                self.images[place] = image
            else:
                returned.append(image)
        return returned


def draws(seed, count, capacity):
    """What a buffer will draw for so many images."""
    torch.manual_seed(seed)
    return torch.rand(count).tolist(), torch.randint(capacity, (count,)).tolist()


@pytest.fixture(autouse=True)
def own_generator():
    with torch.random.fork_rng():
        yield


def images(first, count, layout=torch.contiguous_format):
    numbers = torch.arange(first, first + count, dtype=torch.float32)
    return numbers.view(-1, 1, 1, 1).expand(-1, 3, 4, 5).contiguous(memory_format=layout)


@pytest.mark.parametrize("capacity", [1, 3, 50])
@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_follows_the_pool(capacity, count, layout):
    buffer, pool = ReplayBuffer(capacity), ImagePool(capacity)
    swapped = 0
    for step in range(40):
        given = images(step * count, count, layout)
        expected = pool.query([float(image[0, 0, 0]) for image in given], *draws(step, count, capacity))
        torch.manual_seed(step)
        returned = buffer.exchange(given)
        assert returned.shape == given.shape
        assert returned[:, 0, 0, 0].tolist() == expected
        assert (returned == returned[:, :1, :1, :1]).all(), "images were mixed"
        swapped += expected != given[:, 0, 0, 0].tolist()
    assert [float(image[0, 0, 0, 0]) for image in buffer.content()] == pool.images
    assert (swapped > 5) == (capacity < 50 or count == 4)


def test_half_of_a_full_buffers_images_are_swapped():
    buffer = ReplayBuffer(10)
    torch.manual_seed(0)
    buffer.exchange(images(0, 10))
    given = images(10, 2000)
    kept = (buffer.exchange(given)[:, 0, 0, 0] == given[:, 0, 0, 0]).float().mean()
    assert 0.45 < kept < 0.55


def test_capacity_zero_passes_through():
    buffer, given = ReplayBuffer(0), images(0, 2).requires_grad_()
    state = torch.get_rng_state()
    returned = buffer.exchange(given)
    assert torch.equal(returned, given)
    assert not returned.requires_grad
    assert buffer.content() == []
    assert torch.equal(state, torch.get_rng_state()), "it drew for nothing"


def test_no_gradient_and_no_alias():
    buffer, given = ReplayBuffer(2), images(0, 2).requires_grad_()
    returned = buffer.exchange(2 * given)
    assert not returned.requires_grad
    assert all(not image.requires_grad and image.is_contiguous() for image in buffer.content())
    returned.zero_()
    assert [float(image.mean()) for image in buffer.content()] == [0.0, 2.0]


def loaded(buffer, capacity):
    again = ReplayBuffer(capacity)
    again.load_state_dict({name: tensor.clone() for name, tensor in buffer.state_dict().items()})
    return again


def continue_alike(buffer, again, batches):
    """Both return the same for the same draws, and hold the same afterwards."""
    for seed, batch in enumerate(batches):
        torch.manual_seed(seed)
        returned = buffer.exchange(batch)
        torch.manual_seed(seed)
        assert torch.equal(again.exchange(batch), returned)
    for one, other in zip(buffer.content(), again.content(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("stored", [0, 2, 5])
def test_a_loaded_buffer_continues_as_the_saved_one(stored):
    buffer = ReplayBuffer(3)
    for step in range(stored):
        buffer.exchange(images(step, 1))
    again = loaded(buffer, 3)
    assert len(again.content()) == min(stored, 3)
    continue_alike(buffer, again, [images(step, 1) for step in range(5, 15)])


def test_loading_replaces_what_a_buffer_holds():
    buffer = ReplayBuffer(2)
    buffer.exchange(images(0, 1))
    buffer.load_state_dict(ReplayBuffer(2).state_dict())
    assert buffer.content() == [] and buffer.rows is None


def test_images_of_several_sizes_are_saved_and_loaded():
    buffer = ReplayBuffer(3)
    batches = [torch.rand(1, 3, side, side) for side in (4, 8, 12, 4, 8, 12, 8)]
    for batch in batches:
        buffer.exchange(batch)
    assert sorted(buffer.state_dict()) == ["count", *(f"image_{place:06d}" for place in range(3))]
    again = ReplayBuffer(3)
    again.load_state_dict(dict(reversed(buffer.state_dict().items())))
    continue_alike(buffer, again, batches)
    assert loaded(ReplayBuffer(3), 3).content() == []


def test_it_moves_with_its_module():
    buffer = ReplayBuffer(2)
    buffer.exchange(images(0, 1))
    assert {x.device.type for x in nn.ModuleList([buffer]).to("meta").buffers()} == {"meta"}


def test_whole_images_of_several_sizes():
    buffer, shapes = ReplayBuffer(2), set()
    torch.manual_seed(3)
    for side in (4, 8, 12, 4, 8, 12, 4, 8, 12):
        shapes.add(tuple(buffer.exchange(torch.rand(1, 3, side, side)).shape))
    assert shapes == {(1, 3, 4, 4), (1, 3, 8, 8), (1, 3, 12, 12)}
