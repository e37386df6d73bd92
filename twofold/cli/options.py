"""Parameter types that several verbs share, and the option names of settings."""

import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import cyclopts
from cyclopts import Parameter

SHORT_OPTIONS = {
    "data.size": "--size",
    "data.pairs": "--pairs",
    "data.direction": "--direction",
    "data.labels_a": "--labels-a",
    "data.labels_b": "--labels-b",
    "data.val_paired": "--paired",
    "data.cache": "--cache",
    "training.epochs": "--epochs",
    "training.decay_epochs": "--decay-epochs",
    "training.batch": "--batch",
    "training.log": "--log",
    "training.start_from": "--from",
    "training.freeze": "--freeze",
    "optim.lr": "--lr",
    "evaluation.every": "--eval-every",
    "evaluation.patience": "--early-stop",
    "machine.device": "--device",
    "machine.compile": "--compile",
}
"""Settings that the command line takes under a short name as well; help and messages show the short name."""

ORIGINAL_OPTIONS = {
    **dict.fromkeys(("CUT_mode", "model"), "--method"),
    **dict.fromkeys(("checkpoints_dir", "name"), "--out RUN"),
    **dict.fromkeys(("continue_train", "epoch_count"), "--resume RUN"),
    **dict.fromkeys(("crop_size", "fineSize"), "--size"),
    **dict.fromkeys(("load_size", "loadSize"), "--data.load-size"),
    "lr_decay_iters": "--training.step-epochs",
    **dict.fromkeys(("nThreads", "num_threads"), "--data.workers"),
    **dict.fromkeys(("n_epochs", "niter"), "--epochs"),
    **dict.fromkeys(("n_epochs_decay", "niter_decay"), "--decay-epochs"),
    **dict.fromkeys(("netD", "which_model_netD"), "--discriminator.network"),
    **dict.fromkeys(("netG", "which_model_netG"), "--generator.network"),
    **dict.fromkeys(("preprocess", "resize_or_crop"), "--data.resize"),
    **dict.fromkeys(("save_epoch_freq", "save_latest_freq"), "--training.snapshot-every IMAGES"),
    "dataroot": "the folder alone, `twofold train DATAROOT`",
    "display_freq": "--training.sample-every IMAGES",
    "flip_equivariance": "--cut.flip",
    "gan_mode": "--adversarial.loss",
    "gpu_ids": "--device cuda:0",
    "init_type": "--generator.init and --discriminator.init",
    "lambda_A": "--cyclegan.cycle-a",
    "lambda_B": "--cyclegan.cycle-b",
    "lambda_GAN": "--cut.gan",
    "lambda_L1": "--pix2pix.distance",
    "lambda_NCE": "--cut.nce",
    "lr_policy": "--training.schedule",
    "n_layers_D": "--discriminator.layers",
    "nce_T": "--cut.temperature",
    "nce_idt": "--cut.nce-identity",
    "ndf": "--discriminator.width",
    "netF_nc": "--cut.head-width",
    "ngf": "--generator.width",
    "pool_size": "--cyclegan.replay",
    "print_freq": "--training.report-every IMAGES",
    "use_wandb": "--training.log wandb",
}
"""Options of pytorch-CycleGAN-and-pix2pix and CUT whose names here are not similar."""


def whole_number(_: object, tokens: Sequence[cyclopts.Token]) -> int:
    """Read a whole number; cyclopts alone would round 1.5."""
    try:
        return int(tokens[0].value)
    except ValueError:
        raise ValueError(f"must be a whole number, not {tokens[0].value}") from None


def pixels_or(*words: str) -> Parameter:
    """One of these words, or a number of pixels."""

    def convert(_: object, tokens: Sequence[cyclopts.Token]) -> int | str:
        value = tokens[0].value
        if value in words:
            return value
        if not value.isdecimal() or int(value) < 1:
            raise ValueError(f"must be {', '.join(words)} or a number of pixels, not {value}")
        return int(value)

    return Parameter(converter=convert)


UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def byte_count(_: object, tokens: Sequence[cyclopts.Token]) -> int:
    """Read 2GiB, 500M or a number of bytes."""
    value = tokens[0].value
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", value, re.IGNORECASE)
    count = int(float(found[1]) * UNITS[found[2].upper()]) if found else 0
    if not count:
        raise ValueError(f"must be an amount of memory such as 2GiB or 500MiB, not {value}")
    return count


def comma_separated(kind: object, tokens: Sequence[cyclopts.Token]) -> Any:
    """Read the values of a list, also `psnr,ssim`; a path with a comma that exists stays as it is."""
    values = [
        token.evolve(value=part)
        for token in tokens
        for part in ([token.value] if Path(token.value).exists() else token.value.strip(",").split(","))
    ]
    return cyclopts.convert(kind, values)


Direction = Literal["ab", "ba"]
Whole = Annotated[int, Parameter(converter=whole_number)]
Scale = Annotated[int | Literal["trained", "native"], pixels_or("trained", "native")]
Tiles = Annotated[int | Literal["auto", "off"], pixels_or("auto", "off")]
Bytes = Annotated[int, Parameter(converter=byte_count)]
Commas = Parameter(converter=comma_separated)
Listed = Parameter(consume_multiple=1, converter=comma_separated)
"""A list of one value or more, separated by spaces or commas."""
Flag = Annotated[bool, Parameter(negative=(), show_default=False)]
Token = Annotated[str | None, Parameter(env_var="TWOFOLD_TOKEN")]


def long_option(setting: str) -> str:
    """`optim.disc_lr` as --optim.disc-lr."""
    return f"--{setting.replace('_', '-')}"


def option(setting: str) -> str:
    """The name under which help and messages show a setting: its short option, or else its long one."""
    return SHORT_OPTIONS.get(setting) or long_option(setting)


def option_with_value(setting: str, value: object) -> str:
    """A setting as it is typed: --data.no-flip, --batch 4, --cut.layers 0,4,8."""
    name = option(setting)
    if isinstance(value, bool):
        head, separator, tail = name.rpartition("." if "." in name else "--")
        return name if value else f"{head}{separator}no-{tail}"
    return f"{name} {','.join(map(str, value)) if isinstance(value, tuple) else value}"


def with_new_names(tokens: Iterable[str], notify: Callable[[str], None]) -> list[str]:
    """The command line with the options of renamed settings under their present names; one notice for each.

    An environment variable with an old name is read by `config.from_environment` and gets a notice here.
    """
    from twofold.config import RENAMED_SETTINGS, variable

    renamed = {form(old): form(new) for old, new in RENAMED_SETTINGS.items() for form in (option, variable)}
    parts = [token.partition("=") for token in tokens]
    for name in (*(name for name, _, _ in parts), *os.environ):
        if name in renamed:
            notify(f"{name} is called {renamed[name]} now")
    return [renamed.get(name, name) + equals + value for name, equals, value in parts]


def with_joined_ranges(tokens: Iterable[str]) -> list[str]:
    """The command line with `--data.range-a 0 4095` as `--data.range-a=0,4095`.

    The value may also be a name, `per-channel`, and cyclopts gives such a setting one word.
    """
    words, joined = iter(tokens), []
    for word in words:
        name, _, low = word.partition("=")
        if name in ("--data.range-a", "--data.range-b"):
            low = low or next(words, "")
            high = f",{next(words, '')}" if _is_number(low) else ""
            word = f"{name}={low}{high}"
        joined.append(word)
    return joined


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
