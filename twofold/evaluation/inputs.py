"""The inputs of an evaluation: the model or ready translations, the test images, and their answers where known."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import torch

from twofold import hardware
from twofold.data.marker import have_answers
from twofold.data.pairs import find_pairs
from twofold.data.rules import listed
from twofold.data.settings import DataSettings
from twofold.errors import UsageError
from twofold.evaluation.reading import contract_of, view_of
from twofold.exchange.folder import find_generators
from twofold.exchange.load import is_foreign, load
from twofold.formats import images
from twofold.formats.contract import Contract
from twofold.formats.display import View
from twofold.formats.npy import Layout
from twofold.read_untrusted import mapping, room
from twofold.runs import Run
from twofold.translation.translator import Translator

Model = str | Path | Translator


class Item(NamedTuple):
    """The files of one test image. `output` is a ready translation, or None where the model makes it."""

    source: Path | None
    output: Path | None
    answer: Path | None


@dataclass(frozen=True)
class Inputs:
    """What is evaluated, and with which networks.

    Attributes:
        items: the test images, in natural order.
        references: all images of the target domain.
        there, back: the translator, and that of the other direction where the run has one.
        snapshots: their files, as far as they have files.
        notes: what a reader has to know about the files.
        source, target: what the images of the two domains are, and which of their channels are shown.
        metrics: names the user gave; empty for all that apply.
        features: a user's feature network. inception, lpips: files of weights.
    """

    direction: str
    items: list[Item]
    references: list[Path]
    there: Translator | None
    back: Translator | None
    device: torch.device
    source: View
    target: View
    layout: Layout = "hwc"
    metrics: Sequence[str] = ()
    features: Path | None = None
    inception: Path | None = None
    lpips: Path | None = None
    snapshots: Sequence[Path] = ()
    notes: Sequence[str] = ()

    @property
    def answered(self) -> bool:
        """Whether every test image has a known answer."""
        return len(self.answers) == len(self.items)

    @property
    def answers(self) -> list[Path]:
        return [item.answer for item in self.items if item.answer is not None]

    @property
    def sources(self) -> list[Path]:
        """The source images; some or all are missing where ready translations have other names."""
        return [item.source for item in self.items if item.source is not None]

    @property
    def comparable(self) -> bool:
        """Whether the untouched sources can be measured as if they were translations: both domains have one type of
        values, and one range."""
        a, b = (replace(view.contract, found="dtype", icc="keep") for view in (self.source, self.target))
        return a == b and len(self.sources) == len(self.items)

    def size(self, path: Path) -> tuple[int, int]:
        """Width and height in pixels of a file."""
        facts = images.inspect(path, layout=self.layout)
        return facts.width, facts.height


def find_inputs(
    model: Model, a: Path, b: Path | None, direction: str | None, paired: bool | None, best: bool, device: str
) -> tuple[Inputs, str]:
    """Load the model and find the files; also returns a line about the answers, empty if there are none."""
    loaded = load_translators(model, direction, best, device)
    there, back = (*loaded.values(), None, None)[:2]
    way = there.header.direction if there else direction or "ab"
    domains = pairs_in(a) if b is None else (by_name(a), by_name(b))
    sources, references = domains if way == "ab" else domains[::-1]
    notes: list[str] = []
    if there is None:
        assert not isinstance(model, Translator)
        items, notes = ready_translations(by_name(Path(model)), sources)
    else:
        items = {name: Item(source, None, None) for name, source in sources.items()}
    if paired is None and (b is None or have_answers(a, b)):
        paired = any(name in references for name in items) or None
    chosen, line = with_answers(items, references, paired)
    where = there.device if there else hardware.pick_device(device)
    data = {} if isinstance(model, Translator) else room(mapping(Run(Path(model)).config), "data")
    layout: Layout = there.header.layout if there else "hwc"
    if there is None:
        target = contract_of([*references.values()], layout)
        check_depth(next(iter(items.values())).output, target)
        known = [item.source for item in chosen if item.source is not None]
        contracts = (contract_of(known, layout) if known else target, target)
    else:
        contracts = there.source, there.target
    source, target = (view_of(each, data, side) for side, each in zip(way, contracts, strict=True))
    found = Inputs(way, chosen, list(references.values()), there, back, where, source, target, layout)
    return replace(found, snapshots=[path for path in loaded if path.is_file()], notes=notes), line


def load_translators(model: Model, direction: str | None, best: bool, device: str) -> dict[Path, Translator]:
    """The translator and that of the other direction where there is one, by their files; none for ready translations.

    A loaded translator has no file.
    """
    if isinstance(model, Translator):
        return {Path(): model}
    model, way = Path(model), direction or "ab"
    run = Run(model)
    if is_foreign(model):
        return load_imported(model, direction, best, device)
    if not model.is_dir():
        return {model: Translator.load(model, direction=direction, device=device)}
    if not run.recognised:
        if runs := [str(each) for each in sorted(model.iterdir()) if Run(each).recognised]:
            raise UsageError(f"{model} is a folder of runs; give one of them: {', '.join(runs[:6])}")
        return {}
    snapshot, back = run.best_snapshot if best else run.newest_snapshot, way[::-1]
    has_back = run.best(back).is_file() if best else run.snapshots(back)
    files = [snapshot(way), *([snapshot(back)] if has_back else [])]
    return {file: Translator.load(file, device=device) for file in files}


def load_imported(path: Path, direction: str | None, best: bool, device: str) -> dict[Path, Translator]:
    """The translator of a checkpoint of another project, and the other one where its folder holds both."""
    there = load(path, direction=direction, best=best, device=device)
    way = there.header.direction
    files = find_generators(path).files if path.is_dir() else {way: path}
    found = {files.get(way, path): there}
    if way[::-1] in files:
        found[files[way[::-1]]] = load(path, direction=way[::-1], device=device)
    return found


def by_name(folder: Path) -> dict[str, Path]:
    """The images below a folder by their relative names without suffixes, in natural order."""
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in images.find(folder)}


def pairs_in(place: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """The inputs and the answers in one folder or list of pairs, each by the name of the input.

    Raises:
        UsageError: it holds no pairs, broken ones, or pairs that are halves of one image.
    """
    found = find_pairs(place, None, DataSettings())
    if found.a.part == "left":
        raise UsageError(
            f"{place} holds no pairs X.jpg with X.png; give such a folder, a list (.csv, .tsv, .jsonl), or two folders; "
            "cut pairs that are side by side in one image into two folders first"
        )
    if found.broken:
        raise UsageError(f"broken pairs in {place}: {listed(found.broken)}; repair or remove them")
    names = [PurePosixPath(file.name).with_suffix("").as_posix() for file in found.a.files]
    a, b = ([side.path / file.name for file in side.files] for side in (found.a, found.b))
    return dict(zip(names, a, strict=True)), dict(zip(names, b, strict=True))


def ready_translations(
    outputs: dict[str, Path], sources: dict[str, Path]
) -> tuple[dict[str, Item], list[str]]:
    """Ready translations with the sources of the same names, and a note if others are left out; all translations
    without sources if no name is the same."""
    common = [name for name in outputs if name in sources]
    note = f"Measured: the {len(common):,} of {len(outputs):,} translations that have the name of one of {len(sources):,} sources."
    left_out = common and not len(common) == len(outputs) == len(sources)
    items = {name: Item(sources.get(name), outputs[name], None) for name in common or outputs}
    return items, [note] if left_out else []


def check_depth(output: Path | None, target: Contract) -> None:
    """Refuse deeper translations than the images of their domain: the range that their values fill is not known.

    Raises:
        UsageError: the domain has 8 bits and the translations have more.
    """
    if output is not None and target.dtype == "uint8" != (dtype := images.inspect(output).dtype):
        raise UsageError(
            f"{output} has {dtype} values and the images of its domain uint8; convert the translations to uint8"
        )


def with_answers(
    items: dict[str, Item], references: dict[str, Path], paired: bool | None
) -> tuple[list[Item], str]:
    """The items with answers of the same name, if they are known to be answers; and a line about equal names.

    Args:
        paired: None: nobody said whether equal names are answers.

    Raises:
        UsageError: the images are said to be paired and no two have the same name.
    """
    common = [name for name in items if name in references]
    if paired and not common:
        one, other = next(iter(items)), next(iter(references))
        raise UsageError(
            f"--paired needs equal names in A and B, and there are none (for example {one}, {other})"
        )
    if not paired:
        most = paired is None and 2 * len(common) >= len(items)
        line = f"{len(common):,} of {len(items):,} images have the same name in A and B (--paired if those are answers)"
        return list(items.values()), line * most
    left_out = ", the others are left out" if len(common) < len(items) else ""
    line = f"{len(common):,} of {len(items):,} images have an answer of the same name{left_out}"
    return [items[name]._replace(answer=references[name]) for name in common], line
