"""Hostile checkpoints: nothing in them is imported, called or executed, and they take little memory."""

import builtins
import codecs
import os
import pickle
import struct
import sys
import tracemalloc
import zipfile
from collections import OrderedDict

import pytest
import torch
from torch import nn

from twofold.errors import TwofoldError
from twofold.exchange.stand_ins import Inert
from twofold.exchange.untrusted import read_tree

MARKER = "executed"
FORBIDDEN = ("import", "exec", "compile", "os.system", "os.mkdir", "subprocess.Popen", "pickle.find_class")
EVENTS: list[tuple[str, ...]] = []
LISTENING = [False]


def listen(event, arguments):
    if LISTENING[0] and event in FORBIDDEN:
        EVENTS.append((event, *map(repr, arguments)))


@pytest.fixture(scope="module", autouse=True)
def audit():
    sys.addaudithook(listen)  # cannot be removed, so it does nothing outside of these tests


@pytest.fixture
def nothing_runs(tmp_path, monkeypatch):
    """Fails if the test imports, compiles or executes anything, or a file appears."""
    monkeypatch.chdir(tmp_path)
    torch.save({"a": torch.ones(1)}, "warm.pth")
    read_tree(tmp_path / "warm.pth")  # imports what reading imports
    codecs.lookup("cp437")  # names in zip files have it
    EVENTS.clear()
    LISTENING[0] = True
    yield
    LISTENING[0] = False
    assert not EVENTS
    assert not (tmp_path / MARKER).exists()


class Call:
    """Pickled, it is a call of a function: whoever unpickles it as Python does executes it."""

    def __init__(self, function, *arguments, state=None):
        self.reduced = (function, arguments, state)

    def __reduce__(self):
        return self.reduced


