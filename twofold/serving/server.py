"""`twofold serve`: models behind an HTTP address."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from twofold.errors import UsageError
from twofold.pages.translate import server_page
from twofold.serving.listening import Access, Guard, Server, access_to, address, listen
from twofold.serving.models import Loader, Model, UnknownError, open_models
from twofold.translation.translator import Translator

try:
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.middleware import Middleware
    from starlette.requests import Request
    from starlette.responses import HTMLResponse, JSONResponse, Response
    from starlette.routing import Route

    from twofold.serving.measured import Measured
    from twofold.serving.openapi import OPEN_PATHS, ROUTES, document
    from twofold.serving.samples import sample
    from twofold.serving.service import Service
    from twofold.serving.uploads import Limits, RefusedError
except ImportError as error:
    raise UsageError(f"twofold serve needs {error.name}: pip install 'twofold[serve]'") from None


def serve(
    paths: Sequence[Path],
    host: str,
    port: int,
    ready: Callable[[str, Sequence[Model]], None],
    *,
    load: Callable[..., Translator],
    allowed: Sequence[str],
    token: str | None,
    limits: Limits,
    follow: bool,
    notify: Callable[[str], object],
) -> int:
    """Translate images that are sent over HTTP until Ctrl-C or SIGTERM; accepted requests are answered then.

    Args:
        ready: called with the page's address and the models once the server listens.
        load: makes a translator of a path and a direction.
        notify: gets a line for each snapshot that `follow` loads, and for each failure.

    Returns:
        The number of the signal that ended it.
    """
    with listen(host, port) as listening:
        access, loader = access_to(listening, host, allowed, token, OPEN_PATHS), Loader(load)
        models = open_models(paths, follow=follow, loader=loader)
        service = Service(models, loader, limits, follow=follow, notify=notify)
        program = Server(application(service, access), service.drain)
        ready(address(host, listening.getsockname()[1], access.token), [*models.values()])
        program.run(sockets=[listening])
    return program.signal


# ---- the application


def application(service: Service, access: Access) -> Starlette:
    """The pages and the API as an ASGI application."""

    async def page(_: Request) -> Response:
        return HTMLResponse(server_page(", ".join(service.models)))

    async def models(_: Request) -> Response:
        return JSONResponse([model.describe() for model in service.models.values()])

    async def healthz(_: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def readyz(_: Request) -> Response:
        waiting = service.waiting_for()
        return error_answer(503, waiting, 1) if waiting else JSONResponse({"status": "ready"})

    async def metrics(_: Request) -> Response:
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")

    async def openapi(_: Request) -> Response:
        return JSONResponse(document([*service.models], access.token is not None))

    async def samples(request: Request) -> Response:
        model, file = service.models.get(request.path_params["model"]), request.path_params["file"]
        found = sample(model.run, file) if model and model.run else None
        return found or error_answer(404, "there is no such sample")

    async def failed(request: Request, error: Exception) -> Response:
        line = f"a mistake in twofold: {type(error).__name__}: {error}"
        service.notify(f"{request.url.path}: {line}")
        return error_answer(500, line)

    handlers = {
        **{"/": page, "/models": models, "/healthz": healthz, "/readyz": readyz, "/metrics": metrics},
        **{"/openapi.json": openapi, "/translate": service.translate, "/samples/{model}/{file}": samples},
    }
    return Starlette(
        routes=[Route(path, handlers[path], methods=[method.upper()]) for path, method in ROUTES],
        middleware=[
            Middleware(Measured, service=service),
            Middleware(Guard, access=access, refuse=lambda _, status, line: error_answer(status, line)),
        ],
        exception_handlers=EXCEPTIONS | {Exception: failed},
        lifespan=service.running,
    )


def error_answer(status: int, message: str, retry_after: int | None = None) -> Response:
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return JSONResponse({"error": " ".join(message.split())}, status, headers)


def _refused(_: Request, error: RefusedError) -> Response:
    answer = error_answer(error.status, error.message, error.retry_after)
    if error.closes:
        answer.headers["Connection"] = "close"
    return answer


def _http(request: Request, error: HTTPException) -> Response:
    """An unknown path or method."""
    headers = error.headers or {}
    advice = f"use {headers['Allow']}" if "Allow" in headers else "GET /openapi.json lists the addresses"
    message = f"{request.method} {request.url.path[:100]}: {error.detail}; {advice}"
    answer = error_answer(error.status_code, message)
    answer.headers.update(headers)
    return answer


EXCEPTIONS: dict[Any, Any] = {
    RefusedError: _refused,
    UnknownError: lambda _, error: error_answer(404, str(error)),
    HTTPException: _http,
}
