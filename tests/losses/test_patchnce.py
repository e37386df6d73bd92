import math

import pytest
import torch

from twofold.losses.patchnce import PatchHeads, patch_contrast, unit


def vectors(seed, count=2, places=5, width=4):
    draws = torch.Generator().manual_seed(seed)
    return unit(torch.randn(count, places, width, generator=draws, dtype=torch.float64))


def test_contrast_equals_a_loop_over_places():
    queries, keys, total = vectors(0), vectors(1), 0.0
    for mine, its in zip(queries.tolist(), keys.tolist(), strict=True):
        for place, query in enumerate(mine):
            similar = [sum(x * y for x, y in zip(query, key, strict=True)) / 0.07 for key in its]
            total += math.log(sum(map(math.exp, similar))) - similar[place]
    assert patch_contrast(queries, keys).item() == pytest.approx(total / 10, rel=1e-9)


def test_keys_take_no_gradient():
    queries, keys = vectors(0).requires_grad_(), vectors(1).requires_grad_()
    patch_contrast(queries, keys).backward()
    assert keys.grad is None and queries.grad is not None


def test_an_image_is_not_contrasted_with_its_neighbours_in_the_batch():
    queries, keys = vectors(0), vectors(1)
    alone = [patch_contrast(q[None], k[None]) for q, k in zip(queries, keys, strict=True)]
    torch.testing.assert_close(patch_contrast(queries, keys), sum(alone) / 2)


def test_heads_take_the_named_places_and_give_unit_vectors():
    torch.manual_seed(0)
    heads = PatchHeads([3, 6], width=4)
    maps = [torch.randn(2, 3, 4, 5), torch.randn(2, 6, 2, 2)]
    places = [torch.tensor([0, 7, 19]), torch.tensor([3])]
    found = heads(maps, places)
    assert [x.shape for x in found] == [(2, 3, 4), (2, 1, 4)]
    patch = maps[0][1, :, 7 // 5, 7 % 5]  # row-major
    expected = heads.heads[0](patch)
    torch.testing.assert_close(found[0][1, 1], expected / expected.norm(), rtol=1e-5, atol=1e-6)
    assert found[1].norm(dim=-1).flatten().tolist() == pytest.approx([1, 1], rel=1e-4)


def test_autocast_does_not_round_the_products():
    queries, keys = vectors(0).float(), vectors(1).float()
    right = patch_contrast(queries, keys)
    with torch.autocast("cpu", torch.bfloat16):
        assert patch_contrast(queries, keys) == right
