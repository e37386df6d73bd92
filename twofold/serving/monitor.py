"""`twofold monitor`: live pages over run folders, which are read and never written to."""

import errno
import hashlib
import logging
import re
import secrets
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from twofold.errors import TwofoldError, UsageError
from twofold.runs import DIRECTIONS
from twofold.serving import views
from twofold.serving.checkup import Checkups
from twofold.serving.watch import Watch, Watched, glance, trace

try:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.datastructures import Headers, MutableHeaders
    from starlette.requests import Request
    from starlette.responses import HTMLResponse, PlainTextResponse, Response
    from starlette.routing import Route
    from starlette.types import ASGIApp, Message, Receive, Scope, Send
except ImportError as error:
    raise TwofoldError(
        f"the live page needs {error.name}: pip install 'twofold[monitor]'; `twofold report` needs nothing"
    ) from None

LARGEST = 1 << 25  # bytes of a sample grid
GRACE = 1  # second after Ctrl-C for answers on their way; a phone asleep would take its own for ever
STARTED = secrets.token_hex(4)  # so that no page of another version is taken for this one's

HEADERS = {
    "Content-Security-Policy": "frame-ancestors 'none'; base-uri 'none'; object-src 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def serve(folders: Sequence[Path], host: str, port: int, ready: Callable[[str, int], None]) -> None:
    """Serve pages on the runs among and inside `folders` until interrupted.

    `ready` is told the address and the number of runs once it answers. Port 0 is any free one.

    Raises:
        TwofoldError: the address cannot be had.
    """
    watch = Watch(folders)
    listening = listen(host, port)
    local = ip_address(listening.getsockname()[0]).is_loopback
    app = application(watch, {host, "localhost", "127.0.0.1", "::1"} if local else None)
    ready(address(host, listening.getsockname()[1]), len(watch.runs()))
    with suppress(KeyboardInterrupt):
        server(app).run(sockets=[listening])


def server(app: ASGIApp) -> uvicorn.Server:
    """A server that keeps the terminal to itself: what goes wrong is said on the page."""
    config = uvicorn.Config(
        app,
        lifespan="off",
        ws="none",
        http="h11",
        log_config=None,
        log_level=logging.CRITICAL,
        access_log=False,
        timeout_graceful_shutdown=GRACE,
    )
    return uvicorn.Server(config)


def listen(host: str, port: int) -> socket.socket:
    """A socket that accepts connections to host and port.

    Raises:
        UsageError: there is no such host or port. TwofoldError: it is taken or not for us.
    """
    if not 0 <= port < 1 << 16:
        raise UsageError(f"--port is {port}; give 0 to 65535, 0 for any that is free")
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        raise UsageError(f"--host {host} is no address of this machine: {error.strerror or error}") from None
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(place)
        listening.listen(128)
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            raise TwofoldError(
                f"port {port} is in use, maybe by another monitor; --port 0 takes a free one"
            ) from None
        raise TwofoldError(f"cannot listen on {host}, port {port}: {error.strerror}; try --port 0") from None
    return listening


def address(host: str, port: int) -> str:
    """What to type into a browser; for every address of the machine, its name."""
    name = socket.gethostname() if host in ("0.0.0.0", "::", "") else host
    return f"http://{f'[{name}]' if ':' in name else name}:{port}"


def application(watch: Watch, hosts: set[str] | None) -> ASGIApp:
    """The pages as an ASGI application that answers to `hosts` alone; to any name if that is None."""
    checkups = Checkups()

    def start(request: Request) -> Response:
        runs, asked = list(watch.runs().values()), request.query_params
        if len(runs) == 1:
            return run_page(request, runs[0], checkups, alone=True)
        page = int(asked["page"]) if re.fullmatch(r"[0-9]{1,6}", asked.get("page", "")) else 1
        shown = views.listing(runs, asked.getlist("run"), asked.get("find", "")[:200], page)
        here = [*shown.ticked, *shown.found]
        return fresh(request, here, lambda: views.every(shown), f"{shown.runs}/{shown.pages}")

    def run(request: Request) -> Response:
        found = watch.runs().get(request.path_params["key"])
        return run_page(request, found, checkups, alone=len(watch.runs()) == 1) if found else lost()

    def compare(request: Request) -> Response:
        runs, keys = watch.runs(), dict.fromkeys(request.query_params.getlist("run"))
        chosen = [runs[key] for key in keys if key in runs]
        if not 2 <= len(chosen) <= views.MOST:
            words = f"Tick two to {views.MOST} runs to see them side by side; {len(chosen)} were ticked."
            return HTMLResponse(views.trouble("Side by side", words), 400)
        return fresh(request, chosen, lambda: views.several(chosen))

    def sample(request: Request) -> Response:
        found, asked = watch.runs().get(request.path_params["key"]), request.path_params["file"]
        match = re.fullmatch(rf"([0-9]{{9,18}})-({'|'.join(DIRECTIONS)})\.webp", asked)
        content = picture(found, int(match[1]), match[2]) if found and match else None
        if content is None:
            return PlainTextResponse("there is no such picture", 404)
        return Response(
            content,
            media_type="image/webp",
            headers={"Cache-Control": "private, max-age=31536000, immutable"},
        )

    routes = [
        Route("/", start),
        Route("/compare", compare),
        Route("/run/{key}", run),
        Route("/run/{key}/{file}", sample),
    ]
    answers = {404: lost, OSError: lost, Exception: broken}
    return Guard(Starlette(routes=routes, exception_handlers=answers), hosts)


def lost(*_: object) -> Response:
    words = "There is no such page; a run whose folder was moved or deleted is here no more."
    return HTMLResponse(views.trouble("Nothing here", words), 404)


def broken(_: Request, error: Exception) -> Response:
    words = f"The page could not be made, which is a mistake in twofold: {type(error).__name__}: {error}"
    return HTMLResponse(views.trouble("Something broke", words), 500)


class Guard:
    """Lets through GET and HEAD, from pages under its own names alone, and sends what keeps other pages out.

    A page elsewhere could have its own name resolve to this address (DNS rebinding); the Host header then tells.
    """

    def __init__(self, app: ASGIApp, hosts: set[str] | None) -> None:
        self.app, self.hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sealed(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        app = self.app
        if scope["method"] not in ("GET", "HEAD"):
            app = PlainTextResponse("GET and HEAD only", 405, headers={"Allow": "GET, HEAD"})
        elif self.hosts is not None and hostname(Headers(scope=scope)) not in self.hosts:
            app = PlainTextResponse("this monitor answers to its own address alone", 421)
        await app(scope, receive, sealed)


def hostname(headers: Headers) -> str | None:
    """The name a request is addressed to, without its port; None if it is no name."""
    try:
        return urlsplit(f"//{headers.get('host', '')}").hostname
    except ValueError:
        return None


def run_page(request: Request, found: Watched, checkups: Checkups, *, alone: bool) -> Response:
    words = checkups.words(found)
    return fresh(request, [found], lambda: views.one(found, words, alone), f"{alone} {words}")


def fresh(request: Request, runs: Sequence[Watched], body: Callable[[], str], more: str = "") -> Response:
    """A page about runs; only a word that nothing has changed, if it has not since the browser last asked."""
    seen = [(each.key, trace(each.run), glance(each).state) for each in runs]
    digest = hashlib.sha256(
        f"{STARTED} {request.url} {more} {seen}".encode("utf-8", "surrogatepass")
    ).hexdigest()
    headers = {"ETag": f'"{digest[:24]}"', "Cache-Control": "no-cache"}
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    return HTMLResponse(body().encode("utf-8", "replace"), headers=headers)


def picture(found: Watched, images: int, direction: str) -> bytes | None:
    """A sample grid, if it is a WebP file inside the run folder and of reasonable size."""
    path = found.run.sample(images, direction)
    try:
        inside = path.resolve().is_relative_to(found.run.path.resolve())
        if not inside or not path.is_file() or path.stat().st_size > LARGEST:
            return None
        content = path.read_bytes()
    except OSError:
        return None
    return content if content[:4] == b"RIFF" and content[8:12] == b"WEBP" else None
