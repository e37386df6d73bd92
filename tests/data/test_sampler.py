from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from twofold.data.sampler import offset, pick, placement
from twofold.randomness import generator


@given(count=st.integers(1, 30), cycle=st.integers(0, 1000), seed=st.integers(0, 2**40))
def test_every_cycle_is_a_permutation(count, cycle, seed):
    picked = [pick(seed, "a", count, cycle * count + i) for i in range(count)]
    assert sorted(picked) == list(range(count))


def test_orders_differ_by_cycle_domain_and_seed():
    def order(seed, domain, cycle):
        return tuple(pick(seed, domain, 50, cycle * 50 + i) for i in range(50))

    orders = [order(0, "a", 0), order(0, "a", 1), order(0, "b", 0), order(1, "a", 0)]
    assert len(set(orders)) == 4
    assert order(0, "a", 0) == orders[0]


def test_an_epoch_sees_the_larger_side_once_and_the_smaller_evenly():
    seen_a = Counter(pick(3, "a", 7, p) for p in range(20))
    seen_b = Counter(pick(3, "b", 20, p) for p in range(20))
    assert set(seen_b.values()) == {1} and len(seen_b) == 20
    assert len(seen_a) == 7 and set(seen_a.values()) <= {2, 3}


def test_pairs_are_unpaired():
    together = Counter((pick(0, "a", 5, p), pick(0, "b", 5, p)) for p in range(5 * 400))
    assert len(together) == 25
    assert max(together.values()) < 130 and min(together.values()) > 40  # 80 expected


def test_placements_are_uniform_and_pure():
    drawn = [placement(1, "a", p) for p in range(4000)]
    assert drawn[17] == placement(1, "a", 17)
    assert drawn[17] != placement(1, "b", 17) != placement(2, "a", 17)
    numbers = np.array([[d.y, d.x, d.flip, *((j + 1) / 2 for j in d.jitter)] for d in drawn])
    assert np.abs(numbers.mean(0) - 0.5).max() < 0.03
    assert np.abs(np.corrcoef(numbers.T) - np.eye(6)).max() < 0.06
    assert numbers.min() >= 0 and numbers[:, :2].max() < 1
    assert abs(np.mean([d.upside_down for d in drawn]) - 0.5) < 0.03
    assert np.abs(np.bincount([d.turns for d in drawn]) / len(drawn) - 0.25).max() < 0.03


def test_later_draws_leave_the_earlier_ones_as_they_were():
    for p in range(20):
        y, x, flip, *jitter = generator("placement", 1, "a", p).random(6)
        assert placement(1, "a", p)[:3] == (y, x, flip < 0.5)
        assert placement(1, "a", p).jitter == tuple(2 * draw - 1 for draw in jitter)


@given(room=st.integers(0, 5000), fraction=st.floats(0, 1, exclude_max=True))
def test_an_offset_leaves_no_edge(room, fraction):
    assert 0 <= offset(fraction, room) <= room
    assert offset(0.0, room) == 0
    assert offset(1 - 2**-53, room) == room