CALLS = {
    "os.system": Call(os.system, f"touch {MARKER}"),
    "os.mkdir": Call(os.mkdir, MARKER),
    "eval": Call(eval, f"open({MARKER!r}, 'w')"),
    "exec": Call(exec, f"open({MARKER!r}, 'w').close()"),
    "open": Call(open, MARKER, "w"),
    "getattr": Call(getattr, Call(__import__, "os"), "system"),
    "builtins": Call(getattr, builtins.dict, "fromkeys"),
    "torch.load": Call(torch.load, MARKER),
    "in a tensor": Call(torch._utils._rebuild_tensor_v2, Call(os.mkdir, MARKER), 0, (1,), (1,), False, None),
    "in a parameter": Call(torch._utils._rebuild_parameter, Call(os.mkdir, MARKER), False, None),
    "in a subclass": Call(torch._tensor._rebuild_from_type_v2, os.mkdir, str, (MARKER,), None),
    "in a dict": Call(OrderedDict, [[MARKER, Call(os.mkdir, MARKER)]]),
    "in a state": Call(nn.Linear, 1, 1, state={"_parameters": Call(os.mkdir, MARKER)}),
    "numpy": Call(__import__("numpy").load, MARKER),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("zipped", [True, False])
def test_calls_are_not_made(tmp_path, nothing_runs, name, zipped):
    path = tmp_path / "net.pth"
    LISTENING[0] = False
    torch.save({"bad": CALLS[name], "good": torch.ones(2)}, path, _use_new_zipfile_serialization=zipped)
    LISTENING[0] = True
    tree = read_tree(path)
    assert torch.equal(tree["good"], torch.ones(2))
    assert isinstance(tree["bad"], Inert | dict)


def test_a_plain_pickle_is_not_read(tmp_path, nothing_runs):
    path = tmp_path / "net.pkl"
    path.write_bytes(pickle.dumps(CALLS["os.mkdir"], 2))
    with pytest.raises(TwofoldError, match=r"a Python pickle that torch\.save did not write"):
        read_tree(path)


# ---- pickles written operation by operation


def zipped(path, pickled, records=(), compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("net/data.pkl", pickled)
        for key, content in dict(records).items():
            archive.writestr(f"net/data/{key}", content)
    return path


def legacy(path, pickled, _records=()):
    start = b"".join(
        pickle.dumps(each, 2) for each in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
    )
    path.write_bytes(start + pickled + pickle.dumps([], 2))
    return path


def text(value):
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def storage(key, numel):
    """The operations that name a storage of float32."""
    kind = b"ctorch\nFloatStorage\n"
    return b"(" + text("storage") + kind + text(key) + text("cpu") + b"J" + struct.pack("<i", numel) + b"tQ"


def whole(*values):
    return b"(" + b"".join(b"J" + struct.pack("<i", value) for value in values) + b"t"


def tensor(named, offset, size, stride):
    parts = named + b"J" + struct.pack("<i", offset) + whole(*size) + whole(*stride) + b"\x89N"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + parts + b"tR"


OPERATIONS = {
    "global": b"cos\nmkdir\n(" + text(MARKER) + b"tR.",
    "stack global": b"\x80\x04" + text("os") + text("mkdir") + b"\x93" + text(MARKER) + b"\x85R.",
    "new object": b"\x80\x02cos\nmkdir\n" + text(MARKER) + b"\x85\x81.",
    "new object with names": b"\x80\x04cos\nmkdir\n" + text(MARKER) + b"\x85}\x92.",
    "build": b"cbuiltins\nobject\n)R}" + text("__setstate__") + b"cos\nmkdir\nsb" + text(MARKER) + b"b.",
    "storage": b"cos\nmkdir\nQ.",
    "module": b"(" + text("module") + b"cos\nmkdir\n" + text(MARKER) + text("x") + b"tQ.",
}


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("write", [zipped, legacy])
def test_no_operation_calls_anything(tmp_path, nothing_runs, name, write):
    assert isinstance(read_tree(write(tmp_path / "net.pth", OPERATIONS[name])), Inert)


REFUSED = {
    "instance": b"(" + text(MARKER) + b"ios\nmkdir\n.",
    "object": b"(cos\nmkdir\n" + text(MARKER) + b"o.",
    "extension": b"\x82\x01.",
    "external buffer": b"\x97.",
    "text storage": b"Pcos\n.",
    "call of a string": text("os") + b")R.",
    "name of a number": b"K\1K\1\x93.",
    "missing memo": b"h\5.",
    "empty": b".",
    "no mark": b"t.",
    "no end": b"}",
    "odd dict": b"(K\1d.",
    "unknown": b"\xff.",
    "utf-8": b"X\1\0\0\0\xff.",
    "escape": b"S'\\xzz'\n.",
    "long number": b"L" + b"9" * 10_000 + b"L\n.",
    "long string": b"\x8d" + struct.pack("<Q", 2**62) + b".",
    "long bytes": b"\x8e" + struct.pack("<Q", 2**40) + b".",
    "missing storage": tensor(storage("7", 1), 0, (1,), (1,)) + b".",
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("write", [zipped, legacy])
def test_damaged_pickles_are_refused_in_one_line(tmp_path, nothing_runs, name, write):
    path = write(tmp_path / "net.pth", REFUSED[name])
    with pytest.raises(TwofoldError, match=r"net\.pth is (damaged|incomplete)") as caught:
        read_tree(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("numel", "offset", "size", "stride"),
    [
        (4, 0, (5,), (1,)),
        (4, 0, (2**30,), (0,)),
        (4, 3, (2,), (1,)),
        (4, -1, (2,), (1,)),
        (4, 0, (2, 2), (2, -1)),
        (4, 0, (2,), (2**30,)),
        (4, 0, (2,), (1, 1)),
        (4, 0, (1,) * 20, (1,) * 20),
        (-1, 0, (1,), (1,)),
    ],
)
def test_tensors_that_reach_beyond_their_storage_are_not_read(tmp_path, numel, offset, size, stride):
    pickled = b"}" + text("a") + tensor(storage("0", numel), offset, size, stride) + b"s."
    assert isinstance(read_tree(zipped(tmp_path / "net.pth", pickled, {"0": bytes(16)}))["a"], Inert)


# ---- memory

MILLION = 10**6


def memory_of_reading(path):
    """Largest memory in bytes, and the error or None."""
    error = None
    tracemalloc.start()
    try:
        read_tree(path)
    except TwofoldError as caught:
        error = str(caught)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak, error


BOMBS = {
    "many dicts": b"(" + b"}" * 300_000 + b"t.",
    "shared lists": b"(" + b"]q\0" + b"".join(b"](h\0h\0h\0h\0eq\0" for _ in range(40)) + b"t.",
    "wide string": text("a" * 2**18 + "\U0001f600") * 16 + b".",
    "copied list": b"](" + b"N" * 200_000 + b"eq\0(" + b"cbuiltins\nlist\nh\0\x85R" * 2000 + b"t.",
    "copied dict": b"(" + b"K\1" * 100_000 + b"lq\0(" + b"cbuiltins\nset\nh\0\x85R" * 2000 + b"t.",
    "large memo": b"}r\xff\xff\xff\x7f.",
    "one module many times": tensor(storage("0", 1), 0, (1,), (1,))
    + b"q\1cm\nModule\n)Rq\2}("
    + b"".join(text(f"_{part}") + b"}" for part in ("buffers", "modules", "parameters"))
    + b"("
    + b"".join(text(f"{i}") + b"h\1" for i in range(5000))
    + b"uub("
    + b"h\2" * 1000
    + b"t.",
    "one large storage many times": b"}"
    + b"".join(text(f"w{i}") + tensor(storage("0", MILLION), 0, (MILLION,), (1,)) + b"s" for i in range(40))
    + b".",
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_take_little_memory(tmp_path, nothing_runs, name):
    records = {"0": bytes(4 * MILLION if "storage" in name else 4)}
    path = zipped(tmp_path / "net.pth", BOMBS[name], records)
    peak, _ = memory_of_reading(path)
    assert peak <= 3 * path.stat().st_size + 2**23


def test_compressed_storages_are_read_only_if_they_are_small(tmp_path, nothing_runs):
    pickled = b"}" + text("a") + tensor(storage("0", 10**7), 0, (10**7,), (1,)) + b"s."
    path = zipped(tmp_path / "net.pth", pickled, {"0": bytes(4 * 10**7)}, zipfile.ZIP_DEFLATED)
    peak, error = memory_of_reading(path)
    assert "unpacks to more than 3 times its size" in error
    assert peak < 2**22
    small = pickled.replace(struct.pack("<i", 10**7), struct.pack("<i", 1000))
    path = zipped(tmp_path / "net.pth", small, {"0": bytes(4000)}, zipfile.ZIP_DEFLATED)
    assert read_tree(path)["a"].shape == (1000,)


def test_a_false_directory_takes_no_memory(tmp_path, nothing_runs):
    path = tmp_path / "net.pth"
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 9999, 9999, 2**31, 30, 0)
    path.write_bytes(b"PK\3\4" + bytes(26) + end)
    peak, error = memory_of_reading(path)
    assert "damaged" in error
    assert peak < 2**21
    path.write_bytes(b"PK\3\4" + bytes(2**25) + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 9, 9, 2**24, 30, 0))
    assert memory_of_reading(path)[0] < 2**23
