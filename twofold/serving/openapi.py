"""The routes of `twofold serve` and their OpenAPI document."""

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from twofold.runs import DIRECTIONS
from twofold.serving.uploads import MEDIA
from twofold.translation.sources import FORMATS

Json = dict[str, Any]


def document(models: Sequence[str], needs_token: bool) -> Json:
    """The OpenAPI 3.1 document of a server that offers these models."""
    paths: Json = {}
    for (path, method), operation in ROUTES.items():
        security = [] if path in OPEN_PATHS or not needs_token else [{"token": []}]
        paths[path] = {method: {**operation, "security": security}}
    paths["/translate"]["post"]["parameters"] = _parameters(models)
    about = {"title": "twofold serve", "version": version("twofold")}
    token = {"token": {"type": "http", "scheme": "bearer"}}
    return {"openapi": "3.1.0", "info": about, "paths": paths, "components": {"securitySchemes": token}}


OPEN_PATHS = ("/healthz", "/readyz")
"""Paths that need no token, for programs that watch the server; they show no image."""


# ---- schemas


def _object(**properties: Json) -> Json:
    return {"type": "object", "properties": properties, "required": [*properties]}


def _list(items: Json) -> Json:
    return {"type": "array", "items": items}


_TEXT, _WHOLE, _TRUTH = {"type": "string"}, {"type": "integer"}, {"type": "boolean"}
_BINARY: Json = {"type": "string", "format": "binary"}
_DOMAIN = _object(dtype=_TEXT, channels=_WHOLE, labels=_TRUTH)
_DIRECTION = _object(
    direction={"enum": [*DIRECTIONS]},
    source=_DOMAIN,
    target=_DOMAIN,
    formats=_list({"enum": [*FORMATS]}),
    newest={"type": ["integer", "null"]},
    snapshots=_list(_WHOLE),
    best=_TRUTH,
    samples=_list(_WHOLE),
)
_MODEL = _object(name=_TEXT, ready=_TRUTH, directions=_list(_DIRECTION))


def _parameter(place: str, name: str, schema: Json, description: str) -> Json:
    is_path = place == "path"
    return {"in": place, "name": name, "required": is_path, "schema": schema, "description": description}


def _parameters(models: Sequence[str]) -> list[Json]:
    """Those of a translation."""
    scale = {"anyOf": [{"enum": ["trained", "native"]}, {"type": "integer", "minimum": 1}]}
    snapshot = {"anyOf": [{"const": "best"}, {"type": "integer", "minimum": 0}]}
    described: list[tuple[str, Json, str]] = [
        ("model", {"enum": [*models]}, "Default: the first."),
        ("direction", {"enum": [*DIRECTIONS]}, "Default: the model's first."),
        ("at", scale, "The scale: as in training, the image's own, or the mean side in pixels."),
        ("snapshot", snapshot, "Images that it had seen, or best. Default: the newest."),
        ("format", {"enum": [*FORMATS]}, "Default: png where it holds the values, else tif."),
    ]
    return [_parameter("query", *each) for each in described]


# ---- operations


def _operation(summary: str, media: Sequence[str], schema: Json, **more: Any) -> Json:
    content = {each: {"schema": schema} for each in media}
    error = {"application/json": {"schema": _object(error=_TEXT)}}
    answers = {
        "200": {"description": summary, "content": content},
        "default": {"description": "One line: what is wrong, and what to do.", "content": error},
    }
    return {"summary": summary, "responses": answers, **more}


_JSON, _STATUS = ["application/json"], _object(status=_TEXT)
_IMAGE = {"application/octet-stream": _BINARY, "multipart/form-data": _object(image=_BINARY)}
_BODY = {"required": True, "content": {media: {"schema": schema} for media, schema in _IMAGE.items()}}
_SAMPLE = [
    _parameter("path", "model", _TEXT, "The name of a run."),
    _parameter("path", "file", _TEXT, "Nine digits and the direction: 000004000-ab.webp"),
]

ROUTES: dict[tuple[str, str], Json] = {
    ("/", "get"): _operation("A page to translate images with", ["text/html"], _TEXT),
    ("/models", "get"): _operation("The models with their directions and snapshots", _JSON, _list(_MODEL)),
    ("/translate", "post"): _operation(
        "Translate an image; the result has its size",
        ["application/octet-stream", *MEDIA.values()],
        _BINARY,
        requestBody=_BODY,
    ),
    ("/samples/{model}/{file}", "get"): _operation(
        "A sample grid of a run", ["image/webp"], _BINARY, parameters=_SAMPLE
    ),
    ("/healthz", "get"): _operation("Whether the program runs", _JSON, _STATUS),
    ("/readyz", "get"): _operation("Whether every model can translate", _JSON, _STATUS),
    ("/metrics", "get"): _operation("Counters and times for Prometheus", ["text/plain"], _TEXT),
    ("/openapi.json", "get"): _operation("This document", _JSON, {"type": "object"}),
}
"""Each route with its method, and its OpenAPI operation."""
