"""ONNX Runtime Web as it is installed on this machine, or as npm fetches it when the user agrees."""

import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from twofold.errors import TwofoldError, UsageError

PACKAGE = "onnxruntime-web"

MIT = """\
ONNX Runtime Web {version}, https://github.com/microsoft/onnxruntime
Copyright (c) Microsoft Corporation

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated documentation files
(the "Software"), to deal in the Software without restriction, including without limitation the rights to use, copy, modify,
merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES
OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE
LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR
IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""
"""The notice that every copy must carry; the package itself comes without it."""


class Runtime(NamedTuple):
    """The files of ONNX Runtime Web that a page contains."""

    version: str
    ort: bytes
    """The library, which defines `ort`."""
    glue: bytes
    """The module that it loads, which starts `wasm`."""
    wasm: bytes


def find_runtime(ort: Path | None = None) -> Path | None:
    """Where ONNX Runtime Web is: a folder of npm's package, or the .tgz file of `npm pack`; None: not installed.

    Looks at `ort` alone if given, else for node_modules here and in the folders above, and for npm's global packages.

    Raises:
        UsageError: it is not at `ort`.
    """
    if ort is None:
        return next((place for place in _installed() if _holds_runtime(place)), None)
    for place in (ort, ort / PACKAGE, ort / "node_modules" / PACKAGE, ort / "package", ort.parent):
        if place.is_file() or _holds_runtime(place):
            return place
    raise UsageError(f"--ort {ort} holds no {PACKAGE}: give its folder, as `npm install {PACKAGE}` makes it")


def _holds_runtime(place: Path) -> bool:
    return (place / "dist" / "ort.wasm.min.js").is_file()


def _installed() -> Iterator[Path]:
    here = Path.cwd()
    yield from (folder / "node_modules" / PACKAGE for folder in (here, *here.parents))
    if npm := shutil.which("npm"):
        asked = subprocess.run([npm, "root", "-g"], capture_output=True, text=True, check=False, timeout=60)
        if asked.returncode == 0:
            yield Path(asked.stdout.strip()) / PACKAGE


def read_runtime(ort: Path | None, webgpu: bool, consent: bool) -> Runtime:
    """ONNX Runtime Web as it is installed, or as npm fetches it now if it may.

    Raises:
        UsageError: it is not installed, and `consent` is False, or npm is missing.
        TwofoldError: npm could not fetch it, or its files are not those that are known.
    """
    found = find_runtime(ort)
    if found is not None:
        return _read(found, webgpu)
    if not consent:
        raise UsageError(
            f"the page needs {PACKAGE} (MIT): run `npm install {PACKAGE}` here, name its folder with --ort, or let"
            " npm fetch it with --yes"
        )
    with tempfile.TemporaryDirectory() as folder:
        return _read(_fetch(Path(folder)), webgpu)


def _fetch(folder: Path) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise UsageError(f"npm is not installed, so {PACKAGE} cannot be fetched; name its folder with --ort")
    command = [npm, "pack", "--silent", "--pack-destination", str(folder), PACKAGE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    fetched = next(folder.glob("*.tgz"), None)
    if done.returncode or fetched is None:
        reason = (done.stderr.strip() or done.stdout.strip() or "no reason given").splitlines()[0]
        raise TwofoldError(
            f"npm could not fetch {PACKAGE}: {reason}; try again, or name its folder with --ort"
        )
    return fetched


def _read(place: Path, webgpu: bool) -> Runtime:
    name = "ort.webgpu.min.js" if webgpu else "ort.wasm.min.js"
    try:
        script = _file(place, name)
        version = re.search(rb"ONNX Runtime Web v([\w.-]+)", script)
        glue = re.search(rb"(ort-wasm-simd-threaded[.\w]*?)\.mjs", script)
        if version is None or glue is None:
            raise KeyError(name)
        stem = glue[1].decode()
        return Runtime(version[1].decode(), script, _file(place, f"{stem}.mjs"), _file(place, f"{stem}.wasm"))
    except (KeyError, OSError, tarfile.TarError) as error:
        raise TwofoldError(
            f"{place} has no file dist/{name} as twofold knows it: install {PACKAGE} 1.20 or newer"
        ) from error


def _file(place: Path, name: str) -> bytes:
    """A file of the package, which is a folder or an archive of `npm pack`."""
    if place.is_dir():
        return (place / "dist" / name).read_bytes()
    with tarfile.open(place) as archive:
        file = archive.extractfile(f"package/dist/{name}")
        if file is None:
            raise KeyError(name)
        return file.read()
