"""The doctor's findings for live pages, from threads of their own, so that no page waits for them."""

import math
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from twofold.read_untrusted import Mark
from twofold.reporting.report import Diagnosis, diagnose
from twofold.serving.watch import Watched, fingerprint

DELAY = 0.5
"""Seconds before an examination, in which the page that asked for it is sent."""

PENDING = Diagnosis([], "The doctor is examining this run…")

PAUSE = 5.0
"""Seconds between two examinations of a run; longer ones pause longer, so that they take a twentieth of the time."""


class Examined(NamedTuple):
    """A run's diagnosis, the fingerprint it belongs to, and the time from which a new one may be made."""

    fingerprint: tuple[Mark | None, ...] = ()
    diagnosis: Diagnosis = PENDING
    next_at: float = -math.inf


class BackgroundDoctor:
    """The newest diagnosis of each run."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._examined: dict[str, Examined] = {}

    def diagnosis(self, watched: Watched) -> Diagnosis:
        """The newest diagnosis; if the run has changed since, another follows later."""
        last = self._examined.get(watched.key, Examined())
        if last.fingerprint != fingerprint(watched.run) and self._clock() >= last.next_at:
            self._examined[watched.key] = last._replace(next_at=math.inf)  # not twice at a time
            timer = threading.Timer(DELAY, self._examine, args=(watched,))
            timer.daemon = True
            timer.start()
        return last.diagnosis

    def _examine(self, watched: Watched) -> None:
        start, now = self._clock(), fingerprint(watched.run)
        try:
            diagnosis = diagnose(watched.run)
        except Exception as error:  # a thread has nobody to raise it to
            words = f"The doctor could not examine this run: {type(error).__name__}: {error}"
            diagnosis = Diagnosis([], words)
        took = self._clock() - start
        self._examined[watched.key] = Examined(now, diagnosis, start + took + max(PAUSE, 20 * took))
