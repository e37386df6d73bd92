"""Functions of the caller's that a run calls while it trains."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

OnReport = Callable[[dict[str, Any]], None]
"""Gets a report: images, epoch, lr, losses (the mean of each since the last report), seconds, images_per_s, waiting."""

OnFile = Callable[[int, str, Path], None]
"""Gets the images seen, the direction ("ab" or "ba"), and the file that was written."""


class Callbacks:
    """Calls them on the first process; after an exception in one, none is called again.

    The run then saves its state and ends, and `train` raises the exception.
    """

    def __init__(
        self,
        on_report: OnReport | None = None,
        on_sample: OnFile | None = None,
        on_snapshot: OnFile | None = None,
    ) -> None:
        self.error: BaseException | None = None
        self.report, self.sample, self.snapshot = map(self._caught, (on_report, on_sample, on_snapshot))

    def _caught(self, function: Callable[..., None] | None) -> Callable[..., None]:
        def call(*arguments: object) -> None:
            if function is None or self.error is not None:
                return
            try:
                function(*arguments)
            except BaseException as error:
                self.error = error

        return call
