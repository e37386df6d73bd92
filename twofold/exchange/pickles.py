"""Interpret a pickle as data: no name in it is imported and nothing is called, so a hostile file cannot run code.

The standard library's `pickletools` splits the bytes into operations; `interpret` carries them out on plain containers.
Every class and function is an inert name, except the few that stand for tensors and containers
(`twofold.exchange.stand_ins`).
"""

import io
import warnings
from mmap import mmap
from pickletools import genops
from typing import Any, NamedTuple, cast

from twofold.exchange.stand_ins import (
    ENTRY,
    NUMBER,
    OBJECT,
    Budget,
    Inert,
    Storage,
    call,
    extend,
    pairs,
    persistent,
    set_state,
    update,
)

Stream = io.BytesIO | mmap


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
    for code, value, _ in cast("Any", genops)(stream):
        budget.spend(_cost(value))
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
                stack.append(pairs(items))
            case "APPEND":
                item = stack.pop()
                extend(stack[-1], [item])
            case "APPENDS" | "ADDITEMS":
                items, stack = stack, outer.pop()
                extend(stack[-1], items)
            case "SETITEM":
                item, key = stack.pop(), stack.pop()
                update(stack[-1], pairs([key, item]))
            case "SETITEMS":
                items, stack = stack, outer.pop()
                budget.spend(ENTRY * len(items))
                update(stack[-1], pairs(items))
            case "GLOBAL":
                stack.append(Inert(*value.split(" ", 1)))
            case "STACK_GLOBAL":
                name, module = stack.pop(), stack.pop()
                stack.append(Inert(_string(module), _string(name)))
            case "REDUCE" | "NEWOBJ":
                arguments, function = stack.pop(), stack.pop()
                stack.append(call(function, arguments, budget))
            case "NEWOBJ_EX":
                _, arguments, function = stack.pop(), stack.pop(), stack.pop()
                stack.append(call(function, arguments, budget))
            case "BUILD":
                state = stack.pop()
                budget.spend(ENTRY * len(state) if isinstance(state, dict) else 0)
                set_state(stack[-1], state)
            case "BINPERSID":
                stack.append(persistent(stack.pop(), storages))
            case "PROTO" | "FRAME":
                pass
            case "STOP":
                return stack.pop()
            case name if code.arg is None or code.stack_before or name.startswith(("EXT", "NEXT", "PERSID")):
                raise ValueError(f"the operation {name} has no place in a checkpoint")
            case _:  # a number, a string or bytes
                stack.append(_string(value) if isinstance(value, str) else value)
    raise EOFError("it ends too early")


def _cost(value: Any) -> int:
    """Most memory in bytes that an operation with a value takes, of which None is none."""
    match value:
        case None:
            return OBJECT
        case str():
            return NUMBER + len(value) * (1 if value.isascii() else 8)  # once as it is, once encoded
        case bytes() | bytearray():
            return NUMBER + len(value)
        case int():
            return NUMBER + value.bit_length() // 8
        case _:
            return NUMBER


def _string(value: Any) -> str:
    """The string, if it can be printed: lone surrogates are replaced."""
    if not isinstance(value, str):
        raise TypeError("a name is not a string")
    return value if value.isascii() else value.encode("utf-8", "replace").decode()
