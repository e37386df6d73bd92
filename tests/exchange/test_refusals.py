"""Files that are no PyTorch checkpoint are named for what they are, each with the way to get the right one."""

import gzip
import io
import struct
import tarfile
import zipfile

import pytest
import torch
from safetensors.torch import save as to_bytes
from torch import nn

from twofold.errors import TwofoldError
from twofold.exchange.refusals import describe
from twofold.exchange.untrusted import read_tree

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 45575747\n"
PAGE = b"\n <!DOCTYPE html><html><head><title>404 Not\n Found</title></head></html>"
DENIED = b'<?xml version="1.0"?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>'


def archive(**files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as written:
        for name, content in files.items():
            written.writestr(name.replace("__", "/"), content)
    return buffer.getvalue()


def named(*names):
    return archive(**dict.fromkeys(names, b"x"))


def script():
    buffer = io.BytesIO()
    with pytest.warns(DeprecationWarning):
        torch.jit.save(torch.jit.script(nn.Linear(1, 1)), buffer)
    return buffer.getvalue()


def tar():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as written:
        written.addfile(tarfile.TarInfo("net.pth"))
    return buffer.getvalue()


def leveldb():
    return b"\1\2\3" * 50 + bytes.fromhex("57fb808b247547db")


@pytest.mark.parametrize(
    ("name", "content", "what", "advice"),
    [
        ("net.pth", b"", "empty", "download or copy it again"),
        ("net.pth", bytes(5000), "empty (5,000 bytes of zeros)", "download or copy it again"),
        ("net.pth", LFS, "a Git-LFS pointer to the file of 45,575,747 bytes", "run `git lfs pull`"),
        ("net.pth", PAGE, 'a web page ("404 Not Found")', "download the file itself"),
        ("net.pth", DENIED, 'a web page ("Access Denied")', "download the file itself"),
        ("net.pth", b"Not Found", "a text file that starts with 'Not Found'", "download the file itself"),
        ("net.pth.crdownload", b"PK\3\4", "an unfinished download", "download it again"),
        ("net.h5", b"\x89HDF\r\n\x1a\n" + bytes(99), "an HDF5 file, as Keras", "look for a PyTorch version"),
        (
            "net.keras",
            named("metadata.json", "config.json", "model.weights.h5"),
            "a Keras model",
            "PyTorch version",
        ),
        ("net.pt", script, "a TorchScript program", "torch.save(module.state_dict(), FILE)"),
        (
            "net.pt2",
            named("net__archive_format", "net__models__a"),
            "a program of torch.export",
            "get the PyTorch",
        ),
        ("net.npz", named("a.npy", "b.npy"), "NumPy arrays (.npz)", "get the PyTorch checkpoint"),
        (
            "net.zip",
            named("maps__latest_net_G.pth"),
            "a zip archive that holds 'maps/latest_net_G.pth'",
            "unpack it",
        ),
        ("net.zip", named("a.txt"), "a zip archive;", "unpack it"),
        ("net.onnx", b"\x08\x08\x12\x07pytorch", "an ONNX model", "get the PyTorch checkpoint"),
        ("net.pth", b"\x08\x08\x12\x07pytorch", "an ONNX model", "get the PyTorch checkpoint"),
        ("saved_model.pb", b"\x08\x01\x9a\x05", "part of a TensorFlow model", "look for a PyTorch version"),
        ("net.index", leveldb, "part of a TensorFlow model", "look for a PyTorch version"),
        ("net.data-00000-of-00001", b"\1" * 99, "part of a TensorFlow model", "look for a PyTorch version"),
        (
            "checkpoint",
            b'model_checkpoint_path: "a"',
            "part of a TensorFlow model",
            "look for a PyTorch version",
        ),
        ("net.tflite", b"\x1c\0\0\0TFL3", "a TensorFlow Lite model", "look for a PyTorch version"),
        (
            "net.t7",
            b"\4\0\0\0\1\0\0\0\3\0\0\0V 1\r\0\0\0nn.Sequential",
            "a model of Torch7",
            "a PyTorch version",
        ),
        ("net.gguf", b"GGUF\3\0\0\0", "a GGUF file", "image translators"),
        ("net.pth.gz", lambda: gzip.compress(b"x"), "compressed with gzip", "unpack it"),
        ("net.tar", tar, "a tar archive", "unpack it"),
        ("net.rar", b"Rar!\x1a\7\1\0", "a RAR archive", "unpack it"),
        ("photo.png", b"\x89PNG\r\n\x1a\n" + bytes(9), "an image", "give it to `twofold translate`"),
        ("photo.pth", b"\xff\xd8\xff\xe0" + bytes(9), "an image", "give it to `twofold translate`"),
        (
            "net.pkl",
            b"\x80\x04K\1.",
            "a Python pickle that torch.save did not write",
            "torch.save(network.state_dict",
        ),
        ("net.pth", b"\xe1" * 99, "not a PyTorch checkpoint, or damaged", "download or copy it again"),
    ],
)
def test_other_files_are_named(tmp_path, name, content, what, advice):
    path = tmp_path / name
    path.write_bytes(content() if callable(content) else content)
    with pytest.raises(TwofoldError) as caught:
        read_tree(path)
    message = str(caught.value)
    assert message.startswith(f"{path} is {what}")
    assert advice in message
    assert "\n" not in message
    assert message.isprintable()


def test_checkpoints_are_not_refused(tmp_path):
    path = tmp_path / "net.pth"
    for zipped in (True, False):
        torch.save({"a": torch.ones(1)}, path, _use_new_zipfile_serialization=zipped)
        assert describe(path) is None
    path.write_bytes(to_bytes({"a": torch.ones(1)}))
    assert describe(path) is None


def test_incomplete_safetensors_say_how_much_is_missing(tmp_path):
    path = tmp_path / "net.safetensors"
    whole = to_bytes({"a": torch.ones(1000), "b": torch.ones(3)})
    path.write_bytes(whole[:3000])
    assert describe(path) == (
        f"incomplete: it has 3,000 bytes of at least {len(whole):,}; download or copy it again"
    )
    path.write_bytes(whole[:60])
    assert describe(path).startswith("incomplete: it has 60 bytes of at least")
    path.write_bytes(struct.pack("<Q", 2**60) + b"{")
    assert describe(path).startswith("not a checkpoint")


def test_a_zip_that_lacks_its_end(tmp_path):
    path = tmp_path / "net.pth"
    torch.save({"a": torch.ones(20_000)}, path)
    path.write_bytes(path.read_bytes()[:50_000])
    assert (
        describe(path) == "incomplete: it has 50,000 bytes, and its end is missing; download or copy it again"
    )
