"""The newest models and critics of a run, tried on a few images: what logs and sample grids cannot show.

On the CPU, so that a training on the GPU keeps it. Whatever is not there (images on another machine, a state that
was just replaced, a damaged model) leaves its part out.
"""

import io
from statistics import mean
from typing import Any

import numpy as np
import torch
from PIL import Image
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from twofold.errors import TwofoldError
from twofold.evaluation.doctor import appearance
from twofold.evaluation.doctor.folder import File, files
from twofold.evaluation.doctor.symptoms import Finding
from twofold.formats import images
from twofold.networks.layers import Discriminator, Generator
from twofold.networks.registry import build_discriminator
from twofold.networks.settings import DiscriminatorSettings
from twofold.read_untrusted import mapping, room
from twofold.runs import Run
from twofold.translation import model_file

TRANSLATED, JUDGED = 4, 16
"""Images of each domain that are translated there and back (a second each at 256 px on a slow machine), and of each
kind that a critic is shown."""

NOISE = 2 / 255
"""Standard deviation of the noise on a translation, 1 being from black to white: not to be seen."""

JPEG = 90
"""Quality: what a careful user stores."""


@torch.inference_mode()
def findings(run: Run, config: dict[Any, Any]) -> list[Finding]:
    """What the newest snapshots and the newest state's critics show."""
    data, document = room(config, "data"), mapping(run.data)
    parts = [room(document, side).get("part") for side in "ab"]
    if not isinstance(data.get("size"), int) or data.get("paired") or any(parts):
        return []  # critics of pairs see two images at once, and parts of files are not read here
    translators = newest_translators(run)
    listed = {side: files(document, side) for side in "ab"}
    unseen = {side: read_some(listed[side].held_out, data, side) for side in "ab"}
    found: list[Finding | None] = []
    for way, translator in translators.items():
        sources = [x for x in unseen[way[0]][:TRANSLATED] if fits(translator, x)]
        translated = [translator(source) for source in sources]
        if back := translators.get(way[::-1]):
            found.append(cycle(way, sources, translated, back))
        if judge := newest_critic(run, config, way[1]):
            kinds = (read_some(listed[way[1]].train, data, way[1]), unseen[way[1]], translated)
            train, held_out, fake = ([mark(judge, image) for image in kind] for kind in kinds)
            found.append(appearance.overfitted(train, held_out, fake, way[1].upper()))
    return [each for each in found if each]


def newest_translators(run: Run) -> dict[str, Generator]:
    found = {}
    for way in ("ab", "ba"):
        for _, path in run.snapshots(way)[-1:]:
            try:
                found[way] = model_file.load(path)[0]
            except (TwofoldError, OSError, SafetensorError):
                continue
    return found


def cycle(way: str, sources: list[Tensor], translated: list[Tensor], back: Generator) -> Finding | None:
    """The way back from translations that have taken faint damage, against that from untouched ones."""
    if not sources or not fits(back, translated[0]):
        return None
    noise = torch.Generator().manual_seed(0)
    clean: list[float] = []
    worn: dict[str, list[tuple[float, float]]] = {"faint noise": [], f"JPEG {JPEG}": []}
    for source, image in zip(sources, translated, strict=True):
        clean.append(away(back(image), source))
        noisy = (image + 2 * NOISE * torch.randn(image.shape, generator=noise)).clamp(-1, 1)
        for damage, harmed in zip(worn, (noisy, as_jpeg(image)), strict=True):
            worn[damage].append((away(back(harmed), source), away(harmed, image)))
    means = {
        damage: (mean([x for x, _ in each]), mean([y for _, y in each])) for damage, each in worn.items()
    }
    return appearance.hidden_signal(mean(clean), means, "→".join((way + way[0]).upper()))


def fits(network: Generator, image: Tensor) -> bool:
    return image.shape[1] == network.arguments["in_channels"] and image.shape[2] >= network.minimum


def away(image: Tensor, other: Tensor) -> float:
    """Mean absolute difference, 1 being from black to white."""
    return float((image - other).abs().mean()) / 2


def as_jpeg(batch: Tensor) -> Tensor:
    """One image (1, C, H, W) stored as JPEG and read again; channels one by one where they are no colours."""
    planes = images.to_uint8(batch)[0].cpu().numpy()
    groups = [planes] if len(planes) == 3 else [plane[None] for plane in planes]
    stored = np.concatenate([reread(group) for group in groups])
    return images.to_float(torch.from_numpy(stored)[None])


def reread(planes: np.ndarray) -> np.ndarray:
    """uint8 (1 or 3, H, W) through an encoder and a decoder."""
    file = io.BytesIO()
    picture = planes.transpose(1, 2, 0) if len(planes) == 3 else planes[0]
    Image.fromarray(np.ascontiguousarray(picture)).save(file, "JPEG", quality=JPEG, subsampling=0)
    read = np.asarray(Image.open(file))
    return np.ascontiguousarray(read.transpose(2, 0, 1) if read.ndim == 3 else read[None])


def newest_critic(run: Run, config: dict[Any, Any], side: str) -> Discriminator | None:
    """The critic of a domain in the newest state."""
    channels, prefix = room(config, "data").get(f"channels_{side}", 3), f"method/disc_{side}."
    try:
        path = run.states()[-1][1] / "state.safetensors"
        with safe_open(path, "pt") as state:
            names = [name for name in state.keys() if name.startswith(prefix)]  # noqa: SIM118
            weights = {name.removeprefix(prefix): state.get_tensor(name) for name in names}
        settings = DiscriminatorSettings.model_validate(config.get("discriminator"))
        with torch.device("meta"):
            options = settings.model_dump(exclude={"network", "init"})
            judge = build_discriminator(settings.network, in_channels=channels, **options)
        judge.load_state_dict(weights, assign=True)
    except (OSError, LookupError, TypeError, RuntimeError, SafetensorError, ValidationError, TwofoldError):
        return None
    return judge.eval()


def mark(judge: Discriminator, image: Tensor) -> float:
    """A critic's mean logit."""
    logits = judge(image)
    maps = logits if isinstance(logits, tuple) else (logits,)
    return mean([float(each.mean()) for each in maps])


def read_some(found: list[File], data: dict[Any, Any], side: str) -> list[Tensor]:
    """At most JUDGED of these images, evenly chosen, as far as they can be read: (1, C, size, size) in [-1, 1].

    Squashed to the square of the training, or its middle where the training cuts at the images' own scale.
    """
    size, channels, read = data["size"], data.get(f"channels_{side}"), []
    places = np.linspace(0, len(found) - 1, min(JUDGED, len(found))).round().astype(int)
    for place in places:
        try:
            image = images.read(found[place].path, channels)
        except (TwofoldError, OSError):
            continue
        top, left = ((length - size) // 2 for length in image.shape[:2])
        if data.get("resize") in ("crop", "none") and min(top, left) >= 0:
            image = image[top : top + size, left : left + size]
        square = np.ascontiguousarray(images.resize(image, size, size).transpose(2, 0, 1))
        read.append(images.to_float(torch.from_numpy(square)[None]))
    return read
