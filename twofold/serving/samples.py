"""The sample grids of runs as answers."""

import re
from pathlib import Path

from starlette.responses import Response

from twofold.runs import DIRECTIONS, Run

MAX_SAMPLE_BYTES = 1 << 25


def sample(run: Run, file: str) -> Response | None:
    """A sample grid by the name of its file, which never changes; None if there is none."""
    if not re.fullmatch(rf"[0-9]{{9,18}}-({'|'.join(DIRECTIONS)})\.webp", file):
        return None
    content = _inside(run.path, f"samples/{file}")
    if content[:4] != b"RIFF" or content[8:12] != b"WEBP":
        return None
    kept = {"Cache-Control": "private, max-age=31536000, immutable"}
    return Response(content, media_type="image/webp", headers=kept)


def _inside(folder: Path, name: str) -> bytes:
    """A file of at most MAX_SAMPLE_BYTES, unless it links out of the folder; empty if there is none."""
    path = (folder / name).resolve()
    fits = (
        path.is_relative_to(folder.resolve()) and path.is_file() and path.stat().st_size <= MAX_SAMPLE_BYTES
    )
    return path.read_bytes() if fits else b""
