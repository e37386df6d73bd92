"""`twofold report`: a run's report.html, written again."""

from pathlib import Path

from twofold.cli.terminal import emit
from twofold.errors import UsageError
from twofold.runs import Run


def report(run: Path, /) -> None:
    """Write RUN/report.html again and print its path.

    Args:
        run: A run folder.
    """
    from twofold.reporting.report import write_report

    if not Run(run).exists:
        raise UsageError(f"{run} is not a run folder; give the --out folder of a run")
    emit(str(write_report(Run(run))))
