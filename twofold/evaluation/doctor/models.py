"""Problems that a few images of a run show, and its newest generators and discriminators on them, on the CPU.

What is not there (images on another machine, a state that was just replaced, a damaged model) is left out.
"""

from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from statistics import mean
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from twofold.data import ranges
from twofold.errors import TwofoldError
from twofold.evaluation.cycle import Damage, cycle_errors, holds_jpeg, jpeg, no_damage, noise
from twofold.evaluation.doctor import appearance, inputs
from twofold.evaluation.doctor.appearance import Pictures
from twofold.evaluation.doctor.folder import File, contract_of, files, loss_weights
from twofold.evaluation.doctor.symptoms import Finding
from twofold.evaluation.reading import read_as, view_of
from twofold.formats import images
from twofold.formats.contract import Contract, Pixels
from twofold.formats.display import View
from twofold.formats.values import from_network, to_network
from twofold.networks.layers import Discriminator, Generator
from twofold.networks.registry import build_discriminator
from twofold.networks.settings import DiscriminatorSettings
from twofold.read_untrusted import Mark, mapping, room
from twofold.runs import DIRECTIONS, Run
from twofold.translation import model_file

TRANSLATED, COMPARED, JUDGED = 4, 8, 16
"""Images of each domain that are translated there and back (a second each at 256 px on a slow machine), whose colours
translations are compared with, and of each kind that a discriminator judges."""

NOISE, JPEG = {"faint noise": noise(2.0)}, {"JPEG 90": jpeg(90, "4:4:4")}
"""Damage to a translation that nobody sees."""


@torch.inference_mode()
def model_findings(run: Run, config: dict[Any, Any], *, young: bool) -> list[Finding]:
    """Problems of the images' values, of the newest snapshots, and of the discriminators in the newest state."""
    data, document = room(config, "data"), mapping(run.data)
    parts = [room(document, side).get("part") for side in "ab"]
    if not isinstance(data.get("size"), int) or any(parts):
        return []  # halves of files are not read here
    listed = {side: files(document, side) for side in "ab"}
    contracts = {side: contract_of(room(document, side)) for side in "ab"}
    generators, damaged = newest_generators(run)
    found = [range_finding(listed[side].train, data, contracts[side], side.upper()) for side in "ab"]
    found += damaged
    if data.get("paired"):
        return [*filter(None, found)]  # discriminators of pairs take two images at once
    unseen = {side: read_evenly(listed[side].held_out, data, contracts[side]) for side in "ab"}
    for way, generator in generators.items():
        sources = [x for x in unseen[way[0]][:TRANSLATED] if accepts(generator, x)]
        translations = [generator(source) for source in sources]
        if back := generators.get(way[::-1]):
            damages = NOISE | (JPEG if holds_jpeg(contracts[way[1]]) else {})
            found.append(cycle_finding(way, sources, translations, back, damages))
        side = way[1]
        if sources and not young:
            views = [view_of(contracts[each], data, each) for each in way]
            targets = read_evenly(listed[side].train, data, contracts[side], COMPARED)
            found.append(copy_finding(config, way, sources, translations, targets, views))
        if disc := newest_discriminator(run, config, side, contracts[side].network_channels):
            kinds = (read_evenly(listed[side].train, data, contracts[side]), unseen[side], translations)
            train, held_out, made = ([mean_logit(disc, image) for image in kind] for kind in kinds)
            found.append(appearance.overfitted(train, held_out, made, side.upper()))
    return [each for each in found if each]


def range_finding(
    listed: list[File], data: dict[Any, Any], contract: Contract, domain: str
) -> Finding | None:
    """Whether the training images have values outside the range of their domain."""
    if contract.is_labels or contract.found == "dtype":
        return None
    rows = [ranges.summarise(image) for image in read_files(listed, data, contract, COMPARED)]
    if not rows:
        return None
    found = ranges.Summary(np.stack(rows).astype(np.float64), np.ones(len(rows), np.int64))
    share = float(ranges.outside(found, contract).mean())
    limits = float(found.values[..., 0].min()), float(found.values[..., 1].max())
    return inputs.clipped(share, limits, ranges.limits(contract), domain)


def copy_finding(
    config: dict[Any, Any],
    way: str,
    sources: list[Tensor],
    translations: list[Tensor],
    targets: list[Tensor],
    views: list[View],
) -> Finding | None:
    """Whether the translations are their sources, as computed: a sample grid has the noise of its compression too."""
    before, now = pictures(sources, views[0]), pictures(translations, views[1])
    if before.shape != now.shape:
        return None
    wanted = pictures(targets, views[1]) if targets else None
    arrow, method = "→".join(way.upper()), str(config.get("method"))
    return appearance.copied(before, now, wanted, arrow, method, loss_weights(config))


def pictures(images: list[Tensor], view: View) -> Pictures:
    """Network values, each (1, C, S, S) in [-1, 1], as they are shown."""
    stored = [from_network(image, view.contract)[0].permute(1, 2, 0).numpy() for image in images]
    shown = np.stack([view.show(image) for image in stored])
    return np.broadcast_to(shown, (*shown.shape[:3], 3)).astype(np.float32) / np.float32(255)


