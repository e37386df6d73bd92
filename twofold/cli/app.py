"""The command line: one parser, and one place where errors become a line and an exit code."""

import os
import signal
import sys
import warnings
from collections.abc import Sequence
from difflib import get_close_matches
from types import FrameType

import cyclopts
from cyclopts import App, CycloptsError, Parameter, UnknownOptionError

from twofold.cli.help import OneNameFormatter
from twofold.cli.options import ORIGINAL_OPTIONS, option, with_joined_ranges, with_new_names
from twofold.cli.terminal import complain
from twofold.errors import FAILED, INTERRUPTED, USAGE, TwofoldError

SPIN_COUNT = "1000"
"""Rounds that an OpenMP thread (of GCC's library) spins at a barrier before it sleeps. With the library's own count
a thread spins on while another program holds the core of the thread it waits for, and a run beside a busy
process slows down to a quarter."""

VERBS = [
    "demo",
    "train",
    "translate",
    "evaluate",
    "doctor",
    "report",
    "monitor",
    "serve",
    "info",
    "presets",
    "import_",
    "export",
]
"""Modules of this room, and the function in each."""

DATA_VERBS = ["check", "make", "download"]
"""Functions of data.py."""

ABOUT = """Train models that translate images of one kind into images of another, from two folders of images.

- `twofold demo`: all steps on built-in pictures, in a few minutes.
- `twofold train A B --out RUN`: train on two folders of images.
- `twofold translate RUN IMAGES -o OUT`: translate images.
"""

LAYERS = "Settings can also stand in a YAML file (-c) or in the environment (TWOFOLD_SET_OPTIM__LR=1e-4)."


def parser(tokens: Sequence[str]) -> App:
    """The command line for `tokens`; with --help-all among them, help shows every setting."""
    everything = "--help-all" in tokens
    app = App(
        name="twofold",
        help=ABOUT,
        version_flags=["--version"],
        result_action="return_int_as_exit_code_else_zero",
        suppress_keyboard_interrupt=False,
        default_parameter=Parameter(negative_iterable=()),
        help_formatter=OneNameFormatter(everything),
    )
    app.register_install_completion_command(help="Install the completion of verbs and options in your shell.")
    data = App(
        name="data",
        help="Check image folders, draw the built-in pictures, or download a paper's data set.",
        sort_key=len(VERBS),
    )
    more = "" if everything else "`twofold train --help-all` shows every setting. "
    places = [(app, f"{verb}:{verb}") for verb in VERBS] + [(data, f"data:{verb}") for verb in DATA_VERBS]
    lists_verbs = not {"import", *VERBS, *DATA_VERBS} & {*tokens}
    for number, (group, place) in enumerate(places):
        verb = place.partition(":")[2].rstrip("_")
        epilogue = more + LAYERS if verb == "train" else None
        group.command(f"twofold.cli.{place}", name=verb, help_epilogue=epilogue, sort_key=number)
        if lists_verbs:
            group[verb]  # loads the module, whose docstring the list quotes
    app.command(data)
    return app


def main() -> None:
    """The `twofold` command."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)  # read when torch is loaded
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # pyright: ignore[reportAttributeAccessIssue]
    signal.signal(signal.SIGINT, interrupt)
    sys.exit(run(sys.argv[1:]))


def interrupt(number: int, frame: FrameType | None) -> None:
    """Ctrl-C: raise KeyboardInterrupt, but end the program at once in an import, which torch does not survive."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            os.write(2, b"twofold: interrupted\n")
            os._exit(INTERRUPTED)
        frame = frame.f_back
    signal.default_int_handler(number, None)


def run(tokens: list[str]) -> int:
    """Run one command and give its exit code: 0 done, 1 failed, 2 usage, 3 some inputs failed, 130 interrupted."""
    tokens = ["train", *tokens] if tokens == ["--help-all"] else tokens or ["--help"]
    if tokens[0] == "train":
        tokens = with_joined_ranges(with_new_names(tokens, complain))
    warnings.filterwarnings("ignore", module=r"PIL\.")  # about broken metadata of images that decode well
    try:
        words = ["--help" if token == "--help-all" else token for token in tokens]
        return parser(tokens)(words, exit_on_error=False, print_error=False)
    except TwofoldError as error:
        return report_error(str(error), error.exit_code)
    except CycloptsError as error:
        return report_error(parse_message(error), USAGE)
    except ValueError as error:
        if (message := setting_message(error)) is None:
            raise
        return report_error(message, USAGE)
    except KeyboardInterrupt as error:
        return report_error(": ".join(["interrupted", *map(str, error.args)]), INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        return report_error(f"cannot use {error.filename or 'the disk'}: {error.strerror or error}", FAILED)
    except MemoryError:
        return report_error("out of memory: use a smaller --size, --batch or --at", FAILED)


def report_error(message: str, code: int) -> int:
    complain(message)
    return code


def parse_message(error: CycloptsError) -> str:
    """What is wrong with a command, in one line."""
    if message := setting_message(error.__cause__):
        return message
    command = " ".join(["twofold", *(error.command_chain or [])])
    if isinstance(error, cyclopts.CoercionError) and error.msg and error.token:
        return f"{error.token.keyword} {error.msg}"
    if isinstance(error, cyclopts.MissingArgumentError) and error.argument is not None:
        missing = f"{error.keyword} needs a value" if error.keyword else f"{error.argument.name} is missing"
        return f"{missing}; see `{command} --help`"
    if isinstance(error, cyclopts.UnusedCliTokensError):
        return f"too many arguments: {' '.join(error.unused_tokens or [])}; see `{command} --help`"
    if isinstance(error, UnknownOptionError):
        nearest = nearest_options(error)
        hint = f". Did you mean {' or '.join(nearest)}?" if nearest else f"; see `{command} --help`"
        name = error.token.keyword or error.token.value
        if name in nearest:
            return f"{name} stands after --, where options end; write it before --"
        return f"Unknown option: {name}{hint}"
    return str(error)


def setting_message(error: BaseException | None) -> str | None:
    """What is wrong with a setting, in one line; None for other errors."""
    from twofold import config

    return config.explain(error, option) if isinstance(error, config.ValidationError) else None


def nearest_options(error: UnknownOptionError) -> list[str]:
    """Options that the user may have meant: the replacement of an option of pytorch-CycleGAN-and-pix2pix, else those
    that begin with the unknown name (an abbreviation), else those with a similar name.

    The group before a setting's own name is not compared, since users leave it out.
    """
    keyword = error.token.keyword or error.token.value  # before the arguments it is taken for one of them
    names = {name for argument in error.argument_collection for name in argument.names}
    if "--method" in names and (replacement := ORIGINAL_OPTIONS.get(keyword.lstrip("-"))):
        return [replacement]
    names |= {"--help", "--help-all"}
    if longer := [name for name in names if keyword.startswith("--") and name.startswith(keyword)]:
        return sorted(longer)[:3]
    own = {
        name: name.lstrip("-") if "." in keyword else name.lstrip("-").rpartition(".")[2] for name in names
    }
    nearest = get_close_matches(keyword.lstrip("-"), own.values(), 1, 0.7)
    similar = sorted(name for name in names if own[name] in nearest)
    return [name for name in similar if "." not in name] or similar[:3]
