"""Read a checkpoint that may come from anywhere, as plain containers and tensors; no code in the file is run.

Read are `.safetensors` and what `torch.save` writes: zip files, and the legacy files of PyTorch before 1.6, each with
state dicts, whole pickled modules, or objects of unknown classes (`twofold.exchange.stand_ins`). The memory that a file
takes is at most 3 times its size and 8 MB, checked before it is used.
"""

import io
from collections.abc import Callable
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, TypeGuard
from zipfile import ZipFile

import torch
from safetensors.torch import load_file
from torch import Tensor

from twofold.errors import TwofoldError, UsageError
from twofold.exchange.pickles import interpret
from twofold.exchange.refusals import DIRECTORY, SmallReads, describe, incomplete
from twofold.exchange.stand_ins import ENTRY, OBJECT, Budget, Inert, Storage, View

MOST = 3
"""Memory that a file may take, in times its size."""

SMALL = 2**23
"""Memory in bytes that every file may take besides."""

MEMBER, SLOT = 800, 16
"""Bytes of memory that `zipfile` takes for one file of its directory, and that a list takes for an item."""

BIG_ENDIAN = "has big-endian numbers; load it and save it again with PyTorch 2.1 or later"

DEPTH = 100
"""Most levels of containers; what lies deeper is replaced by an inert object."""


def read_tree(path: Path) -> Any:
    """Read a checkpoint.

    Returns:
        The file's content as dict, list, tuple, str, bytes, int, float, bool, None, tensors on the CPU in their own
        dtype, and `Inert` for objects of every other kind. A pickled module becomes its state dict. Tensors of the
        same storage share memory.

    Raises:
        UsageError: there is no such file.
        TwofoldError: it cannot be read, is damaged, or is something else; the message says what.
    """
    if not path.is_file():
        missing = (
            f"there is no file {path}; give a checkpoint (.pth, .ckpt, .safetensors) or a folder of them"
        )
        raise UsageError(f"{path} is a folder" if path.is_dir() else missing)
    try:
        refusal, size = describe(path), path.stat().st_size
    except OSError as error:
        raise TwofoldError(f"cannot read {path}: {error.strerror or error}") from error
    if refusal:
        raise TwofoldError(f"{path} is {refusal}")
    budget = Budget(MOST * size + SMALL)
    try:
        return _read(path, budget)
    except TwofoldError:
        raise
    except MemoryError as error:
        raise TwofoldError(
            f"{path} unpacks to more than {MOST} times its size, so it was not read; "
            "ask its owner for the state dict alone"
        ) from error
    except Exception as error:  # a damaged file makes its decoders raise any exception
        raise TwofoldError(f"{path} is damaged; download or copy it again") from error


def _read(path: Path, budget: Budget) -> Any:
    with path.open("rb") as file:
        head = file.read(9)
    if head.startswith(b"PK"):
        return _read_zip(path, budget)
    if head[8:] == b"{":
        return load_file(path)
    return _read_legacy(path, budget)


# ---- zip


def _read_zip(path: Path, budget: Budget) -> Any:
    with SmallReads(path) as file, ZipFile(file) as archive:
        names = archive.namelist()
        budget.spend(len(names) * MEMBER)
        name = min((each for each in names if each.endswith("data.pkl")), key=len)
        root = name.removesuffix("data.pkl")
        if f"{root}byteorder" in names and _record(archive, f"{root}byteorder", budget) == b"big":
            raise TwofoldError(f"{path} {BIG_ENDIAN}")
        content = interpret(io.BytesIO(_record(archive, name, budget)), budget).content
        tree = _Tree(lambda storage: _record(archive, f"{root}data/{storage.key}", budget), budget)
        return tree.build(content)


