"""`twofold monitor`: live pages over run folders, which are read and never written to."""

import hashlib
import logging
import os
import re
import secrets
import socket
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

from twofold.errors import TwofoldError, UsageError
from twofold.runs import DIRECTIONS
from twofold.serving import views
from twofold.serving.doctor import BackgroundDoctor
from twofold.serving.download import as_csv
from twofold.serving.watch import Watch, Watched, fingerprint, summarise

try:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.requests import Request
    from starlette.responses import HTMLResponse, Response
    from starlette.routing import Route
    from starlette.types import ASGIApp
except ImportError as error:
    raise TwofoldError(
        f"twofold monitor needs {error.name}: pip install 'twofold[monitor]'; `twofold report` works without it"
    ) from None

MAX_SAMPLE_BYTES = 1 << 25
SHUTDOWN_SECONDS = 1  # for answers on their way at Ctrl-C; a phone asleep would take its own for ever
SERVER_ID = secrets.token_hex(4)  # in every ETag: pages of another version are not taken for this one's

HEADERS = {
    "Content-Security-Policy": "frame-ancestors 'none'; base-uri 'none'; object-src 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def serve(
    folders: Sequence[Path],
    host: str,
    port: int,
    ready: Callable[[str, int], None],
    allowed: Sequence[str] = (),
) -> None:
    """Serve pages on the runs among and inside `folders` until interrupted.

    Args:
        folders: run folders and folders of run folders.
        host: the address to listen on; names other than this machine's own are answered only if it is not local.
        port: 0 for any free one.
        allowed: further names to answer to, such as that of a proxy.
        ready: called with the page's address and the number of runs once the server listens.

    Raises:
        TwofoldError: it cannot listen there.
    """
    watch = Watch(folders)
    listening = listen(host, port)
    local = ip_address(listening.getsockname()[0]).is_loopback
    app = application(watch, [host, "localhost", "127.0.0.1", "[::1]", *allowed] if local else None)
    ready(address(host, listening.getsockname()[1]), len(watch.runs()))
    with suppress(KeyboardInterrupt):
        server(app).run(sockets=[listening])


