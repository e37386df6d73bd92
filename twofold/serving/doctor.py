"""The doctor's findings for live pages, from threads of their own, so that no page waits for them."""

import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from twofold.read_untrusted import Mark
from twofold.reporting.report import Diagnosis, diagnose
from twofold.runs import Run
from twofold.serving.watch import Watched, fingerprint

DELAY = 0.5
"""Seconds before an examination, in which the page that asked for it is sent."""

PENDING = Diagnosis([], "The doctor is examining this run…")

PAUSE = 5.0
"""Seconds between two examinations of a run; longer ones pause longer, so that they take a twentieth of the time."""


class Examined(NamedTuple):
    """A run's diagnosis, the fingerprint it belongs to, and the time from which a new one may be made."""

    fingerprint: tuple[Mark | None, ...]
    diagnosis: Diagnosis
    next_at: float


class BackgroundDoctor:
    """The newest diagnosis of each run."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._examined: dict[str, Examined] = {}
        self._running: set[str] = set()

    def diagnosis(self, watched: Watched) -> Diagnosis:
        """The newest diagnosis; if the run has changed since, another follows later."""
        last = self._examined.get(watched.key)
        changed = last is None or last.fingerprint != fingerprint(watched.run)
        due = changed and (last is None or self._clock() >= last.next_at)
        if due and watched.key not in self._running:
            self._running.add(watched.key)
            timer = threading.Timer(DELAY, self._examine, args=(watched,))
            timer.daemon = True
            timer.start()
        return last.diagnosis if last else PENDING

    def _examine(self, watched: Watched) -> None:
        start, now = self._clock(), fingerprint(watched.run)
        diagnosis = diagnose_safely(watched.run)
        took = self._clock() - start
        self._examined[watched.key] = Examined(now, diagnosis, start + took + max(PAUSE, 20 * took))
        self._running.discard(watched.key)


def diagnose_safely(run: Run) -> Diagnosis:
    """The doctor's diagnosis; an error becomes its text, since a thread has nobody to raise it to."""
    try:
        return diagnose(run)
    except Exception as error:
        return Diagnosis([], f"The doctor could not examine this run: {type(error).__name__}: {error}")
