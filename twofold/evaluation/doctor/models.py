"""Problems that the newest generators and discriminators of a run show on a few images, on the CPU.

What is not there (images on another machine, a state that was just replaced, a damaged model) is left out.
"""

from statistics import mean
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from twofold.errors import TwofoldError
from twofold.evaluation.cycle import Damage, cycle_errors, holds_jpeg, jpeg, no_damage, noise
from twofold.evaluation.doctor import appearance
from twofold.evaluation.doctor.folder import File, contract_of, files
from twofold.evaluation.doctor.symptoms import Finding
from twofold.evaluation.reading import read_as
from twofold.formats import images
from twofold.formats.contract import Contract, Pixels
from twofold.formats.values import to_network
from twofold.networks.layers import Discriminator, Generator
from twofold.networks.registry import build_discriminator
from twofold.networks.settings import DiscriminatorSettings
from twofold.read_untrusted import mapping, room
from twofold.runs import DIRECTIONS, Run
from twofold.translation import model_file

TRANSLATED, JUDGED = 4, 16
"""Images of each domain that are translated there and back (a second each at 256 px on a slow machine), and of each
kind that a discriminator judges."""

NOISE, JPEG = {"faint noise": noise(2.0)}, {"JPEG 90": jpeg(90, "4:4:4")}
"""Damage to a translation that nobody sees."""


@torch.inference_mode()
def model_findings(run: Run, config: dict[Any, Any]) -> list[Finding]:
    """Problems of the newest snapshots, and of the discriminators in the newest state."""
    data, document = room(config, "data"), mapping(run.data)
    parts = [room(document, side).get("part") for side in "ab"]
    if not isinstance(data.get("size"), int) or data.get("paired") or any(parts):
        return []  # discriminators of pairs take two images at once, and halves of files are not read here
    generators = newest_generators(run)
    listed = {side: files(document, side) for side in "ab"}
    contracts = {side: contract_of(room(document, side)) for side in "ab"}
    unseen = {side: read_evenly(listed[side].held_out, data, contracts[side]) for side in "ab"}
    found: list[Finding | None] = []
    for way, generator in generators.items():
        sources = [x for x in unseen[way[0]][:TRANSLATED] if accepts(generator, x)]
        translations = [generator(source) for source in sources]
        if back := generators.get(way[::-1]):
            damages = NOISE | (JPEG if holds_jpeg(contracts[way[1]]) else {})
            found.append(cycle_finding(way, sources, translations, back, damages))
        side = way[1]
        if disc := newest_discriminator(run, config, side, contracts[side].network_channels):
            kinds = (read_evenly(listed[side].train, data, contracts[side]), unseen[side], translations)
            train, held_out, made = ([mean_logit(disc, image) for image in kind] for kind in kinds)
            found.append(appearance.overfitted(train, held_out, made, side.upper()))
    return [each for each in found if each]


def newest_generators(run: Run) -> dict[str, Generator]:
    found = {}
    for way in DIRECTIONS:
        for _, path in run.snapshots(way)[-1:]:
            try:
                found[way] = model_file.load(path)[0]
            except (TwofoldError, OSError, SafetensorError):
                continue
    return found


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


def read_evenly(found: list[File], data: dict[Any, Any], contract: Contract) -> list[Tensor]:
    """At most JUDGED of these images, evenly chosen, as far as they can be read: (1, C, size, size) in [-1, 1]."""
    layout, read = "chw" if data.get("layout") == "chw" else "hwc", []
    for place in np.linspace(0, len(found) - 1, min(JUDGED, len(found))).round().astype(int):
        try:
            image = read_as(found[place].path, contract, layout)
        except (TwofoldError, OSError):
            continue
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
