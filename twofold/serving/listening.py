"""The socket, the HTTP server and the access rules of the monitor and the translation server."""

import asyncio
import errno
import hmac
import logging
import os
import re
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from ipaddress import ip_address
from typing import Any, NamedTuple

from twofold.errors import TwofoldError, UsageError

try:
    import h11
    import uvicorn
    from starlette.requests import Request
    from starlette.responses import RedirectResponse, Response
    from starlette.types import ASGIApp, Receive, Scope, Send
except ImportError as error:
    raise UsageError(
        f"twofold's pages need {error.name}: pip install 'twofold[monitor]' for `twofold monitor`, 'twofold[serve]' for "
        "`twofold serve`"
    ) from None

HEADERS = {
    "Content-Security-Policy": "frame-ancestors 'none'; base-uri 'none'; object-src 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

STALLED_SECONDS = 40.0
"""Time in which a request must arrive, and after which an answer that nobody reads is given up."""

LAST_REQUESTS_SECONDS = 0.5
SHUTDOWN_SECONDS = 1  # of the end, in which answers are still sent
MAX_CONNECTIONS = 900
"""Open connections, above which uvicorn answers 503: most systems give a process 1,024 files."""


# ---- the socket


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
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"--host {host} is not an address of this machine: {reason}") from None
    try:
        return socket.create_server(place, family=family, backlog=1024)
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            raise UsageError(f"--host {host} is not an address of this machine; 0.0.0.0 means all") from None
        reason = os.strerror(error.errno) if error.errno else error
        raise TwofoldError(
            f"cannot listen on {host}, port {port}: {reason}; --port 0 takes a free one"
        ) from None


def address(host: str, port: int, token: str | None = None) -> str:
    """The address for a browser; if the server listens on every address, one with the machine's name."""
    name = socket.gethostname() if host in ("0.0.0.0", "::", "") else host
    query = f"/?token={token}" if token else ""
    return f"http://{f'[{name}]' if ':' in name else name}:{port}{query}"


# ---- the server program


