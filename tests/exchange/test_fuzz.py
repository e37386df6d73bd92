"""Mutated checkpoints: each is read or refused in one line; nothing in it is executed, and it takes little memory."""

import argparse
import codecs
import io
import random
import struct
import sys
import tracemalloc
import zipfile
from functools import lru_cache

import pytest
import torch
from safetensors.torch import save as to_bytes
from torch import nn

from twofold.errors import TwofoldError
from twofold.exchange.checkpoint import import_file
from twofold.exchange.original import to_original
from twofold.exchange.stand_ins import Inert
from twofold.exchange.untrusted import read_tree
from twofold.networks.resnet import ResnetGenerator
from twofold.networks.unet import UnetGenerator

FORBIDDEN = (
    "import",
    "exec",
    "os.system",
    "os.mkdir",
    "os.remove",
    "subprocess.Popen",
    "pickle.find_class",
    "socket",
)
EVENTS: list[str] = []
LISTENING = [False]
EXTREMES = (
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    2**62,
    2**63,
    2**64 - 1,
)


def listen(event, arguments):
    if LISTENING[0] and event.startswith(FORBIDDEN):
        EVENTS.append(f"{event} {arguments!r:.200}")


@lru_cache
def checkpoints():
    """Small files of every form."""
    state = to_original(ResnetGenerator(width=2, blocks=1))
    unet = to_original(UnetGenerator(width=1, depth=5, norm="batch"))
    module = nn.DataParallel(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.InstanceNorm2d(4), nn.Dropout())
    )
    training = {
        "opt": argparse.Namespace(ngf=2, name="maps"),
        "netG_A": state,
        "losses": [0.5] * 20,
        "epoch": 3,
    }
    lightning = {"state_dict": {f"G_AB.{name}": tensor.half() for name, tensor in state.items()}}
    files = [to_bytes({name: tensor.contiguous() for name, tensor in state.items()})]
    for content in (state, unet, module, training, lightning):
        for zipped, protocol in ((True, 2), (True, 4), (False, 2), (False, 5)):
            buffer = io.BytesIO()
            torch.save(content, buffer, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
            files.append(buffer.getvalue())
    return files


def mutated(seed):
    """A checkpoint with random changes; in half of the zip files only the pickle changes, and checksums are right."""
    rng = random.Random(seed)
    content = rng.choice(checkpoints())
    if content.startswith(b"PK") and rng.random() < 0.5:
        return with_pickle(content, lambda pickled: changed(pickled, rng))
    limit = rng.choice((len(content), 1500))  # in the whole file, or in its first bytes, where the pickle is
    return changed(content[:limit], rng) + content[limit:]


def with_pickle(content, change):
    old, buffer = zipfile.ZipFile(io.BytesIO(content)), io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            stored = old.read(name)
            new.writestr(name, change(stored) if name.endswith("data.pkl") else stored)
    return buffer.getvalue()


def changed(content, rng):
    content = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at = rng.randrange(len(content) + 1)
        length = min(rng.choice((1, 2, 8, 64, 512)), len(content) - at)
        match rng.randrange(8):
            case 0:
                content[at : at + length] = rng.randbytes(length)
            case 1:
                content[at : at + 1] = bytes([rng.randrange(256)])
            case 2:
                del content[at : at + length]
            case 3:
                content[at:at] = content[at : at + length] * rng.choice((1, 2, 50))
            case 4:
                size, value = rng.choice((1, 2, 4, 8)), rng.choice(EXTREMES)
                content[at : at + size] = struct.pack("<Q", value)[:size]
            case 5:
                other = rng.choice(checkpoints())
                start = rng.randrange(len(other))
                content[at : at + length] = other[start : start + rng.choice((4, 64, 2000))]
            case 6:
                content[at:at] = bytes(
                    rng.choices(
                        b"NR}](.tueabhjqr0123456789ocip\x81\x85\x86\x87\x93\x94Q2", k=rng.randrange(1, 9)
                    )
                )
            case _:
                del content[at if rng.random() < 0.3 else len(content) :]
    return bytes(content)


def check(content, path, whole_import=False):
    """Read or import one file. Returns its error or None, and the memory it took, in bytes."""
    path.write_bytes(content)
    error = None
    EVENTS.clear()
    tracemalloc.start()
    LISTENING[0] = True
    try:
        if whole_import:
            import_file(path)
        else:
            assert_plain(read_tree(path))
    except TwofoldError as caught:
        error = str(caught)
        assert "\n" not in error
        error.encode()
    finally:
        LISTENING[0] = False
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert not EVENTS
    return error, peak


def assert_plain(tree):
    match tree:
        case dict():
            assert all(key is None or type(key) in (str, bytes, int, float, bool) for key in tree)
            for each in tree.values():
                assert_plain(each)
        case list() | tuple():
            for each in tree:
                assert_plain(each)
        case Inert():
            assert_plain(tree.state)
        case torch.Tensor():
            tree.clone()  # reads all of it
        case _:
            assert tree is None or type(tree) in (str, bytes, bytearray, int, float, bool)


def run(seeds, path):
    """Check the mutation of each seed. Returns how many were read, and the largest memory beyond 3 times the file."""
    check(checkpoints()[1], path, whole_import=True)  # imports what reading imports
    for codec in (
        "cp437",
        "raw_unicode_escape",
    ):  # of names in zip files, of strings in pickles of protocol 0
        codecs.lookup(codec)
    sys.addaudithook(listen)  # cannot be removed, so it listens only while a file is read
    read, largest = 0, 0
    for seed in seeds:
        content = mutated(seed)
        try:
            error, peak = check(content, path, whole_import=seed % 2 == 1)
        except BaseException as failure:
            failure.add_note(f"seed {seed}")
            raise
        read += error is None
        largest = max(largest, peak - 3 * len(content))
    return read, largest


def test_mutated_checkpoints_are_read_or_refused(tmp_path):
    read, largest = run(range(500), tmp_path / "net.pth")
    assert read >= 50
    assert largest <= 2**21  # what Python takes to read any file


@pytest.mark.slow
def test_many_mutated_checkpoints_are_read_or_refused(tmp_path):
    read, largest = run(range(10_000), tmp_path / "net.pth")
    assert read >= 1000
    assert largest <= 2**21


def test_every_checkpoint_of_the_fuzz_is_whole(tmp_path):
    errors = []
    for content in checkpoints():
        assert check(content, tmp_path / "net.pth")[0] is None
        errors.append(check(content, tmp_path / "net.pth", whole_import=True)[0])
    assert errors.count(None) == len(errors) - 4  # all but the module that is no generator
