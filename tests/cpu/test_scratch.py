"""Memory that is used again and again: each thread's and each name's own, and good for training whoever asked first."""

import threading

import torch

from twofold.cpu import scratch as scratch_module
from twofold.cpu.scratch import release, scratch


def test_a_name_has_one_memory_which_grows():
    small = scratch("test", (2, 3), torch.float32).fill_(1)
    again = scratch("test", (3, 2), torch.float32)
    assert again.shape == (3, 2) and again.data_ptr() == small.data_ptr() and again.sum() == 6
    assert scratch("test, another", (2, 3), torch.float32).data_ptr() != small.data_ptr()
    assert scratch("test", (2, 3), torch.float64).dtype == torch.float64
    assert scratch("test", (50, 60), torch.float32).shape == (50, 60)


def test_each_thread_has_its_own():
    mine = scratch("test", (4,), torch.float32)
    found = []
    other = threading.Thread(target=lambda: found.append(scratch("test", (4,), torch.float32)))
    other.start()
    other.join()
    assert found[0].data_ptr() != mine.data_ptr()


def test_what_translation_asked_for_serves_training():
    weight = torch.ones(3, requires_grad=True)
    with torch.inference_mode():
        scratch("test, in inference", (3,), torch.float32)
    later = scratch("test, in inference", (3,), torch.float32)
    assert not later.is_inference()
    (weight * later.fill_(2)).sum().backward()
    assert weight.grad is not None and weight.grad.tolist() == [2, 2, 2]


def test_the_memory_of_all_threads_can_be_released():
    sizes, ready, end = [], threading.Event(), threading.Event()

    def work():
        used = scratch("test, released", (5,), torch.float32).fill_(3)
        ready.set()
        end.wait(60)
        sizes.append((used.tolist(), len(scratch_module._own.tensors)))

    other = threading.Thread(target=work)
    other.start()
    ready.wait(60)
    scratch("test, released", (4,), torch.float32)
    release()
    end.set()
    other.join()
    assert sizes == [([3.0] * 5, 0)], "what is in use stays until it is done with"
    assert not scratch_module._own.tensors
    assert scratch("test, released", (4,), torch.float32).shape == (4,)