class Server(uvicorn.Server):
    """A server that writes nothing to the terminal, and that can be asked to finish its work first.

    Args:
        drain: called at the first Ctrl-C or SIGTERM, and then ten times a second until it returns True: all work is
            answered. Until then new connections are accepted, so that each of them gets an answer.
    """

    def __init__(self, app: ASGIApp, drain: Callable[[], bool] = lambda: True) -> None:
        config = uvicorn.Config(
            app,
            lifespan="on",
            ws="none",
            http="h11",
            log_config=None,
            log_level=logging.CRITICAL,
            access_log=False,
            server_header=False,
            headers=list(HEADERS.items()),
            limit_concurrency=MAX_CONNECTIONS,
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        )
        super().__init__(config)
        self.drain, self.signal = drain, 0
        self.stalled: dict[Any, float] = {}

    def handle_exit(self, sig: int, frame: object) -> None:  # noqa: ARG002
        if self.signal:
            self.should_exit = self.force_exit = True
        self.signal = self.signal or sig

    async def on_tick(self, counter: int) -> bool:
        if counter % 10 == 0:
            self._close_stalled_connections()
        return await super().on_tick(counter) or (bool(self.signal) and self.drain())

    def _close_stalled_connections(self) -> None:
        """Close those that have sent no complete request, or read nothing, for STALLED_SECONDS; uvicorn would not."""
        connections: set[Any] = self.server_state.connections
        now, stalled = time.monotonic(), {}
        for each in connections:
            unread = each.transport.get_write_buffer_size()
            if unread or each.conn.their_state in (h11.IDLE, h11.SEND_BODY):
                progress = each, each.cycle, unread  # each request has a cycle of its own
                stalled[progress] = self.stalled.get(progress, now)
                if now - stalled[progress] > STALLED_SECONDS:
                    each.transport.abort()
        self.stalled = stalled

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more connections, give those that were made just now time for their request, and end."""
        waiting = [each for listening in sockets or () for each in _waiting(listening)]
        for server in self.servers:
            server.close()  # resets connections that nobody has accepted
        for connection in waiting:
            await asyncio.get_running_loop().connect_accepted_socket(self._protocol, connection)
        end = time.monotonic() + LAST_REQUESTS_SECONDS
        while self.server_state.connections and time.monotonic() < end and not self.force_exit:
            await asyncio.sleep(0.05)
        await super().shutdown(sockets)

    def _protocol(self) -> asyncio.Protocol:
        kind: Any = self.config.http_protocol_class
        return kind(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)


def _waiting(listening: socket.socket) -> Iterator[socket.socket]:
    """The connections that the system has made and nobody has accepted yet."""
    with suppress(OSError):
        while True:
            yield listening.accept()[0]


# ---- access


class Access(NamedTuple):
    """Who may send requests.

    Attributes:
        names: the host names that are answered, in lower case and without a port.
        proxies: further ones, which pages that send data may also come from.
        addresses: whether a request may name any IP address as its host. A foreign page that lets its own name resolve
            to this machine (DNS rebinding) still sends that name.
        token: what each request must carry; None for no token.
        open_paths: paths that need no token.
    """

    names: frozenset[str]
    proxies: frozenset[str] = frozenset()
    addresses: bool = False
    token: str | None = None
    open_paths: frozenset[str] = frozenset()

    def knows(self, host: str) -> bool:
        """Whether a Host header, with or without a port, names this server."""
        name = _name(host)
        return name in self.names | self.proxies or (self.addresses and _is_address(name))

    def admits(self, origin: str, host: str) -> bool:
        """Whether a page of this origin may send data: one of this server or of its proxy."""
        place = origin.partition("://")[2].lower()
        return bool(place) and (place == host.lower() or _name(place) in self.proxies)


def access_to(
    listening: socket.socket,
    host: str,
    allowed: Sequence[str] = (),
    token: str | None = None,
    open_paths: Sequence[str] = (),
) -> Access:
    """Who may send requests to a socket: without a token only this machine's own users.

    Args:
        host, allowed: as the user named them; `allowed` are those of proxies.
        token: what the user chose. None: one is made if other machines can connect.

    Raises:
        UsageError: a name or the token cannot stand in a request.
    """
    for name in allowed:
        if not re.fullmatch(r"[\w.-]+", name):
            raise UsageError(
                f"--allow-host must be a name such as hub.example.org, without http:// or port, not {name}"
            )
    if token is not None and not re.fullmatch(r"[\w.~-]{8,200}", token, re.ASCII):
        raise UsageError("the token (--token or TWOFOLD_TOKEN) must be 8 to 200 letters, digits or . _ ~ -")
    names = {host, "localhost", "127.0.0.1", "::1"}
    local = ip_address(listening.getsockname()[0]).is_loopback
    if not local:
        own = socket.gethostname()
        names |= {own, f"{own}.local", socket.getfqdn()}
        token = token or secrets.token_urlsafe(24)
    own_names, proxies = (frozenset(name.lower() for name in each if name) for each in (names, allowed))
    return Access(own_names, proxies, not local, token, frozenset(open_paths))


def _name(place: str) -> str:
    """The name or address in a Host header, without its port; empty if it is malformed."""
    found = re.fullmatch(r"\[([0-9a-f:.]+)\](?::\d+)?|([\w.-]+)(?::\d+)?", place.lower())
    return (found[1] or found[2]) if found else ""


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


Refuse = Callable[[Request, int, str], Response]
"""An answer with a status and a message."""


class Guard:
    """Passes on the requests that name this server as their host and carry the token."""

    def __init__(self, app: ASGIApp, access: Access, refuse: Refuse) -> None:
        self.app, self.access, self.refuse = app, access, refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = self._check(Request(scope)) if scope["type"] == "http" else None
        await (answer or self.app)(scope, receive, send)

    def _check(self, request: Request) -> Response | None:
        """The answer to a request that is refused; None for others."""
        host, origin = request.headers.get("host", ""), request.headers.get("origin")
        if not self.access.knows(host):
            return self.refuse(
                request, 421, f"This server does not answer to the name {host[:100]!r}; --allow-host adds it"
            )
        foreign = origin is not None and not self.access.admits(origin, host)
        if request.method not in ("GET", "HEAD", "OPTIONS") and foreign:
            return self.refuse(request, 403, f"Pages of {str(origin)[:100]!r} may not send data here")
        if self.access.token is None or request.scope["path"] in self.access.open_paths:
            return None
        return self._check_token(request, self.access.token)

    def _check_token(self, request: Request, token: str) -> Response | None:
        name = f"twofold-{(request.scope.get('server') or ('', 0))[1]}"
        given = request.query_params.get("token", "")
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        offers = [given, request.cookies.get(name, ""), bearer.strip() if scheme.lower() == "bearer" else ""]
        if not any(_equal(each, token) for each in offers):
            answer = self.refuse(
                request, 401, "This server needs its token: open the address that it printed"
            )
            answer.headers["WWW-Authenticate"] = "Bearer"
            return answer
        if _equal(given, token) and request.method == "GET" and wants_html(request):
            answer = RedirectResponse(_without_token(request), 303)  # out of the address bar and the history
            answer.set_cookie(name, token, httponly=True, samesite="lax")
            return answer
        return None


def wants_html(request: Request) -> bool:
    """Whether a browser shows the answer to its user."""
    return "text/html" in request.headers.get("accept", "")


def _without_token(request: Request) -> str:
    """The same page without the token, relative to it, since a proxy may show it below an address of its own."""
    rest = request.url.remove_query_params("token").query
    return "./" + request.url.path.rpartition("/")[2] + (f"?{rest}" if rest else "")


def _equal(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), token.encode())
