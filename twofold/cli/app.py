"""The command line: one parser, and one place where errors become a line and an exit code."""

import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches

from cyclopts import (
    App,
    CycloptsError,
    MissingArgumentError,
    Parameter,
    UnknownOptionError,
    UnusedCliTokensError,
)

from twofold.cli.terminal import complain
from twofold.errors import FAILED, INTERRUPTED, USAGE, TwofoldError

COMMANDS = {
    "cli.train:train": "Train a translator between two folders of images, or on pairs; or go on with a run.",
    "cli.translate:translate": "Translate images and folders of images; each comes back at its own size.",
    "cli.evaluate:evaluate": (
        "Measure translations of test images, against known answers or against the target domain."
    ),
    "cli.verbs:info": "Say what a run or a model is.",
    "cli.verbs:import_": "Turn a generator of the original implementation (.pth) into a twofold model.",
    "cli.verbs:report": "Write RUN/report.html anew and say where it is.",
    "cli.verbs:doctor": "Say what is wrong with a run, whether it is going on or done, and what to try next.",
    "cli.monitor:monitor": "Show runs on a live page, while they train and after; Ctrl-C ends it.",
    "cli.verbs:presets": (
        "List the published recipes; with NAME, say what one sets, where each value is from, and what to type."
    ),
    "cli.verbs:demo": (
        "Make the built-in pictures, train on them, translate, and say what came out. A few minutes."
    ),
}
"""Where each is, and the first sentence of its docstring."""

DATA_COMMANDS = {
    "cli.data:check": "Look at one or two folders of images as a training would, and say what is wrong.",
    "cli.data:make": (
        "Make the built-in pictures: summer and winter landscapes, with known answers in val and test."
    ),
    "cli.data:download": (
        "Fetch a data set of the papers from where its authors publish it; without NAME, list them."
    ),
}


def parser(tokens: Sequence[str]) -> App:
    """The command line. A command's module is loaded when it is called, so that --help does not wait for any."""
    app = App(
        name="twofold",
        help="Two folders of images in, a translator out.\n\n`twofold demo` shows the whole thing in a few minutes.",
        version_flags=["--version"],
        result_action="return_value",
        suppress_keyboard_interrupt=False,
        default_parameter=Parameter(negative_iterable=()),
    )
    data = App(name="data", help="Look at image folders, make some, or fetch the papers'.")
    app.command(data)
    for group, commands in ((app, COMMANDS), (data, DATA_COMMANDS)):
        for place, sentence in commands.items():
            name = place.partition(":")[2].rstrip("_")
            # A sentence would stand in place of the whole docstring in the command's own help.
            group.command(f"twofold.{place}", name=name, help=None if name in tokens else sentence)
    return app


def main() -> None:
    """The `twofold` command."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # pyright: ignore[reportAttributeAccessIssue]
    sys.exit(run(sys.argv[1:]))


def run(tokens: list[str]) -> int:
    """Run one command and give its exit code: 0 done, 1 failed, 2 usage, 3 some inputs failed, 130 interrupted."""
    tokens = tokens or ["--help"]
    try:
        code = parser(tokens)(tokens, exit_on_error=False, print_error=False)
    except TwofoldError as error:
        return fail(str(error), error.exit_code)
    except CycloptsError as error:
        return fail(worded(error), USAGE)
    except ValueError as error:
        if (words := setting(error)) is None:
            raise
        return fail(words, USAGE)
    except KeyboardInterrupt:
        return fail("interrupted", INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        return fail(f"cannot use {error.filename or 'the disk'}: {error.strerror or error}", FAILED)
    except MemoryError:
        return fail("the memory is full: a smaller --size, --batch or --at takes less", FAILED)
    return code if isinstance(code, int) else 0


def fail(message: str, code: int) -> int:
    complain(message)
    return code


def worded(error: CycloptsError) -> str:
    """What is wrong with a command, in one line."""
    if words := setting(error.__cause__):
        return words
    command = " ".join(["twofold", *(error.command_chain or [])])
    if isinstance(error, MissingArgumentError) and error.argument is not None:
        return f"{error.argument.name} is missing; see `{command} --help`"
    if isinstance(error, UnusedCliTokensError):
        return f"too many arguments: {' '.join(error.unused_tokens or [])}; see `{command} --help`"
    if isinstance(error, UnknownOptionError) and (meant := options_meant(error)):
        return f"Unknown option: {error.token.keyword}. Did you mean {' or '.join(meant)}?"
    return str(error)


def setting(error: BaseException | None) -> str | None:
    """What is wrong with a setting, in one line, if that is the error."""
    from twofold import config

    return config.explain(error) if isinstance(error, config.ValidationError) else None


def options_meant(error: UnknownOptionError) -> list[str]:
    """The options that go on where the unknown one ends: an abbreviation, which are not taken; else those of about that name.

    A setting's own name is what counts, not the group before it, which is easily left out.
    """
    keyword = error.token.keyword or "-"
    names = {name for argument in error.argument_collection for name in argument.names}
    if begun := [name for name in names if keyword.startswith("--") and name.startswith(keyword)]:
        return sorted(begun)[:3]
    if "." in keyword:
        return []
    own = {name: name.lstrip("-").rpartition(".")[2] for name in names}
    nearest = get_close_matches(keyword.lstrip("-"), own.values(), 1)
    meant = sorted(name for name in names if own[name] in nearest)
    return [name for name in meant if "." not in name] or meant[:3]
