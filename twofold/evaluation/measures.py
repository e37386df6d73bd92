"""What is measured: each measure looks at one image after the other and then gives its figures.

A measure belongs to one row of the table, such as the translations or, as a floor, the untouched sources.
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from twofold.errors import UsageError
from twofold.evaluation.features import BATCH, Network, features, outputs, planes
from twofold.formats import images
from twofold.metrics import image as paired
from twofold.metrics import labels, structure
from twofold.metrics.distribution import Figure, fid, kid, mean_of, resampled
from twofold.metrics.lpips import Lpips
from twofold.translation.translator import Translator

Uint8 = NDArray[np.uint8]


class Column(NamedTuple):
    """One figure's heading."""

    name: str
    better: Literal["higher", "lower", ""]


class Shot(NamedTuple):
    """One image on its way through an evaluation, each (H, W, C)."""

    number: int
    source: Uint8
    output: Uint8
    answer: Uint8 | None


class Measure(Protocol):
    """Something that is measured."""

    @property
    def columns(self) -> Sequence[Column]: ...

    def see(self, shot: Shot) -> None: ...

    def figures(self) -> list[Figure]:
        """One for each column, once everything was seen."""
        ...


class Means:
    """Figures that are means over images of what `look` finds in one."""

    def __init__(self, columns: Sequence[Column], look: Callable[[Shot], Sequence[float]]) -> None:
        self.columns, self.look = columns, look
        self.rows: list[Sequence[float]] = []

    def see(self, shot: Shot) -> None:
        self.rows.append(self.look(shot))

    def figures(self) -> list[Figure]:
        values = zip(*self.rows, strict=True)
        return [mean_of(value, column.name) for value, column in zip(values, self.columns, strict=True)]


PAIRED = {
    "psnr": (Column("PSNR (dB)", "higher"), paired.psnr),
    "ssim": (Column("SSIM", "higher"), paired.ssim),
    "ms-ssim": (Column("MS-SSIM", "higher"), paired.ms_ssim),
}


def against_answers(names: Sequence[str]) -> Means:
    """PSNR, SSIM and MS-SSIM, or some of them."""
    columns, looks = zip(*(PAIRED[name] for name in names), strict=True)

    def look(shot: Shot) -> list[float]:
        assert shot.answer is not None
        return [each(shot.output, shot.answer) for each in looks]

    return Means(columns, look)


def perceptual(network: Lpips, device: torch.device) -> Means:
    """LPIPS."""
    network = network.to(device)

    @torch.inference_mode()
    def look(shot: Shot) -> list[float]:
        assert shot.answer is not None
        x, y = (images.to_float(planes(image).to(device)) for image in (shot.output, shot.answer))
        return [float(network(x, y))]

    return Means([Column("LPIPS", "lower")], look)


def survives() -> Means:
    """How much of the source can be seen in the translation."""
    columns = [Column("luminance kept", ""), Column("edges kept", "")]
    return Means(columns, lambda shot: structure.survival(shot.source, shot.output))


class Cycles:
    """The cycle's error, and how many times as large it is once the translation was handed over as an image."""

    columns = (
        Column("cycle error (of 255)", "lower"),
        Column("cycle error, 8 bits", ""),
        Column(f"cycle error, JPEG {structure.QUALITY}", ""),
        Column(f"cycle error, noise of {structure.SIGMA:g}", ""),
    )

    def __init__(self, there: Translator, back: Translator) -> None:
        self.there, self.back = there, back
        self.rows: list[structure.Cycle] = []

    def see(self, shot: Shot) -> None:
        self.rows.append(structure.cycle(shot.source, self.there, self.back, shot.number))

    def figures(self) -> list[Figure]:
        return [
            mean_of(values, c.name)
            for values, c in zip(zip(*self.rows, strict=True), self.columns, strict=True)
        ]


