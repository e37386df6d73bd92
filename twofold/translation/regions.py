"""Any region of a generator's output, from the regions of the image and of stored feature maps that it depends on.

`Graph` records the steps of a forward pass once. A region of a step's output needs certain regions of its inputs: backwards
from what is wanted, that gives the least part of every feature map to compute. Inside an image the result equals that of
the whole image within rounding, because no padding of a cut edge reaches it; at the image's own edges the layers pad as
always. Norms take statistics that are given, those of the whole image.
"""

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.fx.node import map_arg
from torch.fx.passes.shape_prop import ShapeProp
from torch.fx.proxy import TraceError

from twofold.errors import UsageError
from twofold.networks.blur import BlurDown
from twofold.networks.layers import Generator
from twofold.randomness import seed32

Interval = tuple[int, int]
"""Pixels from the first up to the second, which is left out."""

POINTWISE = {"cat", "tanh", "atanh", "add", "mul", "abs", "detach", "clamp", "le", "where"}
"""Functions that a forward pass may call between its layers: each pixel of the result depends on that pixel alone."""

NORMS = (nn.InstanceNorm2d, nn.BatchNorm2d)
POINTWISE_LAYERS = (nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.Identity, nn.Dropout)
LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Upsample, BlurDown, *POINTWISE_LAYERS, *NORMS)


