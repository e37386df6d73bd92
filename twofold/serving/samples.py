"""The sample grids of runs as answers."""

import re

from starlette.responses import Response

from twofold.runs import DIRECTIONS, Run

MAX_SAMPLE_BYTES = 1 << 25


def sample(run: Run, file: str) -> Response | None:
    """A sample grid by the name of its file, which never changes; None if there is none."""
    if not re.fullmatch(rf"[0-9]{{9,18}}-({'|'.join(DIRECTIONS)})\.webp", file):
        return None
    path = (run.path / "samples" / file).resolve()
    is_inside = path.is_relative_to(run.path.resolve())  # it may be a link
    if not is_inside or not path.is_file() or path.stat().st_size > MAX_SAMPLE_BYTES:
        return None
    content = path.read_bytes()
    if content[:4] != b"RIFF" or content[8:12] != b"WEBP":
        return None
    kept = {"Cache-Control": "private, max-age=31536000, immutable"}
    return Response(content, media_type="image/webp", headers=kept)
