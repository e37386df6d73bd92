"""Published recipes by name: the settings in which each differs from its method's defaults, and their sources.

The general defaults are CycleGAN's for photographs. The papers hold out no images: `--val none`.
"""

import difflib
import shlex
from pathlib import Path
from typing import Any, NamedTuple

from twofold.config import nest
from twofold.data.published import PUBLISHED
from twofold.errors import UsageError
from twofold.methods.settings import MethodName

CYCLEGAN = "CycleGAN, arXiv 1703.10593"
SIZES = f"{CYCLEGAN}, appendix 7.1"
NO_IDENTITY = f"{CYCLEGAN}, §5.2: for paintings and flowers alone; the authors' PyTorch code has 0.5 for all"
STYLE = "the authors' answer in pytorch-CycleGAN-and-pix2pix, issue 771: their default"
PART = f"{CYCLEGAN}, §5.1.4, tables 4 and 5"
PIX2PIX = "pix2pix, arXiv 1611.07004"
LENGTHS = f"{PIX2PIX}, appendix 6.2"
CONSTANT = "train.lua of the authors' pix2pix: one learning rate throughout"
SHOES = "the authors in pytorch-CycleGAN-and-pix2pix, issues 999 and 1072: neither jitter nor mirroring"
BAGS = "the authors in pytorch-CycleGAN-and-pix2pix, issue 999: no jitter"
PHOTO_LEFT = "the authors' scripts: direction BtoA, for the photo is the left half"
LOSSES = f"{PIX2PIX}, §4.2, table 1"
SHAPES = f"{PIX2PIX}, §4.3, table 2"
PATCHES = f"{PIX2PIX}, §4.4, table 3, and its authors' models.lua"
CUT = "CUT, arXiv 2007.15651, table 1 and appendix C.1; its authors' experiments/pretrained_launcher.py"
OTHER = "eriklindernoren/PyTorch-GAN, implementations/cyclegan"
OURS = "chosen by measurement, docs/LOG.md"

Values = dict[str, tuple[Any, str]]
"""Setting to its value and the source of that value."""


class Preset(NamedTuple):
    """A recipe.

    Attributes:
        group: the heading in the list of presets.
        data: the data set it was published for, by its name in `twofold data download` or in the paper.
        backwards: whether the recipe translates from the second folder of the data set to the first.
    """

    group: str
    method: MethodName
    what: str
    source: str
    values: Values
    data: str | None = None
    backwards: bool = False

    @property
    def settings(self) -> dict[str, Any]:
        """Its settings, nested as in config.yaml."""
        return nest({"method": self.method} | {path: value for path, (value, _) in self.values.items()})


SQUASHED: Values = {
    "data.resize": (
        "resize-and-crop",
        "the authors' code, pytorch-CycleGAN-and-pix2pix and CUT: resize_and_crop, to a square",
    )
}
"""The papers squash images to squares; the default here keeps their proportions."""


def unpaired(what: str, values: Values, data: str | None = None) -> Preset:
    source = f"{CYCLEGAN}, §4 and appendix 7"
    return Preset("CycleGAN, two folders", "cyclegan", what, source, SQUASHED | values, data)


def part(what: str, **weights: float) -> Preset:
    values: Values = {
        f"cyclegan.{name}": (value, PART) for name, value in (weights | {"identity": 0}).items()
    }
    return Preset("CycleGAN, parts of the objective", "cyclegan", what, PART, SQUASHED | values, "cityscapes")


def paired(
    what: str,
    data: str,
    epochs: int,
    batch: int = 1,
    values: Values | None = None,
    *,
    photo_left: bool = False,
) -> Preset:
    """A pix2pix recipe: `epochs` at one learning rate; with `photo_left`, from the right half to the left."""
    length: Values = {"training.epochs": (epochs, LENGTHS), "training.decay_epochs": (0, CONSTANT)}
    if batch != 1:
        length["training.batch"] = (batch, LENGTHS)
    if photo_left:
        length["data.direction"] = ("ba", PHOTO_LEFT)
    source = f"{PIX2PIX}, §3 and appendix 6"
    return Preset("pix2pix, pairs", "pix2pix", what, source, SQUASHED | length | (values or {}), data)


def compared(what: str, source: str, batch: int = 1, **values: object) -> Preset:
    """A row of the paper's comparisons, all on Cityscapes, labels→photo; `room__field=value`."""
    settings: Values = {path.replace("__", "."): (value, source) for path, value in values.items()}
    base = paired(what, "cityscapes", 200, batch, settings, photo_left=True)
    return base._replace(group="pix2pix, the paper's comparisons", source=source)