class Labels:
    """Label maps, by the nearest colour or by a network that segments translations."""

    def __init__(
        self, palette: Uint8, names: Sequence[str] | None = None, network: Network | None = None
    ) -> None:
        self.palette, self.network = palette, network
        self.names = names or ["#{:02x}{:02x}{:02x}".format(*colour) for colour in palette]
        of = f" ({network.name})" if network else ""
        self.columns = [
            Column(f"{name}{of}", "higher") for name in ("pixel accuracy", "class accuracy", "class IoU")
        ]
        self.seen: list[labels.Counts] = []

    def see(self, shot: Shot) -> None:
        truth = shot.answer if self.network is None else shot.source
        assert truth is not None
        true = labels.labels_of(labels.colours(truth), self.palette)
        if self.network is None:
            found = labels.labels_of(labels.colours(shot.output), self.palette)
        else:
            found = segmented(self.network, shot.output, true.shape)
        self.seen.append(labels.confusion(true, found, len(self.palette)))

    @property
    def matrices(self) -> labels.Counts:
        return np.stack(self.seen)

    def figures(self) -> list[Figure]:
        return label_figures(self.matrices)

    def floor(self) -> list[Figure]:
        """The figures of the commonest label everywhere."""
        total = labels.commonest(self.matrices.sum(0))
        column = int(total.sum(0).argmax())
        floors = np.zeros_like(self.matrices)
        floors[:, :, column] = self.matrices.sum(2)
        return label_figures(floors)


def label_figures(matrices: labels.Counts) -> list[Figure]:
    """The three figures of the sum of images' confusion matrices (N, K, K); intervals are over images."""
    flat = matrices.reshape(len(matrices), -1)
    side = matrices.shape[1]

    def figure(place: int) -> Callable[[NDArray[np.float64]], float]:
        return lambda counts: labels.scored((counts.astype(np.int64) @ flat).reshape(side, side))[place]

    return [resampled(figure(place), len(matrices), "labels", place) for place in range(3)]


def segmented(network: Network, output: Uint8, shape: tuple[int, ...]) -> labels.Counts:
    """The class of each pixel, by a network that gives scores (K, h, w) or labels (h, w), stretched to `shape`."""
    found = next(outputs(network, [output], torch.device("cpu")))
    if found.dim() == 3:
        found = found.argmax(0)
    if found.dim() != 2:
        raise UsageError(
            f"{network.name} gives {tuple(found.shape)} for an image, no scores (K, H, W) of classes"
        )
    rows, columns = (np.arange(side) * have // side for side, have in zip(shape, found.shape, strict=True))
    return found.numpy().astype(np.int64)[rows[:, None], columns]


class Distribution:
    """How far a network's features of the translations are from those of the other domain."""

    def __init__(
        self,
        network: Network,
        device: torch.device,
        reference: NDArray[np.float32],
        names: Sequence[str],
        known: NDArray[np.float32] | None = None,
    ) -> None:
        self.network, self.device, self.reference = network, device, reference.astype(np.float64)
        self.names, self.known = names, known
        self.columns = [Column(f"{name} ({network.name})", "lower") for name in names]
        self.waiting: list[Uint8] = []
        self.rows: list[NDArray[np.float32]] = []

    def see(self, shot: Shot) -> None:
        if self.known is None:
            self.waiting.append(shot.output)
            if len(self.waiting) == BATCH:
                self._look()

    def _look(self) -> None:
        if self.waiting:
            self.rows.append(features(self.network, self.waiting, self.device))
            self.waiting = []

    def figures(self) -> list[Figure]:
        self._look()
        mine = (np.concatenate(self.rows) if self.known is None else self.known).astype(np.float64)
        if mine.shape[1] != self.reference.shape[1]:
            raise UsageError(
                f"{self.network.name} gives {mine.shape[1]} features for some images and {self.reference.shape[1]}"
                " for others; --network-size brings them to one size"
            )
        return [
            kid(mine, self.reference) if name == "KID" else fid(mine, self.reference, self.network.name)
            for name in self.names
        ]


def verdict(network: Network, classes: Sequence[int], device: torch.device) -> Means:
    """The share of outputs that a classifier takes for one of some classes, at once or among its first five."""

    def look(shot: Shot) -> list[float]:
        scores = next(outputs(network, [shot.output], device))
        scores = scores.flatten() if scores.shape[1:].numel() == 1 else scores
        if scores.dim() != 1 or max(classes) >= len(scores):
            raise UsageError(
                f"{network.name} gives {tuple(scores.shape)} for an image, which has no class {max(classes)}"
            )
        first = set(scores.topk(min(5, len(scores))).indices.tolist())
        return [float(int(scores.argmax()) in classes), float(bool(first & set(classes)))]

    return Means(
        [Column(f"{network.name} says so", "higher"), Column(f"{network.name}, in its first 5", "higher")],
        look,
    )
