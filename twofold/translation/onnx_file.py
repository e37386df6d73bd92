"""ONNX files that `twofold export` wrote: their metadata, and a translator that runs them in ONNX Runtime."""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from twofold.errors import TwofoldError, UsageError
from twofold.translation.header import Header, Side, from_json

IoName = Literal["float", "uint8"]


@dataclass(frozen=True, config={"extra": "forbid"})
class Form:
    """What an exported graph takes and gives.

    Attributes:
        io: "float": (N, C, H, W) in [-1, 1]. "uint8": (N, H, W, C) of stored values.
        fixed: the one (height, width) that the graph takes, with N = 1; None: any.
        fp16: whether the weights are in half precision.
        multiple_of, minimum: of the network inside, as of `Generator`.
    """

    io: IoName
    fixed: tuple[Side, Side] | None
    fp16: bool
    multiple_of: Side
    minimum: Side

    def to_json(self) -> str:
        return json.dumps(_FORM.dump_python(self), sort_keys=True)


_FORM = TypeAdapter(Form)


def from_metadata(metadata: dict[str, str], path: Path) -> tuple[Header, Form]:
    """The header and the form in the metadata of an ONNX file that twofold wrote."""
    try:
        form = _FORM.validate_json(metadata["twofold_form"])
        return from_json(metadata["twofold"], path), form
    except (KeyError, ValidationError) as error:
        raise TwofoldError(
            f"{path} is an ONNX file that `twofold export` did not write; twofold runs only its own"
        ) from error


def read(path: Path) -> tuple[Header, Form, Any]:
    """The header, the form and the graph (`onnx.ModelProto`) of an ONNX file. Does not load torch.

    Raises:
        UsageError: the file does not exist, or onnx is missing.
        TwofoldError: the file is damaged, or twofold did not write it.
    """
    try:
        import onnx  # pyright: ignore[reportMissingImports]
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise UsageError(
            f"reading {path} needs the package {error.name}: pip install 'twofold[export]'"
        ) from error
    check_exists(path)
    try:
        model = onnx.load_from_string(path.read_bytes())
    except DecodeError as error:
        raise TwofoldError(f"{path} is damaged, or no ONNX file; export it again") from error
    return *from_metadata({entry.key: entry.value for entry in model.metadata_props}, path), model


def check_exists(path: Path) -> None:
    if not path.is_file():
        raise UsageError(f"{path} does not exist; give a file that `twofold export` wrote")