@lru_cache(maxsize=64)
def domain_pictures(run: Run, side: str, _stamp: Mark) -> Pictures | None:
    """Some training images of a domain as sample grids show them; None if they are not there. Cached: they stay."""
    data, document = room(mapping(run.config), "data"), mapping(run.data)
    domain = room(document, side)
    if not isinstance(data.get("size"), int) or domain.get("part"):
        return None
    contract = contract_of(domain)
    found = read_evenly(files(document, side).train, data, contract, COMPARED)
    return pictures(found, view_of(contract, data, side)) if found else None


def newest_generators(run: Run) -> tuple[dict[str, Generator], list[Finding]]:
    """The generators of the newest snapshots by direction, and a finding for each snapshot that cannot be loaded."""
    found, damaged = {}, []
    for way in DIRECTIONS:
        for _, path in run.snapshots(way)[-1:]:
            try:
                found[way] = model_file.load(path)[0]
            except (TwofoldError, OSError, SafetensorError) as error:
                sentence = f"The newest snapshot of {'→'.join(way.upper())} cannot be loaded: {error}."
                advice = f"Translate with another file of `{path.parent}`."
                damaged.append(Finding(f"snapshot {way} damaged", "trouble", sentence, advice))
    return found, damaged


def cycle_finding(
    way: str,
    sources: list[Tensor],
    translations: list[Tensor],
    back: Generator,
    damages: dict[str, Damage] = NOISE | JPEG,
) -> Finding | None:
    """Whether the way back fails after faint damage to the translations."""
    if not sources or not accepts(back, translations[0]):
        return None
    pairs = zip(sources, translations, strict=True)
    every = [no_damage, *damages.values()]
    rows = [cycle_errors(*pair, back, every, number) for number, pair in enumerate(pairs)]
    (clean, _), *damaged = np.mean(rows, 0).tolist()
    named = dict(zip(damages, damaged, strict=True))
    return appearance.hidden_signal(clean, named, "→".join((way + way[0]).upper()))


def accepts(network: Generator, image: Tensor) -> bool:
    return image.shape[1] == network.arguments["in_channels"] and image.shape[2] >= network.minimum


def newest_discriminator(run: Run, config: dict[Any, Any], side: str, channels: int) -> Discriminator | None:
    """The discriminator of a domain in the newest state; None where it cannot be read."""
    stored, prefix = room(config, "discriminator"), f"method/disc_{side}."
    known = {name: stored[name] for name in DiscriminatorSettings.model_fields if name in stored}
    try:
        path = run.states()[-1][1] / "state.safetensors"
        with safe_open(path, "pt") as state:
            names = [name for name in state.keys() if name.startswith(prefix)]  # noqa: SIM118
            weights = {name.removeprefix(prefix): state.get_tensor(name) for name in names}
        settings = DiscriminatorSettings.model_validate(known)
        with torch.device("meta"):
            options = settings.model_dump(exclude={"network", "init"})
            disc = build_discriminator(settings.network, in_channels=channels, **options)
        disc.load_state_dict(weights, assign=True)
    except (OSError, LookupError, TypeError, ValueError, RuntimeError, SafetensorError, TwofoldError):
        return None
    return disc.eval()


def mean_logit(disc: Discriminator, image: Tensor) -> float:
    logits = disc(image)
    return mean(float(each.mean()) for each in (logits if isinstance(logits, tuple) else (logits,)))


def read_files(found: list[File], data: dict[Any, Any], contract: Contract, most: int) -> Iterator[Pixels]:
    """At most so many of these images, evenly chosen, as far as they can be read, (H, W, C) as stored."""
    layout = "chw" if data.get("layout") == "chw" else "hwc"
    for place in np.linspace(0, len(found) - 1, min(most, len(found))).round().astype(int):
        with suppress(TwofoldError, OSError):
            yield read_as(found[place].path, contract, layout)


def read_evenly(
    found: list[File], data: dict[Any, Any], contract: Contract, most: int = JUDGED
) -> list[Tensor]:
    """Those of `read_files` as the network sees them: (1, C, size, size) in [-1, 1]."""
    read = []
    for image in read_files(found, data, contract, most):
        square = middle_square(image, data, nearest=contract.labels is not None)
        planes = torch.from_numpy(np.ascontiguousarray(square.transpose(2, 0, 1)[None]))
        read.append(to_network(planes, contract))
    return read


def middle_square(image: Pixels, data: dict[Any, Any], *, nearest: bool) -> Pixels:
    """The middle square of the training's size, at about the scale at which the training loads the image."""
    size, (height, width) = data["size"], image.shape[:2]
    if data.get("resize", "resize-and-crop") == "resize-and-crop":
        return images.resize(image, size, size, nearest=nearest)
    if data["resize"] not in ("crop", "none") or min(height, width) < size:
        scale = size / min(height, width)
        high, wide = (max(size, round(length * scale)) for length in (height, width))
        image = images.resize(image, high, wide, nearest=nearest)
    top, left = ((length - size) // 2 for length in image.shape[:2])
    return image[top : top + size, left : left + size]
