"""Name a file that is no PyTorch checkpoint, and say how to get the right one."""

import io
import re
from pathlib import Path
from typing import NamedTuple
from zipfile import ZipFile

LEGACY_MAGIC = (bytes.fromhex("6cfc9c46f9206aa85019"), b"119547037146038801333356")
"""The number at the start of what `torch.save` wrote before PyTorch 1.6, as a pickle of protocol 2 and of 0."""

ZIP_END = b"PK\x05\x06"
TAIL = 2**16 + 22
"""Longest end of a zip file in bytes: its record and a comment."""

DIRECTORY = 2**20
"""Largest directory of a zip file in bytes, enough for more than 10,000 tensors."""

AGAIN = "download or copy it again"
ORIGINAL = "get the PyTorch checkpoint (.pth, .pt, .ckpt or .safetensors) it was made from"
PYTORCH_ONLY = "twofold imports PyTorch checkpoints only; look for a PyTorch version of the model"
UNPACK = "unpack it, then import the checkpoint in it"


class Kind(NamedTuple):
    """A kind of file that its first bytes tell: `magic` at `offset`."""

    magic: bytes
    what: str
    advice: str
    offset: int = 0


KINDS = (
    Kind(b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras and TensorFlow write (.h5)", PYTORCH_ONLY),
    Kind(b"TFL3", "a TensorFlow Lite model", PYTORCH_ONLY, 4),
    Kind(b"GGUF", "a GGUF file of a language or diffusion model", "twofold imports image translators only"),
    Kind(b"\x04\0\0\0\x01\0\0\0\x03\0\0\0V 1", "a model of Torch7 for Lua (.t7)", PYTORCH_ONLY),
    Kind(b"\x93NUMPY", "a NumPy array (.npy)", ORIGINAL),
    Kind(b"\x1f\x8b", "compressed with gzip", UNPACK),
    Kind(b"BZh", "compressed with bzip2", UNPACK),
    Kind(b"\xfd7zXZ\0", "compressed with xz", UNPACK),
    Kind(b"\x28\xb5\x2f\xfd", "compressed with zstd", UNPACK),
    Kind(b"ustar", "a tar archive", UNPACK, 257),
    Kind(b"Rar!", "a RAR archive", UNPACK),
    Kind(b"7z\xbc\xaf\x27\x1c", "a 7z archive", UNPACK),
    Kind(b"%PDF", "a PDF document", ORIGINAL),
)


IMAGES = re.compile(rb"\x89PNG|\xff\xd8\xff|GIF8|II[*+]\0|MM\0[*+]|BM|.{4}(ftyp|.{4}WEBP)", re.DOTALL)
"""How images begin. Pillow would load its plugins to tell, and a checkpoint that is not trusted loads no code."""


def describe(path: Path) -> str | None:
    """What a file is, and what to do to get the right one; None if it looks like a PyTorch checkpoint.

    Returns:
        One line that continues "FILE is …", such as "a Git-LFS pointer …: run `git lfs pull` in its repository".

    Raises:
        OSError: the file cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(4096)
        file.seek(max(0, size - TAIL))
        tail = file.read()
    if not head.strip(b"\0"):
        return f"empty ({size:,} bytes{' of zeros' if size else ''}); {AGAIN}"
    if path.suffix in (".crdownload", ".part", ".aria2", ".download"):
        return "an unfinished download; let it finish, or download it again"
    if head.startswith(b"version https://git-lfs"):
        return _lfs_pointer(head)
    if head.lstrip().startswith(b"<"):
        return _web_page(head)
    if head.startswith(b"PK\x03\x04"):
        return _describe_zip(path) if ZIP_END in tail else incomplete(size)
    if IMAGES.match(head):
        return "an image; to translate it, give it to `twofold translate` after the model"
    for kind in KINDS:
        if head.startswith(kind.magic, kind.offset):
            return f"{kind.what}; {kind.advice}"
    if head[8:9] == b"{":
        return _describe_safetensors(path, size)
    if any(magic in head[:40] for magic in LEGACY_MAGIC):
        return None
    if head.startswith(b"\x80"):
        return (
            "a Python pickle that torch.save did not write; load it where it was made, "
            "then write the generator with torch.save(network.state_dict(), FILE)"
        )
    return _describe_other(path, head, tail)


def incomplete(size: int, whole: int = 0) -> str:
    """That a file of `size` bytes lacks its end; `whole` is how many it needs at least, 0 if that is not known."""
    of = f" of at least {whole:,}" if whole else ", and its end is missing"
    return f"incomplete: it has {size:,} bytes{of}; {AGAIN}"


def _lfs_pointer(head: bytes) -> str:
    found = re.search(rb"\nsize (\d{1,18})\b", head)
    size = f" of {int(found[1]):,} bytes" if found else ""
    return (
        f"a Git-LFS pointer to the file{size}, not the file itself; run `git lfs pull` in its repository, "
        "or use the download link on the repository's web page"
    )


def _web_page(head: bytes) -> str:
    found = re.search(rb"<title[^>]*>([^<]*)|<Message>([^<]*)", head, re.IGNORECASE)
    title = " ".join((found[1] or found[2] or b"").decode(errors="ignore").split()) if found else ""
    shown = f' ("{title[:60]}")' if title and title.isprintable() else ""
    return f"a web page{shown}, not a checkpoint; open its link in a browser and download the file itself"


# ---- zip


class SmallReads(io.FileIO):
    """A file of which `zipfile` reads small parts only, so that a false length of its directory takes no memory."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as `io.FileIO` does; ValueError for more than `DIRECTORY` bytes at once."""
        content = super().read(DIRECTORY + 1 if size is None or size < 0 else min(size, DIRECTORY + 1))
        if len(content) > DIRECTORY:
            raise ValueError("the zip directory is too long")
        return content


def _describe_zip(path: Path) -> str | None:
    try:
        with SmallReads(path) as file, ZipFile(file) as archive:
            names = archive.namelist()
    except Exception:  # a damaged directory raises any exception
        return None
    ends = {name.partition("/")[2] for name in names}
    if "data.pkl" in ends | set(names):
        if any(name.startswith("code/") for name in ends):
            return (
                "a TorchScript program; load it with torch.jit.load, then write its weights with "
                "torch.save(module.state_dict(), FILE)"
            )
        return None
    if "model.weights.h5" in names or "metadata.json" in names:
        return f"a Keras model (.keras); {PYTORCH_ONLY}"
    if any("archive_format" in name or "exported_program" in name for name in names):
        return f"a program of torch.export (.pt2); {ORIGINAL}"
    if names and all(name.endswith(".npy") for name in names):
        return f"NumPy arrays (.npz); {ORIGINAL}"
    inside = next((name for name in names if name.endswith((".pth", ".pt", ".ckpt", ".safetensors"))), None)
    shown = f" that holds {inside[-80:]!a}" if inside else ""
    return f"a zip archive{shown}; {UNPACK}"


# ---- others


def _describe_safetensors(path: Path, size: int) -> str | None:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = file.read(length) if length <= min(size, 10**8) else b""
    if length + 8 > size:
        return incomplete(size, length + 8) if length <= 10**8 else f"not a checkpoint; {ORIGINAL}"
    ends = re.findall(rb'"data_offsets"\s*:\s*\[\s*\d{1,18}\s*,\s*(\d{1,18})', header)
    whole = 8 + length + max(map(int, ends), default=0)
    return incomplete(size, whole) if whole > size else None


def _describe_other(path: Path, head: bytes, tail: bytes) -> str:
    starts_as_onnx = head[0] == 8 and head[2:3] == b"\x12"  # ir_version, then the producer's name
    if path.suffix == ".onnx" or starts_as_onnx:
        return f"an ONNX model; {ORIGINAL}"
    if (
        path.suffix in (".pb", ".index", ".meta")
        or ".data-0" in path.name
        or tail.endswith(b"\x57\xfb\x80\x8b\x24\x75\x47\xdb")
        or head.startswith(b"model_checkpoint_path:")
    ):
        return f"part of a TensorFlow model; {PYTORCH_ONLY}"
    text = head[:40].decode("ascii", "replace").strip()
    if text.isprintable() and text.isascii():
        return f"a text file that starts with {text!a}, not a checkpoint; download the file itself"
    return f"not a PyTorch checkpoint, or damaged at its start; {AGAIN}"
