"""The translations in progress: read an upload, wait for the network, answer."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar
from urllib.parse import quote

import torch
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from twofold.errors import TwofoldError
from twofold.serving import uploads
from twofold.serving.batching import Batcher, Done
from twofold.serving.measured import Metrics
from twofold.serving.models import Loader, Model, Snapshot, UnknownError
from twofold.serving.uploads import Limits, Parameters, RefusedError
from twofold.translation.translator import Translator

CODECS = 2
"""Threads that decode and encode images."""

SMALL = 1 << 20
"""Bytes of an upload that is read even where the answer will be 503, so that the client reads it."""

PART = 1 << 16
"""Bytes of an answer that are sent at a time."""

FOLLOW_SECONDS = 1.0
"""Time between two looks at the folders of followed runs."""

REFUSE_SECONDS, DRAIN_SECONDS = 0.5, 30.0
"""After SIGTERM: the least time in which new requests are answered with 503; the most time that accepted ones have."""

R = TypeVar("R")


class Service:
    """Models, the threads that work for them, and the requests in progress."""

    def __init__(
        self,
        models: Mapping[str, Model],
        loader: Loader,
        limits: Limits,
        *,
        follow: bool,
        notify: Callable[[str], object],
    ) -> None:
        self.models, self.loader, self.limits = models, loader, limits
        self.follow, self.notify = follow, notify
        self.metrics = Metrics(self)
        self.batcher = Batcher(self._on_batch)
        torch.get_num_threads()  # as in `twofold.prefetch`
        self.codecs = ThreadPoolExecutor(CODECS, "twofold-codec", torch.set_num_threads, (1,))
        self.open, self.working, self.held = 0, 0, 0
        """Requests in progress, those of them whose upload is complete, and bytes that they and answers hold."""
        self.works: set[asyncio.Task[Response]] = set()
        self.image_seconds = 0.1
        """Seconds that an image lately took in the network."""
        self.drained_since: float | None = None
        self.warm = False
        self.problems: dict[str, str] = {}

    # ---- life

    @asynccontextmanager
    async def running(self, _: object) -> AsyncIterator[None]:
        """Load the default networks, and follow runs, while the server runs."""
        task = asyncio.create_task(self._background())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            self.batcher.close()
            for pool in (self.codecs, self.loader.thread):
                pool.shutdown(cancel_futures=True)

    async def _background(self) -> None:
        first = [model for model in self.models.values() if model.directions]
        for model in first[:1]:
            await self._try_to_load(model.name, model.snapshot(None, None))
        self.warm = True
        while self.follow:
            for model in self.models.values():
                await self._update(model)
            await asyncio.sleep(FOLLOW_SECONDS)

    async def _update(self, model: Model) -> None:
        """Make the newest snapshots of a run the default ones, once they are loaded."""
        try:
            unused = [*model.unused()]
        except (TwofoldError, OSError) as error:
            self._note(model.name, str(error))
            return
        for direction, newest in unused:
            if await self._try_to_load(model.name, Snapshot(newest.path, direction, str(newest.images))):
                model.use(direction, newest)
                self.notify(f"{model.name} {direction}: snapshot {newest.images:,}")

    async def _try_to_load(self, name: str, snapshot: Snapshot) -> bool:
        try:
            await self._in(self.loader.thread, self.loader.load, snapshot)
        except Exception as error:  # a background task has nobody to raise it to
            self._note(name, str(error))
            return False
        self.problems.pop(name, None)
        return True

    def _note(self, name: str, problem: str) -> None:
        if self.problems.get(name) != problem:
            self.problems[name] = problem
            self.notify(problem)

    @property
    def draining(self) -> bool:
        return self.drained_since is not None

    def drain(self) -> bool:
        """Refuse new requests from now on; whether all accepted ones are answered."""
        if self.drained_since is None:
            self.drained_since = time.monotonic()
        passed = time.monotonic() - self.drained_since
        if passed > DRAIN_SECONDS:
            for work in self.works:
                work.cancel()
        return passed > DRAIN_SECONDS + REFUSE_SECONDS or (passed > REFUSE_SECONDS and not self.open)

    def waiting_for(self) -> str:
        """Why the server is not ready; empty if it is."""
        if self.draining:
            return "the server is shutting down"
        if not self.warm:
            return "the first model is being loaded"
        missing = [model.name for model in self.models.values() if not model.directions]
        return f"{', '.join(missing)}: no snapshot yet" if missing else ""

    # ---- a translation

    async def translate(self, request: Request) -> Response:
        """Read, queue, translate, and answer."""
        if self.draining:
            raise RefusedError(503, "the server is shutting down", 5)
        share = Share(self)
        self.open += 1
        try:
            return await self._translate(request, share)
        finally:
            self.open -= 1
            share.release()

    async def _translate(self, request: Request, share: "Share") -> Response:
        if self._is_full() and uploads.declared_length(request) > SMALL:
            raise self._busy(closes=True)
        body = await uploads.read_body(request, self.limits, share.hold)
        if self._is_full():
            raise self._busy()
        self.working += 1
        try:
            content, fields = await uploads.read_form(request, body)
            asked = uploads.read_parameters([*request.query_params.multi_items(), *fields])
            return await self._while_connected(request, self._answer(content, asked, share))
        finally:
            self.working -= 1

    async def _while_connected(self, request: Request, answer: Any) -> Response:
        """The answer, which is given up when the client has left or the time is over."""
        work, gone = asyncio.create_task(answer), asyncio.create_task(_disconnected(request))
        self.works.add(work)
        try:
            await asyncio.wait((work, gone), timeout=self.limits.seconds, return_when=asyncio.FIRST_COMPLETED)
            if work.cancelled():
                raise RefusedError(503, "the server is shutting down", 5)
            if work.done():
                return work.result()
            if gone.done():
                return Response(status_code=499)  # nobody reads it; the metrics count it
            message = f"no answer within {self.limits.seconds:g} s; try again later or use a smaller at"
            raise RefusedError(503, message, self._later())
        finally:
            self.works.discard(work)
            work.cancel()
            gone.cancel()

    async def _answer(self, content: bytes, asked: Parameters, share: "Share") -> Response:
        model, snapshot, translator = await self._translator(asked)
        format = uploads.check_format(asked.format, translator)
        start = time.monotonic()
        decoded = await self._in(self.codecs, uploads.decode, content, translator, asked.at, self.limits)
        share.hold(decoded.image.nbytes)
        decoded_at = time.monotonic()
        done = await asyncio.wrap_future(self.batcher.submit(translator, decoded.image, asked.at))
        if done.image is None:
            raise RefusedError(422, done.problem.replace("--at ", "at="))
        translated_at = time.monotonic()
        file = await self._in(self.codecs, uploads.encode, done.image, decoded, translator, format)
        times = self._times(decoded_at - start, done, time.monotonic() - translated_at)
        images = translator.header.origin.get("images") if snapshot.label == "best" else snapshot.label
        named = {"Model": model.name, "Direction": translator.header.direction, "Snapshot": str(images or "")}
        headers = {f"X-Twofold-{name}": quote(value) for name, value in named.items()}
        self.metrics.images.labels(model.name, translator.header.direction).inc()
        media = uploads.MEDIA.get(format, "application/octet-stream")
        return Answer(self, file, media, {**headers, "Server-Timing": times})

    async def _translator(self, asked: Parameters) -> tuple[Model, Snapshot, Translator]:
        model = self.models.get(asked.model) if asked.model else next(iter(self.models.values()))
        if model is None:
            raise UnknownError(f"unknown model {asked.model!r:.100}; the models are {', '.join(self.models)}")
        if not model.directions:
            raise RefusedError(503, f"{model.name} has no snapshot yet; wait for its training", 10)
        snapshot = model.snapshot(asked.direction, asked.snapshot)
        translator = self.loader.kept(snapshot)
        try:
            translator = translator or await self._in(self.loader.thread, self.loader.load, snapshot)
        except (TwofoldError, OSError) as error:
            raise RefusedError(503, f"{model.name} cannot be loaded: {error}", 30) from None
        return model, snapshot, translator

    def _times(self, decode: float, done: Done, encode: float) -> str:
        """The header Server-Timing, in milliseconds."""
        stages = {"decode": decode, "queue": done.queued, "network": done.network, "encode": encode}
        for stage, seconds in stages.items():
            self.metrics.stages.labels(stage).observe(seconds)
        return ", ".join(f"{stage};dur={1000 * seconds:.1f}" for stage, seconds in stages.items())

    def _is_full(self) -> bool:
        """Whether one more image would wait too long, or have no place."""
        return self.working >= min(self.limits.queue, 1 + self.limits.seconds / self.image_seconds)

    def _busy(self, *, closes: bool = False) -> RefusedError:
        message = f"the server is busy with {self.working} images; try again in {self._later()} s"
        return RefusedError(503, message, self._later(), closes=closes)

    def _later(self) -> int:
        """Seconds after which the present queue will be answered."""
        return min(60, max(1, math.ceil(self.working * self.image_seconds)))

    def _on_batch(self, size: int, seconds: float) -> None:
        self.image_seconds += 0.1 * (seconds / size - self.image_seconds)
        self.metrics.batches.observe(size)

    async def _in(self, pool: ThreadPoolExecutor, function: Callable[..., R], *args: object) -> R:
        return await asyncio.get_running_loop().run_in_executor(pool, function, *args)


class Answer(Response):
    """A translation in parts, each sent when the client has read those before; its bytes count as held until then."""

    def __init__(self, service: Service, file: bytes, media_type: str, headers: Mapping[str, str]) -> None:
        super().__init__(file, headers=headers, media_type=media_type)
        self.share = Share(service)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive  # of the interface
        self.share.add(len(self.body))
        try:
            head = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
            await send(head)
            for start in range(0, len(self.body), PART):
                part = self.body[start : start + PART]
                await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body"})
        finally:
            self.share.release()


class Share:
    """The bytes that one request holds of the memory for all."""

    def __init__(self, service: Service) -> None:
        self.service, self.size = service, 0

    def hold(self, size: int) -> None:
        """Raises RefusedError if the memory is full."""
        if self.service.held + size > self.service.limits.held:
            raise self.service._busy(closes=True)
        self.add(size)

    def add(self, size: int) -> None:
        self.size += size
        self.service.held += size

    def release(self) -> None:
        self.service.held -= self.size


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
