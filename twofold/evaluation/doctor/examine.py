"""What is wrong with a run and what to try next, from its folder alone, by the rules of `symptoms` and `appearance`.

The run may be going on, finished, old, empty or damaged; what cannot be read is left out or reported.
"""

import math
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from statistics import median
from typing import Any, get_args

from twofold.data.settings import DataSettings, ResizeName
from twofold.evaluation.doctor import appearance, folder, inputs, symptoms
from twofold.evaluation.doctor.appearance import Pictures
from twofold.evaluation.doctor.folder import contract_of, files, loss_weights, number
from twofold.evaluation.doctor.symptoms import Finding
from twofold.formats.scale import Geometry
from twofold.read_untrusted import Mark, mapping, mark, room
from twofold.runs import DIRECTIONS, Run, read_lines

Config = dict[Any, Any]

RESIZES = get_args(ResizeName)

NEWEST = 1000
"""Lines of each log that are read: five times a run's reports at the default interval."""

YOUNG, YOUNG_SHARE = 200, 0.1
"""Pictures and discriminators are not judged before so many images, or before this share of the run: all pictures look
wrong then, and a generator that starts from a copy is easily recognised."""

CERTAIN, PASSING = 400, (" copies", " inverts", " collapsed", " won")
"""Before so many images, findings with these names may pass. Of runs of 228 images that start from a copy, a CycleGAN
still copied at the end, and the discriminator of a FastCUT had won."""

EARLIER = 3
"""Sample grids before the newest that are read."""

VISIBLE = 0.2
"""A distance of images in [-1, 1], 25 of 255 levels: below it a loss may jump by any factor and nobody sees it."""


def examine(run: Run, *, models: bool = False) -> list[Finding]:
    """All findings, the worst first; empty for a run that seems well.

    Args:
        models: also run the newest generators and discriminators on a few images, which takes seconds. Without it the
            logs, the file list and the sample grids are read: 0.2 s on a busy slow core.
    """
    config, rows = mapping(run.config), read_rows(run)
    found = [*folder_findings(run, config), *log_findings(run, config, rows)]
    found += [*data_findings(run), *few_image_findings(run, config), *sample_findings(run, config, rows)]
    if models:
        from twofold.evaluation.doctor.models import model_findings

        found += model_findings(run, config, young=is_young(run, config, rows))
    by_name = {finding.name: finding for finding in found}  # the networks know better than the sample grids
    judged = [softened(each, rows) for each in without_consequences(list(by_name.values()))]
    return sorted(judged, key=lambda each: each.severity != "trouble")


def softened(finding: Finding, rows: list[dict[str, Any]]) -> Finding:
    """What is seen of the networks may pass in so short a run, particularly in one that starts from a copy."""
    seen = max((row["images"] for row in rows), default=0)
    early = seen < CERTAIN and finding.name.endswith(PASSING)
    return finding._replace(severity="watch") if early else finding


def no_problem(run: Run) -> str:
    """What to print of a run without findings."""
    images = max((row["images"] for row in read_rows(run)), default=0)
    if not images:
        return f"Nothing to judge yet: {run.metrics.name} has no report of the losses."
    return (
        f"No problem found after {images:,} images. This does not mean that the result is good: judge it by the sample"
        " images and by `twofold evaluate`."
    )


def without_consequences(found: list[Finding]) -> list[Finding]:
    """Without findings that follow from another one: a discriminator always wins against a generator that copies or
    collapsed, and one picture for every input has a texture of its own."""
    names, consequences = {each.name for each in found}, set()
    for way in ("A→B", "B→A"):
        if names & {f"{way} copies", f"{way} collapsed"}:
            consequences |= {f"discriminator of {way[2]} won", f"discriminator of {way[2]} winning"}
        if f"{way} collapsed" in names:
            consequences.add(f"{way} checkerboard")
    return [each for each in found if each.name not in consequences]


def read_rows(run: Run) -> list[dict[str, Any]]:
    """The newest lines of the log of losses, those with an image count."""
    return [row for row in read_lines(run.metrics, NEWEST) if 0 <= number(row.get("images")) < 2**53]


def folder_findings(run: Run, config: Config) -> Iterator[Finding]:
    """No run, or a damaged config.yaml."""
    if not run.exists:
        yield Finding(
            "no run",
            "watch",
            f"{run.path} holds no run: there is no config.yaml.",
            f"Start one: `twofold train A B --out {run.quoted}`.",
        )
    elif not config:
        yield damaged(run.config)


