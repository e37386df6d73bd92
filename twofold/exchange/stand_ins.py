"""Stand-ins for the objects of a pickle: plain containers, tensors that are not read yet, and inert objects.

A checkpoint names the classes and functions that rebuild it. None of them is imported; `call` gives what stands for the
result. Memory is counted before it is used (`Budget`).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

NUMBER, OBJECT, ENTRY = 48, 120, 100
"""Bytes of memory that a number and its slot, an empty container or an object, and an entry of a dict may take."""

DTYPES = {
    "ByteStorage": torch.uint8,
    "CharStorage": torch.int8,
    "ShortStorage": torch.int16,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "BoolStorage": torch.bool,
}
"""Types of numbers, by the name of their storage's class."""


@dataclass(slots=True, eq=False)
class Inert:
    """A class, a function or an object of the file that is not plain data: its name, and what the file stores in it.

    Attributes:
        module, name: such as "argparse" and "Namespace".
        state: the object's attributes or arguments; None for a class or function itself.
    """

    module: str
    name: str
    state: Any = None


class Storage(NamedTuple):
    """A stretch of numbers in the file, or a part of one: `numel` numbers, from number `start` of record `key`."""

    key: str
    dtype: torch.dtype
    numel: int
    start: int = 0


@dataclass(slots=True, eq=False)
class View:
    """A tensor that is not read yet; offset and stride count the storage's numbers."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return math.prod(self.size) * self.storage.dtype.itemsize


class Budget:
    """Counts the memory that a file takes, in bytes."""

    def __init__(self, limit: int) -> None:
        self.left = limit

    def spend(self, nbytes: int) -> None:
        """Count bytes that are about to be used; MemoryError for more than the limit."""
        self.left -= nbytes
        if self.left < 0:
            raise MemoryError("it unpacks to several times its size")


# ---- containers


def pairs(items: list[Any]) -> dict[Any, Any]:
    """A dict of keys and values in turn. Keys other than str, bytes and numbers are left out."""
    found = zip(items[::2], items[1::2], strict=True)
    return {key: value for key, value in found if isinstance(key, str | bytes | int | float)}


def extend(container: Any, items: list[Any]) -> None:
    """Add items to a list, or to an object of a subclass of list."""
    if isinstance(container, Inert) and container.state is None:
        container.state = []
    inside = container.state if isinstance(container, Inert) else container
    if isinstance(inside, list):
        inside.extend(items)


def update(container: Any, items: dict[Any, Any]) -> None:
    """Add items to a dict, or to an object of a subclass of dict."""
    if isinstance(container, Inert) and not isinstance(container.state, dict):
        container.state = {}
    inside = container.state if isinstance(container, Inert) else container
    if isinstance(inside, dict):
        inside.update(items)


def set_state(instance: Any, state: Any) -> None:
    """Give an object its attributes; those of containers and tensors, such as a state dict's `_metadata`, are left out."""
    if not isinstance(instance, Inert):
        return
    if isinstance(state, dict) and isinstance(instance.state, dict):
        instance.state.update(state)
    else:
        instance.state = state


# ---- what stands for a container or a tensor


def call(function: Any, arguments: Any, budget: Budget) -> Any:
    """What stands for a function's result or a class's object: one of `REBUILT`, or an inert one.

    Raises:
        MemoryError: it takes more than the budget.
        TypeError: it is not a call, or has the wrong number of arguments.
    """
    if not isinstance(function, Inert) or not isinstance(arguments, tuple):
        raise TypeError("what it calls is not a function")
    budget.spend(16 * len(arguments))
    budget.spend(sum(OBJECT + 16 * len(each) for each in arguments if isinstance(each, dict | list | tuple)))
    rebuild = REBUILT.get((function.module, function.name))
    if rebuild and (found := rebuild(*arguments)) is not None:
        return found
    return Inert(function.module, function.name, arguments or None)


def persistent(identity: Any, storages: dict[str, Storage]) -> Any:
    """What torch stores beside the pickle: a storage, or the class of a pickled module."""
    match identity:
        case ("storage", Inert(name=kind), str(key), _, int(numel), *view) if kind in DTYPES and numel >= 0:
            root = storages.setdefault(key, Storage(key, DTYPES[kind], numel))
            match view:
                case [(_, int(start), int(count))] if 0 <= start <= start + count <= root.numel:
                    return Storage(key, root.dtype, count, start)
                case _:
                    return root
        case ("module", Inert() as kind, *_):
            return kind
        case _:
            return Inert("torch", "storage")


def _view(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> View | None:
    """A tensor in a storage; None if it is expanded, reaches beyond the storage, or is of another kind."""
    if not isinstance(storage, Storage):
        return None
    sizes, strides = _whole(size), _whole(stride)
    if sizes is None or strides is None or len(sizes) != len(strides):
        return None
    last = offset + sum((n - 1) * step for n, step in zip(sizes, strides, strict=True))
    numel, count = storage.numel, math.prod(sizes)
    if not 0 <= offset <= numel or count > numel or (count and last >= numel):
        return None
    return View(storage, offset, sizes, strides)


def _whole(values: Any) -> tuple[int, ...] | None:
    if not isinstance(values, tuple | list) or len(values) > 16:
        return None
    return tuple(values) if all(type(n) is int and 0 <= n < 2**40 for n in values) else None


def _first(value: Any, *_: Any) -> Any:
    return value


def _dict(items: Any = (), *_: Any) -> dict[Any, Any]:
    if isinstance(items, dict):
        return dict(items)
    return pairs([part for key, value in items for part in (key, value)])


def _list(items: Any = (), *_: Any) -> list[Any] | None:
    return list(items) if isinstance(items, list | tuple) else None


def _instance(kind: Any, *_: Any) -> Any:
    return Inert(kind.module, kind.name) if isinstance(kind, Inert) else None


def _subclassed(function: Any, _kind: Any, arguments: Any, *_: Any) -> Any:
    return _view(*arguments) if function.name in ("_rebuild_tensor", "_rebuild_tensor_v2") else None


REBUILT: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch._utils", "_rebuild_tensor"): _view,
    ("torch._utils", "_rebuild_tensor_v2"): _view,
    ("torch._utils", "_rebuild_parameter"): _first,
    ("torch._utils", "_rebuild_parameter_with_state"): _first,
    ("torch._tensor", "_rebuild_from_type_v2"): _subclassed,
    ("torch", "Size"): lambda items=(): tuple(items) if isinstance(items, list | tuple) else None,
    ("collections", "OrderedDict"): _dict,
    ("collections", "defaultdict"): lambda *_: {},
    ("copyreg", "_reconstructor"): _instance,
    ("copy_reg", "_reconstructor"): _instance,
} | {
    (module, name): make
    for module in ("builtins", "__builtin__")
    for name, make in {"set": _list, "frozenset": _list, "list": _list, "dict": _dict}.items()
}
"""What a checkpoint makes plain containers and tensors with, and the function of this module that does so instead."""