def _record(archive: ZipFile, name: str, budget: Budget) -> bytearray:
    """One file of the archive, its checksum tested."""
    information = archive.getinfo(name)
    budget.spend(information.file_size)
    content, done = bytearray(information.file_size), 0
    with archive.open(information) as file, memoryview(content) as whole:
        while part := file.read(DIRECTORY // 2):
            whole[done : done + len(part)] = part
            done += len(part)
    if done < len(content):
        raise EOFError
    return content


# ---- legacy


def _read_legacy(path: Path, budget: Budget) -> Any:
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as stream:
        _magic, _version, system = (interpret(stream, budget).content for _ in range(3))
        if not system["little_endian"]:
            raise TwofoldError(f"{path} {BIG_ENDIAN}")
        content, storages = interpret(stream, budget)
        keys = interpret(stream, budget).content
        position, starts = stream.tell(), {}
        for key in keys:
            count = position + 8  # an int64: how many numbers follow
            starts[key], position = count, count + storages[key].numel * storages[key].dtype.itemsize
        if position > len(stream):
            raise TwofoldError(f"{path} is {incomplete(len(stream), position)}")

        def read(storage: Storage) -> bytearray:
            root = storages[storage.key]
            budget.spend(root.numel * root.dtype.itemsize)
            numbers = bytearray(root.numel * root.dtype.itemsize)
            file.seek(starts[storage.key])
            file.readinto(numbers)
            return numbers

        return _Tree(read, budget).build(content)


# ---- the tree


class _Tree:
    """Makes plain containers and tensors of what a pickle holds.

    Args:
        read: the bytes of the whole storage that a storage is part of.
        budget: what the file may still take.
    """

    def __init__(self, read: Callable[[Storage], bytearray], budget: Budget) -> None:
        self.read = read
        self.budget = budget
        self.storages: dict[str, bytearray] = {}
        self.tensors: dict[int, Tensor] = {}
        self.open: set[int] = set()  # the containers that are being built: none may contain itself

    def build(self, value: Any) -> Any:
        match value:
            case View():
                return self.tensor(value)
            case Storage():
                return Inert("torch", "storage")
            case dict() | list() | tuple() | Inert():
                if id(value) in self.open or len(self.open) >= DEPTH:
                    return Inert("", "nested")
                length = 1 if isinstance(value, Inert) else len(value)
                self.budget.spend(OBJECT + length * (ENTRY if isinstance(value, dict) else SLOT))
                self.open.add(id(value))
                built = self.container(value)
                self.open.remove(id(value))
                return built
            case _:
                return value

    def container(self, value: dict[Any, Any] | list[Any] | tuple[Any, ...] | Inert) -> Any:
        match value:
            case dict():
                return {key: self.build(each) for key, each in value.items()}
            case list():
                return [self.build(each) for each in value]
            case tuple():
                return tuple([self.build(each) for each in value])
            case Inert(state=state) if _is_module(state):
                return self.state_dict(state)
            case Inert():
                return Inert(value.module, value.name, self.build(value.state))

    def state_dict(self, module: dict[str, Any]) -> dict[str, Tensor]:
        """The parameters and buffers of a pickled module and of the modules in it, named as torch names them."""
        passing = module.get("_non_persistent_buffers_set") or ()
        own = module["_parameters"] | {k: each for k, each in module["_buffers"].items() if k not in passing}
        self.budget.spend(ENTRY * len(own))
        found = {str(name): self.tensor(each) for name, each in own.items() if isinstance(each, View)}
        for name, child in module["_modules"].items():
            if isinstance(child, Inert) and _is_module(child.state):
                inner = self.build(child)
                for key, tensor in inner.items() if isinstance(inner, dict) else ():
                    self.budget.spend(ENTRY + OBJECT + len(key))
                    found[f"{name}.{key}"] = tensor
        return found

    def tensor(self, view: View) -> Tensor:
        if id(view) not in self.tensors:
            self.budget.spend(view.nbytes)  # whoever uses the tensors may copy each
            self.tensors[id(view)] = self.read_tensor(view)
        return self.tensors[id(view)]

    def read_tensor(self, view: View) -> Tensor:
        storage = view.storage
        if not all(view.size):
            return torch.empty(view.size, dtype=storage.dtype)
        if storage.key not in self.storages:
            self.storages[storage.key] = self.read(storage)
        start = storage.start * storage.dtype.itemsize
        flat = torch.frombuffer(
            self.storages[storage.key], dtype=storage.dtype, count=storage.numel, offset=start
        )
        return flat.as_strided(view.size, view.stride, view.offset)


def _is_module(state: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(state, dict) and all(
        isinstance(state.get(part), dict) for part in ("_parameters", "_buffers", "_modules")
    )