def contrast(method: MethodName, what: str, data: str, *, backwards: bool = False) -> Preset:
    return Preset("CUT and FastCUT, one way", method, what, CUT, SQUASHED, data, backwards)


NONE: Values = {"cyclegan.identity": (0, NO_IDENTITY)}
COLOURS: Values = {"cyclegan.identity": (0.5, STYLE)}

PRESETS: dict[str, Preset] = {
    "cyclegan": unpaired(
        "the full objective with the identity loss",
        {
            "cyclegan.cycle_a": (10, f"{CYCLEGAN}, §4"),
            "cyclegan.cycle_b": (10, f"{CYCLEGAN}, §4"),
            "cyclegan.identity": (0.5, f"{CYCLEGAN}, §5.2 and the default of the authors' PyTorch code"),
            "cyclegan.replay": (50, f"{CYCLEGAN}, §4"),
            "adversarial.loss": ("lsgan", f"{CYCLEGAN}, §4"),
        },
    ),
    "horse2zebra": unpaired("horses ↔ zebras", NONE, "horse2zebra"),
    "apple2orange": unpaired("apples ↔ oranges", NONE, "apple2orange"),
    "summer2winter": unpaired("Yosemite in summer ↔ in winter", NONE, "summer2winter"),
    "monet2photo": unpaired(
        "Monet's paintings ↔ photos",
        {
            "cyclegan.identity": (0.5, SIZES),
            "data.resize": ("crop", f"{SIZES}: square crops of the original images"),
        },
        "monet2photo",
    ),
    "cezanne2photo": unpaired("Cézanne's paintings ↔ photos", COLOURS, "cezanne2photo"),
    "ukiyoe2photo": unpaired("Ukiyo-e prints ↔ photos", COLOURS, "ukiyoe2photo"),
    "vangogh2photo": unpaired("van Gogh's paintings ↔ photos", COLOURS, "vangogh2photo"),
    "iphone2dslr": unpaired(
        "flowers photographed by phone ↔ with shallow focus",
        {
            "cyclegan.identity": (0.5, SIZES),
            "data.resize": ("scale-width-and-crop", SIZES),
            "data.load_size": (360, f"{SIZES}; it does not name the crop, 256 is the default"),
        },
        "iphone2dslr",
    ),
    "maps": unpaired("aerial photos ↔ maps", NONE, "maps"),
    "facades": unpaired("photos of facades ↔ label maps", NONE, "facades"),
    "cityscapes": unpaired(
        "street scenes ↔ label maps, 128 px", {"data.size": (128, SIZES)} | NONE, "cityscapes"
    ),
    "cycle-alone": part("both cycles, no discriminators", gan_ab=0, gan_ba=0),
    "gan-alone": part("both discriminators, no cycles", cycle_a=0, cycle_b=0),
    "gan-forward": part("both discriminators and the cycle A→B→A", cycle_b=0),
    "gan-backward": part("both discriminators and the cycle B→A→B", cycle_a=0),
    "pix2pix-facades": paired("label map → facade", "pix2pix-facades", 200, photo_left=True),
    "pix2pix-maps": paired("aerial photo → map (--direction ba: back)", "pix2pix-maps", 200),
    "pix2pix-cityscapes": paired("label map → street scene", "cityscapes", 200, photo_left=True),
    "edges2shoes": paired(
        "edges → shoe", "edges2shoes", 15, 4, {"data.load_size": (256, SHOES), "data.flip": (False, SHOES)}
    ),
    "edges2handbags": paired("edges → handbag", "edges2handbags", 15, 4, {"data.load_size": (256, BAGS)}),
    "night2day": paired("day → night", "night2day", 17, 4, photo_left=True),
    "pix2pix-l1": compared("L1 alone; FCN score .42 .15 .11", LOSSES, pix2pix__gan=0),
    "pix2pix-gan": compared(
        "unconditional GAN, no L1; .22 .05 .01", LOSSES, pix2pix__distance=0, pix2pix__conditional=False
    ),
    "pix2pix-cgan": compared("conditional GAN, no L1; .57 .22 .16", LOSSES, pix2pix__distance=0),
    "pix2pix-l1-gan": compared("L1 and unconditional GAN; .64 .20 .15", LOSSES, pix2pix__conditional=False),
    "pix2pix-l1-cgan": compared("L1 and conditional GAN; .66 .23 .17", LOSSES),
    "pix2pix-patch-1": compared("PixelGAN; .39 .15 .10", PATCHES, discriminator__network="pixel"),
    "pix2pix-patch-16": compared("16×16 PatchGAN; .65 .21 .17", PATCHES, discriminator__layers=1),
    "pix2pix-patch-70": compared("70×70 PatchGAN; .66 .23 .17", PATCHES, discriminator__layers=3),
    "pix2pix-patch-286": compared("286×286 ImageGAN; .42 .16 .11", PATCHES, discriminator__layers=5),
    "pix2pix-unet": compared("U-Net, batches of 10", SHAPES, 10, generator__network="unet"),
    "pix2pix-encoder-decoder": compared(
        "the same without skips", SHAPES, 10, generator__network="encoder-decoder"
    ),
    "cut-horse2zebra": contrast("cut", "horses → zebras; FID 45.5", "horse2zebra"),
    "cut-cat2dog": contrast("cut", "cats → dogs; FID 76.2", "cat2dog"),
    "cut-cityscapes": contrast("cut", "label map → street scene", "cityscapes", backwards=True),
    "fastcut-horse2zebra": contrast("fastcut", "horses → zebras; FID 73.4", "horse2zebra"),
    "fastcut-cat2dog": contrast("fastcut", "cats → dogs; FID 94.0", "cat2dog"),
    "fastcut-cityscapes": contrast("fastcut", "label map → street scene", "cityscapes", backwards=True),
    "pytorch-gan": Preset(
        "other recipes",
        "cyclegan",
        "eriklindernoren/PyTorch-GAN's CycleGAN",
        f"{OTHER}; its learning rate falls once an epoch, here with every image",
        {
            "data.resize": ("resize-and-crop", f"{OTHER}/cyclegan.py: 1.12 times the crop, to a square"),
            "generator.network": ("pytorch-gan", f"{OTHER}/models.py"),
            "discriminator.network": ("pytorch-gan", f"{OTHER}/models.py"),
            "cyclegan.gan_ab": (0.5, f"{OTHER}/cyclegan.py: the mean of both directions"),
            "cyclegan.gan_ba": (0.5, f"{OTHER}/cyclegan.py: the mean of both directions"),
            "cyclegan.cycle_a": (5, f"{OTHER}/cyclegan.py: 10 times the mean of both"),
            "cyclegan.cycle_b": (5, f"{OTHER}/cyclegan.py: 10 times the mean of both"),
            "cyclegan.identity": (0.5, f"{OTHER}/cyclegan.py: 5 times the mean of both"),
        },
        "monet2photo",
    ),
    "seasons": Preset(
        "other recipes",
        "cyclegan",
        "small and quick: what `twofold demo` trains",
        OURS,
        {
            path: (value, OURS)
            for path, value in {
                "data.size": 64,
                "data.load_size": 64,
                "generator.network": "resnet-6",
                "generator.width": 24,
                "generator.blocks": 4,
                "generator.halvings": 1,
                "generator.upsample": "resize",
                "generator.skips": True,
                "discriminator.width": 24,
                "discriminator.extra_layers": (1,),
                "cyclegan.cycle_a": 2,
                "cyclegan.cycle_b": 2,
                "cyclegan.identity": 0.5,
                "cyclegan.replay": 0,
                "cyclegan.recent_updates": 2,
                "optim.lr": 6e-4,
                "optim.disc_lr": 2,
                "training.epochs": 0.3,
                "training.decay_epochs": 3.1,
                "training.batch": 2,
                "training.ema": 1000,
                "training.samples": 3,
                "training.sample_every": 200,
                "training.report_every": 20,
            }.items()
        },
    ),
}


def layer(name: str | None) -> dict[str, Any]:
    """The settings of a preset, its name among them; empty for None. UsageError if there is no such preset."""
    return {"preset": name, **find(name).settings} if name is not None else {}


def find(name: str) -> Preset:
    """The preset of this name. UsageError if there is none, with the nearest name."""
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, 1)
        hint = f"did you mean {near[0]}?" if near else "`twofold presets` lists them"
        raise UsageError(f"there is no preset {name}; {hint}")
    return PRESETS[name]


def commands(name: str, folder: Path | None = None) -> list[str]:
    """The commands that download a preset's data set, where that is possible, and train on it in `folder`."""
    preset = find(name)
    home = folder or Path(preset.data or "DATA")
    inside = ["train"] if preset.method == "pix2pix" else ["trainA", "trainB"]
    folders = shlex.join(str(home / each) for each in (inside[::-1] if preset.backwards else inside))
    fetch = [f"twofold data download {preset.data}"] if preset.data in PUBLISHED else []
    return [*fetch, f"twofold train {folders} --val none --preset {name}"]
