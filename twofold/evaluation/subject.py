"""What an evaluation is of: the model or the ready translations, the test images, and which are whose answers."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import torch

from twofold import hardware
from twofold.data.pairs import HALVES, find_pairs
from twofold.data.rules import listed
from twofold.data.settings import DataSettings
from twofold.errors import UsageError
from twofold.formats import images
from twofold.runs import DIRECTIONS, Run
from twofold.translation.translator import At, Translator

Notify = Callable[[str], None]


@dataclass(frozen=True)
class Request:
    """What somebody wants to know.

    Attributes:
        subject: a run, a model file, or a folder of ready translations.
        a, b: folders of test images; without `b`, `a` holds pairs: a folder of X.jpg with X.png, or a list of them.
        pairs: whether equal names in A and B are known answers; found out if None.
        metrics: names from `choice.METRICS`; all that can be measured if empty.
    """

    subject: Path
    a: Path
    b: Path | None
    direction: str | None = None
    pairs: bool | None = None
    metrics: tuple[str, ...] = ()
    features: Path | None = None
    inception: Path | None = None
    network_size: int | None = None
    lpips: Path | None = None
    classifier: Path | None = None
    classes: tuple[int, ...] = ()
    labels: str = "auto"
    segmentation: Path | None = None
    device: str = "auto"
    at: At = "trained"
    best: bool = False


class Item(NamedTuple):
    """The files of one image."""

    source: Path | None
    output: Path | None
    """A ready translation; None where it has to be made."""
    answer: Path | None


@dataclass(frozen=True)
class Setup:
    """What there is to measure.

    Attributes:
        items: the images, in natural order.
        references: all files of the other domain.
        there, back: translators, of a run or a model.
        known: whether every item has its answer.
        channels: of sources and of translations.
    """

    direction: str
    items: list[Item]
    references: list[Path]
    there: Translator | None
    back: Translator | None
    device: torch.device
    channels: tuple[int, int]

    @property
    def known(self) -> bool:
        return all(item.answer is not None for item in self.items)

    @property
    def sources(self) -> list[Path]:
        """Maybe none, where ready translations go by other names."""
        return [item.source for item in self.items if item.source is not None]


def set_up(request: Request, notify: Notify) -> Setup:
    """Load what translates and find the files."""
    run, subject = Run(request.subject), request.subject
    device = hardware.pick_device(request.device)
    if subject.is_dir() and not run.exists and not any(run.snapshots(way) for way in DIRECTIONS):
        there = back = None
        direction = request.direction or "ab"
    else:
        there = Translator.load(
            subject, direction=request.direction, device=request.device, best=request.best
        )
        direction = there.header.direction
        back = way_back(request, direction[::-1])
    sides = pairs_in(request.a) if request.b is None else (named(request.a), named(request.b))
    sources, references = sides if direction == "ab" else sides[::-1]
    if there is None:
        items = ready(named(subject), sources)
    else:
        items = {name: Item(source, None, None) for name, source in sources.items()}
    channels = (there.channels, there.out_channels) if there else (3, 3)
    paired = with_answers(items, references, request, notify)
    return Setup(direction, paired, list(references.values()), there, back, device, channels)


def way_back(request: Request, direction: str) -> Translator | None:
    """The run's other direction; a best snapshot has one if that was chosen too."""
    run = Run(request.subject)
    there = run.best(direction).is_file() if request.best else bool(run.snapshots(direction))
    if not request.subject.is_dir() or not there:
        return None
    return Translator.load(run.path, direction=direction, device=request.device, best=request.best)


def named(folder: Path) -> dict[str, Path]:
    """The images below a folder by their names without suffixes, in natural order.

    Raises:
        UsageError: there are none.
    """
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in images.find(folder)}


def pairs_in(place: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """The inputs and the answers that one folder or list holds, each by the name of the input.

    Raises:
        UsageError: it holds none, or pairs that are halves of images.
    """
    found = find_pairs(place, None, DataSettings())
    if found.kind == HALVES:
        raise UsageError(
            f"{place} holds no X.jpg with an X.png: give a folder that does, a list (.csv, .jsonl), or two folders"
        )
    if found.broken:
        raise UsageError(f"broken pairs in {place}: {listed(found.broken)}; repair or remove them")
    names = [PurePosixPath(file.name).with_suffix("").as_posix() for file in found.a.files]
    a, b = ([side.path / file.name for file in side.files] for side in (found.a, found.b))
    return dict(zip(names, a, strict=True)), dict(zip(names, b, strict=True))


def ready(outputs: dict[str, Path], sources: dict[str, Path]) -> dict[str, Item]:
    """Ready translations, with the sources of the same names; without any where the names are others."""
    common = [name for name in outputs if name in sources]
    names = common or list(outputs)
    return {name: Item(sources.get(name), outputs[name], None) for name in names}


def with_answers(
    items: dict[str, Item], references: dict[str, Path], request: Request, notify: Notify
) -> list[Item]:
    """The items with their answers where they have them: if asked for, or if most names are the same.

    Raises:
        UsageError: pairs are asked for, and there are none.
    """
    if request.pairs is False:
        return list(items.values())
    common = [name for name in items if name in references]
    if request.pairs and not common:
        one, other = next(iter(items)), next(iter(references))
        raise UsageError(
            f"no image has the name of an answer ({one}, {other}): pairs need equal names in A and B"
        )
    if request.pairs is None and 2 * len(common) < len(items):
        return list(items.values())
    told = "" if request.pairs else "; --unpaired if these are no answers"
    rest = f", {len(items) - len(common):,} left out" if len(common) < len(items) else ""
    notify(f"{len(common):,} images have the name of an answer{rest}{told}")
    return [items[name]._replace(answer=references[name]) for name in common]
