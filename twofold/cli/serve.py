"""`twofold serve`."""

import logging
import signal
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from twofold.cli.monitor import browse
from twofold.cli.options import Commas, Flag, Token, Whole
from twofold.cli.terminal import complain, emit
from twofold.errors import INTERRUPTED, UsageError

if TYPE_CHECKING:
    from twofold.serving.models import Model


def serve(
    *models: Path,
    host: str = "127.0.0.1",
    port: Whole = 8708,
    allow_host: Annotated[list[str] | None, Commas] = None,
    token: Token = None,
    follow: Flag = False,
    queue: Whole = 128,
    max_mb: Whole = 32,
    max_megapixels: Whole = 16,
    timeout: Whole = 60,
    device: str = "auto",
    precision: Literal["auto", "float32", "bf16"] = "auto",
    backend: Literal["torch", "openvino", "onnxruntime"] = "torch",
    open: bool = True,
) -> int:
    """Translate images that are sent over HTTP, and show a page for it; Ctrl-C ends it.

    Example: `twofold serve runs/h2z`.

    Args:
        models: Run folders, .safetensors models, .onnx files of `twofold export`, and checkpoints that `twofold import`
            takes.
        host: The address to listen on. 0.0.0.0 lets other machines connect, with the token.
        port: The port to listen on; 0 takes a free one.
        allow_host: A further name that the server answers to, where a proxy passes on the name in the browser's address.
        token: What other machines must send, 8 characters or more. If not given, twofold makes and prints one where --host
            is not local.
        follow: Load the newest snapshot of a run that is training as soon as it is saved.
        queue: Requests in work at a time; further ones are answered with 503 and the time to wait.
        max_mb: Size of an upload, in MiB.
        max_megapixels: Size of an image, and of the network's input, in millions of pixels.
        timeout: Seconds from the end of an upload to its answer, above which the answer is 503.
        device: auto, cpu, cuda, cuda:1, mps.
        precision: auto is bf16 where the machine computes it fast (a few levels of difference), else float32;
            always float32 for models of more than 8 bits.
        backend: The library that runs the network: openvino and onnxruntime run on a CPU, where installed.
        open: Open the page in a browser.
    """
    if not models:
        raise UsageError("MODELS is missing: give a run folder, a .safetensors model or a checkpoint")
    sizes = {"--queue": queue, "--max-mb": max_mb, "--max-megapixels": max_megapixels, "--timeout": timeout}
    for name, value in sizes.items():
        if not 1 <= value <= 100_000:
            raise UsageError(f"{name} must be 1 to 100,000, not {value}")
    from twofold.exchange.load import load
    from twofold.hardware import keep_freed_memory
    from twofold.serving.server import serve as serve_models
    from twofold.serving.uploads import Limits

    def ready(address: str, models: "Sequence[Model]") -> None:
        names = ", ".join(
            f"{model.name} ({' '.join(model.directions) or 'waits for a snapshot'})" for model in models
        )
        emit(f"{address}  {names}; Ctrl-C ends it")
        if open:
            browse(address)

    keep_freed_memory()
    warnings.simplefilter("ignore")  # decoders warn of damaged uploads, which their senders are told of
    logging.disable(logging.WARNING)
    ended_by = serve_models(
        models,
        host,
        port,
        ready,
        load=partial(load, device=device, precision=precision, backend=backend),
        allowed=allow_host or (),
        token=token,
        limits=Limits(max_mb << 20, max_megapixels * 1_000_000, queue, timeout),
        follow=follow,
        notify=complain,
    )
    return INTERRUPTED if ended_by == signal.SIGINT else 0