def damaged(path: Path) -> Finding:
    return Finding(
        f"{path.name} damaged",
        "trouble",
        f"{path.name} {'cannot be read' if path.exists() else 'is missing'}, so this run can be judged only in part and"
        " cannot be resumed.",
        "Restore the file from a copy, or start a new run with another `--out`.",
    )


def log_findings(run: Run, config: Config, rows: list[dict[str, Any]]) -> Iterator[Finding]:
    """Problems in losses and timing."""
    stops = [row for row in rows if isinstance(row.get("not_finite"), list)]
    stopped = {row["images"]: [*map(str, row["not_finite"])] for row in stops}
    losses, lr = loss_series(rows), learning_rate(config)
    method = str(config.get("method", "cyclegan"))
    loss = room(config, "adversarial").get("loss") or room(config, "cyclegan").get("adversarial")
    loss = str(loss or ("bce" if method == "pix2pix" else "lsgan"))  # where the configuration names none
    weights = loss_weights(config)
    found: list[Finding | None] = [symptoms.not_finite(losses, stopped, lr)]
    floors = {name: VISIBLE * number(weight) for name, weight in image_loss_weights(weights).items()}
    for domain, disc, gan in (("A", "disc_a", "gan_ba"), ("B", "disc_b", "gan_ab")):
        weight = number(weights.get(gan, weights.get("gan", 1.0)))
        undecided = symptoms.UNDECIDED.get(loss, math.inf)
        floors |= {disc: 4 * undecided, gan: 4 * undecided * max(weight, 1.0)}
        if disc in losses and gan in losses and not too_early(rows[-1]["images"], config, rows):
            found.append(symptoms.discriminator_won(losses[disc], losses[gan], loss, weight, domain))
    found.append(symptoms.spikes(losses, floors, lr))
    cached = room(config, "data").get("cache") is not False
    waiting = [number(row["waiting"]) for row in read_lines(run.timing, NEWEST) if "waiting" in row]
    found.append(symptoms.slow_loading(waiting, cached))
    yield from filter(None, found)


def learning_rate(config: Config) -> float:
    found = number(room(config, "optim").get("lr"))
    return found if 0 < found < math.inf else symptoms.RATE


def loss_series(rows: list[dict[str, Any]]) -> dict[str, list[float]]:
    """By a loss's name, one value per report; NaN where a report lacks it."""
    reports = [row["losses"] for row in rows if isinstance(row.get("losses"), dict)]
    names = dict.fromkeys(str(name) for losses in reports for name in losses)
    return {name: [number(losses.get(name)) for losses in reports] for name in names}


def image_loss_weights(weights: dict[Any, Any]) -> dict[str, float]:
    """The weights of the losses that are distances of images."""
    a, b, share = (number(weights.get(key)) for key in ("cycle_a", "cycle_b", "identity"))
    distance = number(weights.get("distance"))
    return {"cycle_a": a, "cycle_b": b, "idt_a": share * a, "idt_b": share * b, "l1": distance}


def data_findings(run: Run) -> tuple[Finding, ...]:
    """Problems in the frozen file list."""
    stamp = mark(run.data)
    if stamp is None:
        return (damaged(run.data),) if run.exists else ()
    return cached_data_findings(run, stamp)


@lru_cache(maxsize=64)
def cached_data_findings(run: Run, _stamp: Mark) -> tuple[Finding, ...]:
    """Cached, because a list of 100,000 files takes a second to read and never changes."""
    document = mapping(run.data)
    if not document:
        return (damaged(run.data),)
    listed = {side: files(document, side.lower()) for side in "AB"}
    hashes = {side: [[file.hash for file in part] for part in found] for side, found in listed.items()}
    found = [inputs.leaked_images(train, held_out, side) for side, (train, held_out) in hashes.items()]
    found.append(inputs.mixed_domains(hashes["A"][0], hashes["B"][0]))
    data = room(mapping(run.config), "data")
    if not (data.get("paired") or data.get("lab")):
        sizes = {side: [file.size for file in own.train if file.size] for side, own in listed.items()}
        found += geometry_findings(data, sizes)
    return tuple(filter(None, found))


def geometry_findings(data: Config, sizes: dict[str, list[inputs.Size]]) -> list[Finding | None]:
    """Domains that are loaded at different shapes or scales; `sizes` are those of the stored training images."""
    resize, size = data.get("resize"), pixels(data.get("size"))
    if not resize or resize not in RESIZES or not size or not all(sizes.values()):
        return []
    if resize == "resize-and-crop":
        return [inputs.squashed(sizes["A"], sizes["B"])]
    settings = DataSettings.model_construct(size=size, load_size=pixels(data.get("load_size")) or None)
    geometry = Geometry(resize, settings.loaded, size)
    scales = {
        side: median(geometry.loaded(*each)[1] / each[0] for each in own) for side, own in sizes.items()
    }
    sides = {side: int(median(map(min, own))) for side, own in sizes.items()}
    return [inputs.enlarged(scales, sides)]


