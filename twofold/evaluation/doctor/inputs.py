"""Problems of the images that a run is trained on: each a function of plain values that gives a finding or None."""

from collections.abc import Sequence
from statistics import median

from twofold.evaluation.doctor.symptoms import Finding, counted

Size = tuple[int, int]
"""Width and height in pixels."""

MIXED = 0.01
"""Above this share of a domain, images in both are more than a mistake with a few files."""


def mixed_domains(a: Sequence[str], b: Sequence[str]) -> Finding | None:
    """The same files in both domains; `a` and `b` are their hashes."""
    both = set(a) & set(b)
    if not both:
        return None
    share = len(both) / min(len(set(a)), len(set(b)))
    return Finding(
        "domains mixed up",
        "trouble" if share > MIXED else "watch",
        f"{counted(len(both), 'image')} of A {'is' if len(both) == 1 else 'are'} in B as well, byte for byte"
        f" ({share:.1%}); the networks learn to leave them unchanged.",
        "List them with `twofold data check A B`, remove them from one folder and start a new run.",
    )


def leaked_images(train: Sequence[str], held_out: Sequence[str], domain: str) -> Finding | None:
    """Held-out images that are also trained on, by hash."""
    both = set(train) & set(held_out)
    if not both:
        return None
    return Finding(
        f"held-out images of {domain} trained on",
        "watch",
        f"{counted(len(both), 'held-out image')} of {domain} {'is' if len(both) == 1 else 'are'} also trained on, so"
        " metrics on them are too good.",
        "Remove the copies from one of the folders and start a new run.",
    )


def few_images(images: int, values: int, weights: int, domain: str) -> Finding | None:
    """A discriminator that has more weights than its training images have values can store all of them.

    Args:
        images: of the domain, trained on without augmentation for the discriminators.
        values: of one image at the size of training, in all channels.
    """
    if not images or weights <= images * values:
        return None
    return Finding(
        f"few images of {domain}",
        "watch",
        f"The discriminator of {domain} can memorise its training images: it has {weights:,} weights, and"
        f" {counted(images, 'image')} of {domain} {'has' if images == 1 else 'have'} {images * values:,} values.",
        f"Add images of {domain}, or start a new run that varies what the discriminator sees,"
        " `--adversarial.augment colour,translation,cutout`.",
    )


SQUASHED = 1.3
"""The aspect of one domain's images over that of the other's: from here a square of both is not the same shape."""


def squashed(a: Sequence[Size], b: Sequence[Size]) -> Finding | None:
    """Images of two aspects that are all squashed to squares; `a` and `b` are their sizes."""
    if not a or not b:
        return None
    aspects = [median(width / height for width, height in sizes) for sizes in (a, b)]
    if max(aspects) < SQUASHED * min(aspects):
        return None
    return Finding(
        "domains squashed differently",
        "watch",
        f"Images of A are {aspects[0]:.2g} times as wide as high and those of B {aspects[1]:.2g} times, and"
        " resize-and-crop squashes all of them to squares, so the same object has another shape in each domain.",
        "Start a new run that keeps the shapes, `--data.resize shortest`.",
    )


ENLARGED, APART = 1.5, 2.0
"""Images enlarged this many times are blurred; only if the other domain's are enlarged this many times less, the
discriminators see it."""


def enlarged(scales: dict[str, float], sides: dict[str, int]) -> Finding | None:
    """Images of one domain are enlarged, and so blurred, and those of the other are not.

    Args:
        scales: by domain, the median size of an image as loaded over its size as stored.
        sides: by domain, the median of its images' shorter sides in pixels, as stored.
    """
    large, small = max(scales, key=lambda side: scales[side]), min(scales, key=lambda side: scales[side])
    if scales[large] < ENLARGED or scales[large] < APART * scales[small]:
        return None
    size = max(32, sides[large] // 32 * 32)
    return Finding(
        f"{large} enlarged",
        "watch",
        f"Images of {large} are loaded at {scales[large]:.2g} times their size and those of {small} at"
        f" {scales[small]:.2g} times: the discriminators can tell them by their blur alone.",
        f"Start a new run at the size of {large}, `--size {size} --data.load-size {size}`, or with larger images of"
        f" {large}.",
    )


CLIPPED = 0.01
"""The share of a domain's values outside its range from which it is reported; found ranges leave out 0.001."""


def clipped(share: float, limits: tuple[float, float], contract_limits: str, domain: str) -> Finding | None:
    """Values of the images lie outside the range that the networks see.

    Args:
        share: of the values, 0 to 1, that are outside.
        limits: the lowest and the highest value seen.
        contract_limits: the range in words.
    """
    if share < CLIPPED:
        return None
    low, high = limits
    return Finding(
        f"range of {domain} clips",
        "watch",
        f"{share:.1%} of the values of {domain} are outside the range {contract_limits} and are clipped.",
        "If they matter, start a new run with the range that holds all of them,"
        f" `{'--data.range-a' if domain == 'A' else '--data.range-b'} {low:.10g} {high:.10g}`.",
    )
