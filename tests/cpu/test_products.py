"""Products of few rows, or of few terms, by kernels and by the library, against float64."""

import pytest
import torch

from twofold.networks import native
from twofold.networks.products import FEW, multiply

needs_compiler = pytest.mark.skipif(native.compiled() is None, reason="no C compiler, or not Linux")

KERNELS = {  # by kernel: m, k, n, and which of left and right are transposed in memory
    "few_rows": [
        ((m, k, n), (False, False)) for m in (1, 5, 16, FEW) for k, n in ((3, 16), (40, 1040), (9, 2128))
    ],
    "few_rows_transposed": [
        ((m, k, n), (False, True)) for m in (1, 6, 16, FEW) for k, n in ((8, 3), (1040, 7), (2056, 50))
    ],
    "few_terms": [
        ((m, k, n), (True, False)) for m in (40, 67) for k in (1, 4, FEW) for n in (16, 1040, 2128)
    ],
}

LIBRARYS = {
    "rows": ((FEW + 1, FEW + 1, 16), (False, False)),
    "columns that are not in sixteens": ((4, 40, 24), (False, False)),
    "terms that are not in eights": ((4, 12, 40), (False, True)),
    "another layout": ((4, 40, 32), (True, False)),
}


@pytest.fixture
def called(monkeypatch):
    names = []
    product = native.Kernels.product
    monkeypatch.setattr(
        native.Kernels, "product", lambda *args, **more: names.append(args[1]) or product(*args, **more)
    )
    return names


def matrices(sizes, transposed):
    torch.manual_seed(0)
    m, k, n = sizes
    shapes = (m, k), (k, n)
    return [
        torch.randn(shape[::-1]).T if turned else torch.randn(shape)
        for shape, turned in zip(shapes, transposed, strict=True)
    ]


def check(sizes, transposed):
    left, right = matrices(sizes, transposed)
    exact = left.double() @ right.double()
    made = torch.full(exact.shape, torch.nan)
    multiply(left, right, made)
    torch.testing.assert_close(made.double(), exact, rtol=0, atol=1e-6 * sizes[1])
    multiply(left, right, made, add=True)
    torch.testing.assert_close(made.double(), 2 * exact, rtol=0, atol=2e-6 * sizes[1])


@needs_compiler
@pytest.mark.parametrize("kernel", KERNELS)
def test_by_kernels(kernel, called):
    for case in KERNELS[kernel]:
        check(*case)
    assert called == [kernel] * 2 * len(KERNELS[kernel])


@pytest.mark.parametrize("case", LIBRARYS)
def test_by_the_library(case, called):
    check(*LIBRARYS[case])
    assert not called


@pytest.mark.parametrize("kernel", KERNELS)
def test_without_kernels_and_in_float64(kernel, called):
    case = KERNELS[kernel][0]
    with native.allowed(False):
        check(*case)
    left, right = (x.double() for x in matrices(*case))
    made = left.new_empty(len(left), right.shape[1])
    multiply(left, right, made)
    torch.testing.assert_close(made, left @ right)
    assert not called


@needs_compiler
@pytest.mark.parametrize("kernel", KERNELS)
def test_threads_change_no_bit(kernel):
    left, right = matrices(*KERNELS[kernel][-1])
    before = torch.get_num_threads()
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        made = torch.empty(len(left), right.shape[1])
        multiply(left, right, made)
        found.append(made)
    torch.set_num_threads(before)
    assert all(torch.equal(found[0], other) for other in found[1:])
