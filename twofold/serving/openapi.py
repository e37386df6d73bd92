"""The routes of `twofold serve`, and what `GET openapi.json` tells about them."""

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from twofold.runs import DIRECTIONS
from twofold.serving.uploads import MEDIA
from twofold.translation.sources import FORMATS

Json = dict[str, Any]


def document(models: Sequence[str], needs_token: bool) -> Json:
    """The OpenAPI 3.1 document of a server.

    Args:
        models: their names.
        needs_token: whether requests must carry the server's token.
    """
    operations = {
        path: {
            method: {
                **operation,
                "responses": operation["responses"] | _ERRORS,
                **({} if operation.get("security") == [] else {"security": [{"token": []}] * needs_token}),
            }
        }
        for (path, method), operation in ROUTES.items()
    }
    operations["/translate"]["post"]["parameters"] = _parameters(models)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "twofold serve",
            "version": version("twofold"),
            "description": "Translates images with trained networks.",
        },
        "paths": operations,
        "components": {
            "schemas": {"Error": _ERROR, "Model": _MODEL, "Status": _STATUS},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _answer(description: str, media: str, schema: Json) -> Json:
    return {"200": {"description": description, "content": {media: {"schema": schema}}}}


def _object(**properties: Json) -> Json:
    return {"type": "object", "properties": properties, "required": [*properties]}


_TEXT, _WHOLE, _TRUTH = {"type": "string"}, {"type": "integer"}, {"type": "boolean"}
_BINARY: Json = {"type": "string", "format": "binary"}
_ERROR, _STATUS = _object(error=_TEXT), _object(status=_TEXT)
_DOMAIN = _object(dtype=_TEXT, channels=_WHOLE, labels=_TRUTH)
_MODEL = _object(
    name=_TEXT,
    ready=_TRUTH,
    directions={
        "type": "array",
        "items": _object(
            direction={"enum": [*DIRECTIONS]},
            source=_DOMAIN,
            target=_DOMAIN,
            formats={"type": "array", "items": {"enum": [*FORMATS]}},
            newest={"type": ["integer", "null"]},
            snapshots={"type": "array", "items": _WHOLE},
            best=_TRUTH,
            samples={"type": "array", "items": _WHOLE},
        ),
    },
)
_ERRORS: Json = {
    "default": {
        "description": "One line that says what is wrong and what to do. 400 empty or broken body, 401 token, 403 page of "
        "another site, 404 unknown model, direction or snapshot, 408 slow upload, 413 too many bytes or pixels, 415 not an "
        "image, 421 unknown host name, 422 damaged image or wrong parameter, 503 busy or not ready: try again after the "
        "seconds in Retry-After.",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
    }
}
_IMAGE = _answer("The translation, in the size of the image.", "application/octet-stream", _BINARY)
_IMAGE["200"]["content"] |= {media: {"schema": _BINARY} for media in MEDIA.values()}

ROUTES: dict[tuple[str, str], Json] = {
    ("/", "get"): {
        "summary": "A page to translate images with",
        "responses": _answer("The page.", "text/html", _TEXT),
    },
    ("/models", "get"): {
        "summary": "The models with their directions and snapshots",
        "responses": _answer(
            "All models.",
            "application/json",
            {"type": "array", "items": {"$ref": "#/components/schemas/Model"}},
        ),
    },
    ("/translate", "post"): {
        "summary": "Translate an image",
        "requestBody": {
            "required": True,
            "content": {
                "application/octet-stream": {"schema": _BINARY},
                "multipart/form-data": {"schema": _object(image=_BINARY)},
            },
        },
        "responses": _IMAGE,
    },
    ("/samples/{model}/{file}", "get"): {
        "summary": "A sample grid of a run, such as 000004000-ab.webp",
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": _TEXT} for name in ("model", "file")
        ],
        "responses": _answer("The grid.", "image/webp", _BINARY),
    },
    ("/healthz", "get"): {
        "summary": "Whether the program runs",
        "security": [],
        "responses": _answer("It does.", "application/json", {"$ref": "#/components/schemas/Status"}),
    },
    ("/readyz", "get"): {
        "summary": "Whether every model can translate; 503 with the reason if not",
        "security": [],
        "responses": _answer("It is ready.", "application/json", {"$ref": "#/components/schemas/Status"}),
    },
    ("/metrics", "get"): {
        "summary": "Counters and times for Prometheus",
        "responses": _answer("The counters.", "text/plain", _TEXT),
    },
    ("/openapi.json", "get"): {
        "summary": "This document",
        "responses": _answer("The document.", "application/json", {"type": "object"}),
    },
}
"""Each route with its method, and its OpenAPI operation."""


def _parameters(models: Sequence[str]) -> list[Json]:
    schemas: dict[str, tuple[Json, str]] = {
        "model": ({"enum": [*models]}, "Which model; the first if not given."),
        "direction": ({"enum": [*DIRECTIONS]}, "The model's first if not given."),
        "at": (
            {"anyOf": [{"enum": ["trained", "native"]}, {"type": "integer", "minimum": 1}]},
            "The scale of the network's input: as in training, the image's own pixels, or its mean side in pixels.",
        ),
        "snapshot": (
            {"anyOf": [{"const": "best"}, {"type": "integer", "minimum": 0}]},
            "Of a run: the best one, or the one that had seen so many images; the newest if not given.",
        ),
        "format": ({"enum": [*FORMATS]}, "Of the result; PNG if not given, where it holds the values."),
    }
    return [
        {"name": name, "in": "query", "description": text, "schema": schema}
        for name, (schema, text) in schemas.items()
    ]