def server(app: ASGIApp) -> uvicorn.Server:
    """A server that writes nothing to the terminal: errors are shown on the page."""
    config = uvicorn.Config(
        app,
        lifespan="off",
        ws="none",
        http="h11",
        log_config=None,
        log_level=logging.CRITICAL,
        access_log=False,
        headers=list(HEADERS.items()),
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    return uvicorn.Server(config)


def listen(host: str, port: int) -> socket.socket:
    """A socket that accepts connections to host and port.

    Raises:
        UsageError: there is no such host or port.
        TwofoldError: the port is taken or not allowed.
    """
    if not 0 <= port < 1 << 16:
        raise UsageError(f"--port is {port}; give 0 to 65535, 0 for any free port")
    try:
        family, *_, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise UsageError(
            f"--host {host} is not an address of this machine: {error.strerror or error}"
        ) from None
    try:
        return socket.create_server(place, family=family, backlog=128)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error
        raise TwofoldError(
            f"cannot listen on {host}, port {port}: {reason}; --port 0 takes a free one"
        ) from None


def address(host: str, port: int) -> str:
    """The address for a browser; if the server listens on every address, one with the machine's name."""
    name = socket.gethostname() if host in ("0.0.0.0", "::", "") else host
    return f"http://{f'[{name}]' if ':' in name else name}:{port}"


def application(watch: Watch, hosts: Collection[str] | None) -> ASGIApp:
    """The pages as an ASGI application that answers to the names `hosts` only; to any name if that is None.

    A foreign web page could let its own name resolve to this address (DNS rebinding); the Host header shows it.
    """
    doctor = BackgroundDoctor()

    def start(request: Request) -> Response:
        runs, query = list(watch.runs().values()), request.query_params
        if len(runs) == 1:
            return run_page(request, runs[0], alone=True)
        page = int(query["page"]) if re.fullmatch(r"[0-9]{1,6}", query.get("page", "")) else 1
        shown = views.listing(runs, query.getlist("run"), query.get("find", "")[:200], page)
        return page_if_changed(request, [*shown.selected, *shown.found], views.list_page, shown)

    def run(request: Request) -> Response:
        found = watch.runs().get(request.path_params["key"])
        return run_page(request, found, alone=len(watch.runs()) == 1) if found else not_found(request)

    def run_page(request: Request, found: Watched, *, alone: bool) -> Response:
        return page_if_changed(request, [found], views.run_page, found, doctor.diagnosis(found), alone)

    def compare(request: Request) -> Response:
        chosen = chosen_runs(request)
        if not 2 <= len(chosen) <= views.MAX_COMPARED:
            message = f"Select 2 to {views.MAX_COMPARED} runs to see them side by side, not {len(chosen)}."
            return HTMLResponse(views.message_page(root(request), "Side by side", message), 400)
        return page_if_changed(request, chosen, views.comparison_page, chosen)

    def chosen_runs(request: Request) -> list[Watched]:
        runs, keys = watch.runs(), dict.fromkeys(request.query_params.getlist("run"))
        return [runs[key] for key in keys if key in runs]

    def run_csv(request: Request) -> Response:
        found = watch.runs().get(request.path_params["key"])
        return download([found]) if found else not_found(request)

    def compare_csv(request: Request) -> Response:
        return download(chosen_runs(request)[: views.MAX_COMPARED])

    def sample(request: Request) -> Response:
        found, file = watch.runs().get(request.path_params["key"]), request.path_params["file"]
        content = b""
        if found and re.fullmatch(rf"[0-9]{{9,18}}-({'|'.join(DIRECTIONS)})\.webp", file):
            content = inside(found.run.path, f"samples/{file}")
        if content[:4] != b"RIFF" or content[8:12] != b"WEBP":
            return not_found(request)
        kept = {"Cache-Control": "private, max-age=31536000, immutable"}
        return Response(content, media_type="image/webp", headers=kept)

    routes = [
        Route("/", start),
        Route("/compare", compare),
        Route("/compare.csv", compare_csv),
        Route("/run/{key}", run),
        Route("/run/{key}/curves.csv", run_csv),
        Route("/run/{key}/{file}", sample),
    ]
    own_names = Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts or "*"), www_redirect=False)
    errors = {404: not_found, OSError: not_found, Exception: failed}
    return Starlette(routes=routes, middleware=[own_names], exception_handlers=errors)


def page_if_changed(
    request: Request, runs: Sequence[Watched], view: Callable[..., str], *values: object
) -> Response:
    """The page `view(root, *values)`, or 304 if neither they nor the runs on it changed since the browser's last request."""
    shown = [(each.key, fingerprint(each.run), summarise(each.run).state) for each in runs]
    content = f"{SERVER_ID} {request.url} {values} {shown}".encode("utf-8", "surrogatepass")
    headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()[:24]}"', "Cache-Control": "no-cache"}
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    return HTMLResponse(view(root(request), *values).encode("utf-8", "replace"), headers=headers)


def inside(folder: Path, name: str) -> bytes:
    """A file of at most MAX_SAMPLE_BYTES, unless it links out of the folder; empty if there is none."""
    path = (folder / name).resolve()
    fits = (
        path.is_relative_to(folder.resolve()) and path.is_file() and path.stat().st_size <= MAX_SAMPLE_BYTES
    )
    return path.read_bytes() if fits else b""


def root(request: Request) -> str:
    """The way from a page to the list of runs, as a relative link."""
    return "../" * (request.url.path.count("/") - 1) or "./"


def download(runs: Sequence[Watched]) -> Response:
    name = runs[0].key if len(runs) == 1 else "runs"
    headers = {"Content-Disposition": f'attachment; filename="{name}.csv"', "Cache-Control": "no-cache"}
    table = as_csv([(each.name, each.run) for each in runs])
    return Response(table.encode("utf-8", "replace"), media_type="text/csv", headers=headers)


def not_found(request: Request, *_: object) -> Response:
    message = "This page does not exist. If it was a run, its folder was moved or deleted."
    return HTMLResponse(views.message_page(root(request), "Not found", message), 404)


def failed(request: Request, error: Exception) -> Response:
    message = f"The page could not be made, which is a mistake in twofold: {type(error).__name__}: {error}"
    return HTMLResponse(views.message_page(root(request), "Error", message), 500)