class Region(NamedTuple):
    """A rectangle of a feature map, in its own pixels: rows and columns."""

    rows: Interval
    columns: Interval

    @property
    def shape(self) -> tuple[int, int]:
        return self.rows[1] - self.rows[0], self.columns[1] - self.columns[0]

    def crop(self, values: Tensor, inner: "Region") -> Tensor:
        """Values (N, C, H, W) of this region, cut to a region inside it."""
        (top, bottom), (left, right) = (
            (inside[0] - outside[0], inside[1] - outside[0])
            for outside, inside in zip(self, inner, strict=True)
        )
        return values[:, :, top:bottom, left:right]

    def scaled(self, reduction: int) -> "Region":
        """The region of a map that is 1 / reduction of this one's size; a pixel that it touches belongs to it."""
        rows, columns = ((first // reduction, -(-last // reduction)) for first, last in self)
        return Region(rows, columns)


class Input(NamedTuple):
    """In the arguments of a step: the output of an earlier one."""

    step: int


class Step(NamedTuple):
    """A layer, or a function between layers.

    Attributes:
        call: the layer or the function; None for the image, which is step 0.
        arguments: of the function, with `Input` for each tensor.
        inputs: the steps whose outputs it takes.
        reduction: the image has this many times the height and width of the output.
        channels: of the output.
    """

    call: Any
    arguments: tuple[Any, ...]
    inputs: tuple[int, ...]
    reduction: int
    channels: int

    @property
    def is_norm(self) -> bool:
        return isinstance(self.call, NORMS)


Read = Callable[[int, Region], Tensor]
"""From a stored step, or 0 for the image, and a region of it, to its values (N, C, h, w)."""

Normalise = Callable[[int, Tensor], Tensor]
"""From the number of a norm's step and its input to its output."""


class Graph:
    """The steps of a generator's forward pass, in their order; the last one gives the translation."""

    def __init__(self, generator: Generator) -> None:
        self.steps = steps_of(generator)
        self.multiple_of = generator.multiple_of
        self.last = len(self.steps) - 1
        self.norms = [number for number, step in enumerate(self.steps) if step.is_norm]

    def size(self, step: int, height: int, width: int) -> tuple[int, int]:
        """Height and width of a step's output for an image of this size."""
        reduction = self.steps[step].reduction
        return height // reduction, width // reduction

    def needed(
        self, wanted: Mapping[int, Region], stored: Iterable[int], height: int, width: int
    ) -> dict[int, Region]:
        """The region of each step that the wanted regions depend on, for an image of this size; steps in their order."""
        found, known = dict(wanted), {0, *stored}
        for number in range(max(wanted), 0, -1):
            if number not in found or number in known:
                continue
            step = self.steps[number]
            for each in step.inputs:
                region = region_before(step.call, found[number], self.size(each, height, width))
                found[each] = _around(found.get(each, region), region)
        return {number: found[number] for number in sorted(found)}

    def reach(self, stored: Iterable[int] = ()) -> int:
        """Pixels of the image, to each side, that a pixel of the translation depends on."""
        middle, side = 2**20, 2**21  # multiples of every reduction
        region = Region((middle, middle + self.multiple_of), (middle, middle + self.multiple_of))
        needed = self.needed({self.last: region}, stored, side, side)
        ends = [
            (rows[0] * reduction, rows[1] * reduction)
            for number, (rows, _) in needed.items()
            for reduction in [self.steps[number].reduction]
        ]
        return max(max(middle - first, last - middle - self.multiple_of) for first, last in ends)

    def run(
        self,
        wanted: Mapping[int, Region],
        read: Read,
        normalise: Normalise,
        size: tuple[int, int],
        *,
        stored: Iterable[int] = (),
        seed: int = 0,
    ) -> dict[int, Tensor]:
        """The wanted regions of steps' outputs, (N, C, h, w) each.

        Args:
            read: gives the values of the image, and of the stored steps.
            normalise: computes the norms.
            size: height and width of the image.
            stored: steps that are read and not computed.
            seed: of the masks of dropout layers in train mode; a mask depends on a pixel's place in the image.
        """
        known = {0, *stored}
        needed = self.needed(wanted, known, *size)
        last_use = {each: n for n in needed if n not in known for each in self.steps[n].inputs}
        values: dict[int, Tensor] = {}
        for number, region in needed.items():
            step = self.steps[number]
            if number in known:
                values[number] = read(number, region)
                continue
            given = {}
            for each in step.inputs:
                inside = region_before(step.call, region, self.size(each, *size))
                given[each] = needed[each].crop(values[each], inside), inside
            for each in [each for each in given if last_use[each] == number and each not in wanted]:
                del values[each]  # the last reference is in `given`
            values[number] = self._compute(number, given, region, normalise, size, seed)
        return {number: needed[number].crop(values[number], region) for number, region in wanted.items()}

    def _compute(
        self,
        number: int,
        given: dict[int, tuple[Tensor, Region]],
        region: Region,
        normalise: Normalise,
        size: tuple[int, int],
        seed: int,
    ) -> Tensor:
        step = self.steps[number]
        if not isinstance(step.call, nn.Module):
            return step.call(*_filled(step.arguments, {each: tensor for each, (tensor, _) in given.items()}))
        ((values, inside),) = given.values()
        given.clear()
        if step.is_norm:
            return normalise(number, values)
        if isinstance(step.call, nn.Dropout) and step.call.training:
            masks = dropout_mask(step, region, self.size(number, *size), seed + number, values)
            return values * masks
        made = step.call(values)
        starts = (after(step.call, first) for first, _ in inside)
        whole = Region(*((at, at + pixels) for at, pixels in zip(starts, made.shape[2:], strict=True)))
        return whole.crop(made, region)


def steps_of(generator: Generator) -> list[Step]:
    """The steps of a forward pass, from a copy of the generator on the meta device, which computes nothing.

    Raises:
        UsageError: the forward pass does more than call known layers and functions of `POINTWISE`.
    """
    copied = copy.deepcopy(generator).to("meta").eval()
    try:
        graph = _Tracer().trace(copied)
    except TraceError as error:
        raise UsageError("a network that decides by values cannot run in tiles; use --tiles off") from error
    side = 4 * max(generator.multiple_of, generator.minimum)
    image = torch.zeros(1, int(generator.arguments["in_channels"]), side, side, device="meta")
    ShapeProp(fx.GraphModule(copied, graph)).propagate(image)
    numbers: dict[fx.Node, int] = {}
    steps = []
    for node in graph.nodes:
        if node.op == "output":
            break
        arguments = map_arg(node.args, lambda each: Input(numbers[each]))
        inputs = tuple(numbers[each] for each in node.all_input_nodes)
        _, channels, height, _ = node.meta["tensor_meta"].shape
        steps.append(Step(call_of(node, generator), arguments, inputs, side // height, channels))
        numbers[node] = len(numbers)
    return steps


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:  # noqa: ARG002
        return isinstance(m, LAYERS)


def call_of(node: fx.Node, generator: Generator) -> Any:
    """The layer or the function of a node, whose pixels depend on that pixel alone; None for the image."""
    match node.op:
        case "placeholder":
            return None
        case "call_module":
            return generator.get_submodule(str(node.target))
        case "call_method":
            call = getattr(Tensor, str(node.target))
        case _:
            call = node.target
    name = getattr(call, "__name__", str(call))
    if name.strip("_") not in POINTWISE or node.kwargs:
        raise UsageError(f"a network that calls {name} cannot run in tiles; use --tiles off")
    return call


def region_before(layer: Any, region: Region, size: tuple[int, int]) -> Region:
    """The region of a layer's input, of a height and width, that a region of its output needs."""
    rows, columns = (before(layer, *ends, side) for ends, side in zip(region, size, strict=True))
    return Region(rows, columns)


def before(layer: Any, first: int, last: int, size: int) -> Interval:
    """The pixels of a layer's input, of `size` in all, that the pixels from `first` to before `last` of its output need."""
    match layer:
        case nn.Conv2d() | BlurDown():
            kernel, stride, edge = _geometry(layer)
            start, stop = first * stride - edge, (last - 1) * stride - edge + kernel
            start = start // stride * stride  # the layer's own grid
        case nn.ConvTranspose2d():
            kernel, edge = layer.kernel_size[0], int(layer.padding[0])
            start, stop = -(-(first + edge - kernel + 1) // 2), (last - 1 + edge) // 2 + 1
        case nn.Upsample() if layer.mode == "nearest":
            start, stop = first // 2, (last + 1) // 2
        case nn.Upsample():
            start, stop = (first - 1) // 2, last // 2 + 1
        case _:
            return first, last
    return max(0, start), min(size, stop)


def after(layer: Any, first: int) -> int:
    """The first pixel of a layer's output, when its input begins at the pixel `first`."""
    match layer:
        case nn.Conv2d() | BlurDown():
            return first // _geometry(layer)[1]
        case nn.ConvTranspose2d() | nn.Upsample():
            return first * 2
        case _:
            return first


def _geometry(layer: nn.Conv2d | BlurDown) -> tuple[int, int, int]:
    """Kernel, stride and padding in pixels."""
    if isinstance(layer, BlurDown):
        return layer.kernel.shape[-1], 2, 1
    return layer.kernel_size[0], layer.stride[0], int(layer.padding[0])


def _around(one: Region, other: Region) -> Region:
    """The smallest region that holds both."""
    rows, columns = ((min(a[0], b[0]), max(a[1], b[1])) for a, b in zip(one, other, strict=True))
    return Region(rows, columns)


def _filled(arguments: Any, values: Mapping[int, Tensor]) -> Any:
    """Arguments with tensors in place of each `Input`."""
    if isinstance(arguments, Input):
        return values[arguments.step]
    if isinstance(arguments, tuple | list):
        return type(arguments)(_filled(each, values) for each in arguments)
    return arguments


def dropout_mask(step: Step, region: Region, size: tuple[int, int], seed: int, like: Tensor) -> Tensor:
    """A dropout's factors (1, C, h, w) of 0 and 1 / (1 - p), drawn row by row from the seed and the row's number."""
    (top, bottom), (left, right) = region
    rows = []
    for row in range(top, bottom):
        random = torch.Generator().manual_seed(seed32("noise", seed, row))
        rows.append(torch.rand(step.channels, size[1], generator=random)[:, left:right])
    kept = torch.stack(rows, 1)[None] >= step.call.p
    return (kept / (1 - step.call.p)).to(like)


def frozen(norm: nn.Module, values: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """A norm of `NORMS` by given statistics, with its own weights if it has some."""
    weight, bias, eps = norm.weight, norm.bias, norm.eps
    return F.batch_norm(values, mean, variance, weight, bias, False, 0.0, eps)  # pyright: ignore[reportArgumentType]
