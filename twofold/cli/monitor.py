"""`twofold monitor`."""

import os
import sys
import webbrowser
from pathlib import Path
from typing import Annotated

from twofold.cli.options import Commas, Token, Whole
from twofold.cli.terminal import emit
from twofold.errors import UsageError


def monitor(
    *runs: Path,
    host: str = "127.0.0.1",
    port: Whole = 8707,
    allow_host: Annotated[list[str] | None, Commas] = None,
    token: Token = None,
    open: bool = True,
) -> None:
    """Show runs on a live page while they train and afterwards; Ctrl-C ends it.

    Example: `twofold monitor runs`.

    Args:
        runs: Run folders and folders of run folders. They are only read.
        host: The address to listen on. 0.0.0.0 lets other machines connect, with the token.
        port: The port to listen on; 0 takes a free one.
        allow_host: A further name that the page answers to, where a proxy passes on the name in the browser's address.
        token: What other machines must send, 8 characters or more. If not given, twofold makes and prints one where --host
            is not local.
        open: Open the page in a browser.
    """
    from twofold.serving.monitor import serve

    if not runs:
        raise UsageError("RUNS is missing: give a run folder or a folder of runs")
    for folder in runs:
        if not folder.is_dir():
            raise UsageError(f"{folder} is not a folder; give a run folder or a folder of runs")

    def ready(address: str, count: int) -> None:
        emit(f"{address}  {count:,} {'run' if count == 1 else 'runs'}; Ctrl-C ends it")
        if open:
            browse(address)

    serve(runs, host, port, ready, allow_host or (), token)


def browse(address: str) -> None:
    """Open a page in the user's browser, if there is a desktop."""
    desktop = sys.platform in ("darwin", "win32") or {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys()
    if desktop and "SSH_CONNECTION" not in os.environ:
        webbrowser.open(address)
