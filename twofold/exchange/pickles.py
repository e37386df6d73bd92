"""Interpret a pickle as data: no name in it is imported and nothing is called, so a hostile file cannot run code.

The standard library's `pickletools` splits the bytes into operations; `interpret` carries them out on plain containers.
Every class and function is an inert name (`Inert`), except the few that stand for tensors and containers, which this
module rebuilds itself. Memory is counted before it is used (`Budget`).
"""

import io
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from mmap import mmap
from pickletools import genops
from typing import Any, NamedTuple

import torch

Stream = io.BytesIO | mmap

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
    """Counts the memory that a file takes.

    Args:
        limit: in bytes.
    """

    def __init__(self, limit: int) -> None:
        self.left = limit

    def spend(self, nbytes: int) -> None:
        """Count bytes that are about to be used.

        Raises:
            MemoryError: more than the limit.
        """
        self.left -= nbytes
        if self.left < 0:
            raise MemoryError("it unpacks to several times its size")


class Pickle(NamedTuple):
    """The content of one pickle, and its storages by their key."""

    content: Any
    storages: dict[str, Storage]


def interpret(stream: Stream, budget: Budget) -> Pickle:
    """Read one pickle from a stream, which is left behind its last byte.

    Returns:
        The content: dict, list, tuple, str, bytes, int, float, bool, None, `View` and `Inert`. Containers may be
        shared, and may contain themselves.

    Raises:
        Exception: of almost any type; the pickle is damaged, or unpacks to more than the budget.
    """
    storages: dict[str, Storage] = {}
    with warnings.catch_warnings(action="ignore"):  # of escapes in damaged strings
        return Pickle(_run(stream, budget, storages), storages)


def _run(stream: Stream, budget: Budget, storages: dict[str, Storage]) -> Any:
    stack: list[Any] = []
    outer: list[list[Any]] = []  # the stacks below each mark
    memo: dict[int, Any] = {}
    for code, value, _ in genops(stream):
        budget.spend(OBJECT if value is None else NUMBER + _nbytes(value))
        match code.name:
            case "BINPUT" | "LONG_BINPUT" | "PUT":
                memo[value] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET" | "GET":
                stack.append(memo[value])
            case "MARK":
                outer.append(stack)
                stack = []
            case "POP_MARK":
                stack = outer.pop()
            case "POP":
                if stack:
                    stack.pop()
                else:
                    stack = outer.pop()
            case "DUP":
                stack.append(stack[-1])
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[code.name])
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST" | "EMPTY_SET":
                stack.append([])
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                count = int(code.name[-1])
                stack[-count:] = [tuple(stack[-count:])]
            case "TUPLE" | "LIST" | "FROZENSET":
                items, stack = stack, outer.pop()
                stack.append(tuple(items) if code.name == "TUPLE" else items)
            case "DICT":
                items, stack = stack, outer.pop()
                budget.spend(ENTRY * len(items))
                stack.append(_pairs(items))
            case "APPEND":
                item = stack.pop()
                _extend(stack[-1], [item])
            case "APPENDS" | "ADDITEMS":
                items, stack = stack, outer.pop()
                _extend(stack[-1], items)
            case "SETITEM":
                item, key = stack.pop(), stack.pop()
                _update(stack[-1], _pairs([key, item]))
            case "SETITEMS":
                items, stack = stack, outer.pop()
                budget.spend(ENTRY * len(items))
                _update(stack[-1], _pairs(items))
            case "GLOBAL":
                stack.append(Inert(*value.split(" ", 1)))
            case "STACK_GLOBAL":
                name, module = stack.pop(), stack.pop()
                stack.append(Inert(_string(module), _string(name)))
            case "INST":
                items, stack = stack, outer.pop()
                stack.append(_call(Inert(*value.split(" ", 1)), tuple(items), budget))
            case "OBJ":
                items, stack = stack, outer.pop()
                stack.append(_call(items[0], tuple(items[1:]), budget))
            case "REDUCE" | "NEWOBJ":
                arguments, function = stack.pop(), stack.pop()
                stack.append(_call(function, arguments, budget))
            case "NEWOBJ_EX":
                _, arguments, function = stack.pop(), stack.pop(), stack.pop()
                stack.append(_call(function, arguments, budget))
            case "BUILD":
                state = stack.pop()
                budget.spend(ENTRY * len(state) if isinstance(state, dict) else 0)
                _set_state(stack[-1], state)
            case "BINPERSID":
                stack.append(_persistent(stack.pop(), storages))
            case "PROTO" | "FRAME":
                pass
            case "STOP":
                return stack.pop()
            case name if code.arg is None or code.stack_before or name.startswith(("EXT", "NEXT", "PERSID")):
                raise ValueError(f"the operation {name} has no place in a checkpoint")
            case _:  # a number, a string or bytes
                stack.append(_string(value) if isinstance(value, str) else value)
    raise EOFError("it ends too early")


def _nbytes(value: Any) -> int:
    match value:
        case str():
            return len(value) * (1 if value.isascii() else 8)  # once as it is, once encoded
        case bytes() | bytearray():
            return len(value)
        case int():
            return value.bit_length() // 8
        case _:
            return 0


def _string(value: Any) -> str:
    """The string, if it can be printed: lone surrogates are replaced."""
    if not isinstance(value, str):
        raise TypeError("a name is not a string")
    return value if value.isascii() else value.encode("utf-8", "replace").decode()


# ---- containers


def _pairs(items: list[Any]) -> dict[Any, Any]:
    """A dict of keys and values in turn. Keys other than str, bytes and numbers are left out."""
    pairs = zip(items[::2], items[1::2], strict=True)
    return {key: value for key, value in pairs if isinstance(key, str | bytes | int | float)}


def _extend(container: Any, items: list[Any]) -> None:
    if isinstance(container, Inert) and container.state is None:
        container.state = []
    inside = container.state if isinstance(container, Inert) else container
    if isinstance(inside, list):
        inside.extend(items)


def _update(container: Any, items: dict[Any, Any]) -> None:
    """Add items to a dict, or to an object of a subclass of dict."""
    if isinstance(container, Inert) and not isinstance(container.state, dict):
        container.state = {}
    inside = container.state if isinstance(container, Inert) else container
    if isinstance(inside, dict):
        inside.update(items)


def _set_state(instance: Any, state: Any) -> None:
    """Give an object its attributes; those of containers and tensors, such as a state dict's `_metadata`, are left out."""
    if not isinstance(instance, Inert):
        return
    if isinstance(state, dict) and isinstance(instance.state, dict):
        instance.state.update(state)
    else:
        instance.state = state


# ---- what stands for a container or a tensor


def _call(function: Any, arguments: Any, budget: Budget) -> Any:
    """The object that the file makes of a class or function: one of `REBUILT`, or an inert one."""
    if not isinstance(function, Inert) or not isinstance(arguments, tuple):
        raise TypeError("what it calls is not a function")
    budget.spend(sum(OBJECT + 16 * len(each) for each in arguments if isinstance(each, dict | list | tuple)))
    rebuild = REBUILT.get((function.module, function.name))
    if rebuild and (found := rebuild(*arguments)) is not None:
        return found
    return Inert(function.module, function.name, arguments or None)


def _persistent(identity: Any, storages: dict[str, Storage]) -> Any:
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
    return _pairs([part for key, value in items for part in (key, value)])


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
