"""`twofold doctor`: the problems of a run."""

from json import dumps
from pathlib import Path

from twofold.cli.options import Flag
from twofold.cli.terminal import emit, paragraph
from twofold.errors import FAILED, UsageError
from twofold.runs import Run


def doctor(run: Path, /, *, json: Flag = False) -> int:
    """Print the problems of a run, finished or still training, and what to try next.

    Args:
        run: A run folder.
        json: Print JSON.
    """
    from twofold.evaluation.doctor.examine import examine, no_problem

    if not Run(run).exists:
        raise UsageError(f"{run} is not a run folder; give the --out folder of a run")
    findings = examine(Run(run), models=True)
    if json:
        emit(dumps([finding._asdict() for finding in findings]))
    elif not findings:
        emit(paragraph(no_problem(Run(run))))
    else:
        for finding in findings:
            emit(paragraph(finding.sentence, f"{finding.severity + ':':<9}", " " * 9))
            emit(paragraph(finding.advice, "    try: ", " " * 9))
    return FAILED if any(finding.severity == "trouble" for finding in findings) else 0