def pixels(value: object) -> int:
    """A length in pixels; 0 for anything else."""
    return value if type(value) is int and 0 < value < 1 << 16 else 0


def few_image_findings(run: Run, config: Config) -> Iterator[Finding]:
    """Discriminators that are too large for their images, in a run that does not augment them."""
    stamp, data = mark(run.data), room(config, "data")
    size = pixels(data.get("size"))
    if not stamp or not size or room(config, "adversarial").get("augment"):
        return
    for side, (images, channels) in training_images(run, stamp).items():
        weights = folder.discriminator_weights(run, side)
        yield from filter(None, [inputs.few_images(images, size**2 * channels, weights, side.upper())])


@lru_cache(maxsize=64)
def training_images(run: Run, _stamp: Mark) -> dict[str, tuple[int, int]]:
    """By domain, the number of training images and their channels, those of both images for pairs."""
    document = mapping(run.data)
    channels = {side: contract_of(room(document, side)).network_channels for side in "ab"}
    if document.get("paired"):
        channels = dict.fromkeys("ab", sum(channels.values()))
    return {side: (len(files(document, side).train), channels[side]) for side in "ab"}


def is_young(run: Run, config: Config, rows: list[dict[str, Any]]) -> bool:
    """Whether it is too early to judge pictures."""
    newest = max((images for way in DIRECTIONS for images, _ in run.samples(way)[-1:]), default=0)
    return too_early(newest, config, rows)


def too_early(images: float, config: Config, rows: list[dict[str, Any]]) -> bool:
    """Whether a run has seen too few images by then to be judged."""
    return images < max(YOUNG, YOUNG_SHARE * images_to_train(config, rows))


def sample_findings(run: Run, config: Config, rows: list[dict[str, Any]]) -> Iterator[Finding]:
    """Problems in the newest sample grids."""
    if is_young(run, config, rows):
        return
    grids = {way: run.samples(way)[-EARLIER - 1 :] for way in DIRECTIONS}
    data = room(config, "data")
    free = not (data.get("paired") or data.get("lab"))
    columns = {
        way: [*filter(None, (folder.grid_columns(path) for _, path in found))] for way, found in grids.items()
    }
    for way, own in columns.items():
        if own:
            targets = target_pictures(run, way, columns)
            yield from grid_findings(way, own, targets, free, config)


def target_pictures(run: Run, way: str, columns: dict[str, list[list[Pictures]]]) -> Pictures | None:
    """Pictures of the target domain: of the other direction's grid, or of the images that the run trains on."""
    if other := columns[way[::-1]]:
        return other[-1][0]
    stamp = mark(run.data)
    if stamp is None:
        return None
    from twofold.evaluation.doctor.models import domain_pictures

    return domain_pictures(run, way[1], stamp)


def images_to_train(config: Config, rows: list[dict[str, Any]]) -> float:
    """Of the whole run; 0 where the folder does not say."""
    training = room(config, "training")
    epochs = number(training.get("epochs")) + number(training.get("decay_epochs"))
    sizes = [number(row["images"]) / row["epoch"] for row in rows if 0 < number(row.get("epoch")) < math.inf]
    return epochs * sizes[-1] if sizes and epochs < math.inf else 0


def grid_findings(
    way: str, grids: list[list[Pictures]], targets: Pictures | None, free: bool, config: Config
) -> Iterator[Finding]:
    """Problems in one direction's grids, oldest first, each given as its columns: source, translation, back again.

    Args:
        targets: pictures of the target domain.
        free: whether the run finds out for itself what a translation looks like; with pairs, inverted or unchanged
            colours can be right.
    """
    method, weights = str(config.get("method")), loss_weights(config)
    (sources, translations, _), arrow = grids[-1], "→".join(way.upper())
    earlier = [grid[1] for grid in grids[:-1] if grid[1].shape == translations.shape]
    found = [
        appearance.collapsed(sources, translations, targets, arrow, method, learning_rate(config)),
        appearance.checkerboard(sources, translations, arrow),
    ]
    if free and not found[0]:
        found += [
            appearance.copied(sources, translations, targets, arrow, method, weights),
            appearance.inverted(sources, translations, targets, arrow),
            appearance.colours_off(sources, translations, targets, earlier, arrow, method),
        ]
    yield from filter(None, found)
