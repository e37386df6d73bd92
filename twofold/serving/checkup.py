"""The doctor's words for a run's page: asked for in a thread of their own, so that no page waits for them."""

import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from twofold.pages.findings import findings_list
from twofold.read_untrusted import Mark
from twofold.runs import Run
from twofold.serving.watch import Watched, trace

PAUSE = 0.5
"""Seconds before a visit, in which the page that asked for it is sent."""

LOOKING = findings_list([], "The doctor is looking…")

REST = 5.0
"""Seconds between two visits to one run; more where one takes long, so that it takes a twentieth of the time."""


class Visit(NamedTuple):
    """What was said of a run: the state it was in, the words as HTML, and when it may be visited again."""

    trace: tuple[Mark | None, ...]
    words: str
    again: float


class Checkups:
    """What the doctor last said of each run."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._visits: dict[str, Visit] = {}
        self._asking: set[str] = set()

    def words(self, each: Watched) -> str:
        """HTML; newer words follow once the run has changed and the doctor has looked again."""
        last = self._visits.get(each.key)
        due = last is None or (last.trace != trace(each.run) and self._clock() >= last.again)
        if due and each.key not in self._asking:
            self._asking.add(each.key)
            visit = threading.Timer(PAUSE, self._visit, args=(each,))
            visit.daemon = True
            visit.start()
        return last.words if last else LOOKING

    def _visit(self, each: Watched) -> None:
        begun, now = self._clock(), trace(each.run)
        words = examined(each.run)
        took = self._clock() - begun
        self._visits[each.key] = Visit(now, words, begun + took + max(REST, 20 * took))
        self._asking.discard(each.key)


def examined(run: Run) -> str:
    """The doctor's findings as HTML, or why there are none."""
    try:
        from twofold.evaluation.doctor.examine import examine, no_problem

        return findings_list(examine(run), no_problem(run))
    except Exception as error:  # in a thread, nobody else would hear of it
        return findings_list([], f"The doctor could not look at this run: {type(error).__name__}: {error}")
