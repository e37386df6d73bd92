"""`twofold monitor`: live pages over run folders, which are read and never written to."""

import hashlib
import re
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path

from twofold.errors import UsageError
from twofold.serving import views
from twofold.serving.doctor import BackgroundDoctor
from twofold.serving.download import as_csv
from twofold.serving.listening import Access, Guard, Server, access_to, address, listen, wants_html
from twofold.serving.samples import sample
from twofold.serving.watch import Watch, Watched, fingerprint, summarise

try:
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.middleware import Middleware
    from starlette.requests import Request
    from starlette.responses import HTMLResponse, PlainTextResponse, Response
    from starlette.routing import Route
    from starlette.types import ASGIApp
except ImportError as error:
    raise UsageError(
        f"twofold monitor needs {error.name}: pip install 'twofold[monitor]'; `twofold report` works without it"
    ) from None

SERVER_ID = secrets.token_hex(4)  # in every ETag: pages of another version are not taken for this one's


def serve(
    folders: Sequence[Path],
    host: str,
    port: int,
    ready: Callable[[str, int], None],
    allowed: Sequence[str],
    token: str | None,
) -> None:
    """Serve pages on the runs among and inside `folders` until Ctrl-C or SIGTERM.

    Once the server listens, `ready` is called with the page's address and the number of runs.
    """
    watch = Watch(folders)
    with listen(host, port) as listening:
        access = access_to(listening, host, allowed, token)
        ready(address(host, listening.getsockname()[1], access.token), len(watch.runs()))
        Server(application(watch, access)).run(sockets=[listening])


def application(watch: Watch, access: Access) -> ASGIApp:
    """The pages as an ASGI application."""
    doctor = BackgroundDoctor()

    def start(request: Request) -> Response:
        runs, query = list(watch.runs().values()), request.query_params
        if len(runs) == 1:
            return run_page(request, runs[0], alone=True)
        page = int(query["page"]) if re.fullmatch(r"[0-9]{1,6}", query.get("page", "")) else 1
        shown = views.listing(runs, query.getlist("run"), query.get("find", "")[:200], page)
        return page_if_changed(request, [*shown.selected, *shown.found], views.list_page, shown)

    def run(request: Request) -> Response:
        return run_page(request, named_run(request), alone=len(watch.runs()) == 1)

    def named_run(request: Request) -> Watched:
        found = watch.runs().get(request.path_params["key"])
        if found is None:
            raise HTTPException(404)
        return found

    def run_page(request: Request, found: Watched, *, alone: bool) -> Response:
        return page_if_changed(request, [found], views.run_page, found, doctor.diagnosis(found), alone)

    def compare(request: Request) -> Response:
        chosen = chosen_runs(request)
        if not 2 <= len(chosen) <= views.MAX_COMPARED:
            message = f"Select 2 to {views.MAX_COMPARED} runs to see them side by side, not {len(chosen)}."
            selected = f"{root(request)}?{request.url.query}"
            return HTMLResponse(views.message_page(selected, "Side by side", message), 400)
        return page_if_changed(request, chosen, views.comparison_page, chosen)

    def chosen_runs(request: Request) -> list[Watched]:
        runs, keys = watch.runs(), dict.fromkeys(request.query_params.getlist("run"))
        return [runs[key] for key in keys if key in runs]

    def run_csv(request: Request) -> Response:
        return download([named_run(request)])

    def compare_csv(request: Request) -> Response:
        return download(chosen_runs(request)[: views.MAX_COMPARED])

    def sample_grid(request: Request) -> Response:
        return sample(named_run(request).run, request.path_params["file"]) or not_found(request)

    routes = [
        Route("/", start),
        Route("/compare", compare),
        Route("/compare.csv", compare_csv),
        Route("/run/{key}", run),
        Route("/run/{key}/curves.csv", run_csv),
        Route("/run/{key}/{file}", sample_grid),
    ]
    errors = {404: not_found, OSError: not_found, Exception: failed}
    guard = Middleware(Guard, access=access, refuse=refused)
    return Starlette(routes=routes, middleware=[guard], exception_handlers=errors)


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


def refused(request: Request, status: int, message: str) -> Response:
    if not wants_html(request):
        return PlainTextResponse(f"{message}.\n", status)
    return HTMLResponse(views.message_page(root(request), "Not allowed", f"{message}."), status)


def failed(request: Request, error: Exception) -> Response:
    message = f"The page could not be made, which is a mistake in twofold: {type(error).__name__}: {error}"
    return HTMLResponse(views.message_page(root(request), "Error", message), 500)
