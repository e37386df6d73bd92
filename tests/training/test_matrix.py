"""Every method with each of its networks, losses and discriminators: two steps from the command line to a translation.

And each method, killed between two states, ends as if nothing had happened.
"""

import shutil
import signal

import numpy as np
import pytest

from twofold.formats import images
from twofold.networks.registry import GENERATORS
from twofold.runs import Run
from twofold.training.build import METHODS
from twofold.translation.translator import Translator

SHORT = {"epochs": 1, "decay_epochs": 1, "training__ema": 0}  # two steps: one pair an epoch
LAYERS = {"cut__layers": "0,4,8", "cut__patches": 8, "cut__head_width": 4}

GENERATOR_SIZES = {"unet-256": 256, "unet-128": 128, "unet": 32, "encoder-decoder": 32}
RESNETS = ("resnet-9", "resnet-6", "pytorch-gan")
DISCRIMINATORS = {
    **{f"patch {n}": {"discriminator__layers": n} for n in range(1, 6)},
    "antialiased": {"discriminator__antialias": True},
    "image": {"discriminator__network": "image"},
    "pixel": {"discriminator__network": "pixel"},
    "pytorch-gan": {"discriminator__network": "pytorch-gan"},
    "spectral": {"discriminator__spectral": True, "discriminator__norm": "none"},
    "scales and several": {"discriminator__scales": 2, "discriminator__count": 2},
    "several depths": {"discriminator__extra_layers": "2,1"},
}
LOSSES = {
    "bce": {},
    "hinge": {"adversarial__augment": "colour,translation,cutout"},
    "wgan": {"adversarial__critic_steps": 2, "adversarial__r1": 0.5},
}
OF_CYCLEGAN = {
    "adversarial cycle": {"cyclegan__cycle": "adversarial"},
    "rehearsed": {"cyclegan__recent_updates": 2},
    "one way": {"cyclegan__gan_ba": 0, "cyclegan__cycle_b": 0},
    "blurred": {"generator__antialias": True, "generator__upsample": "blur"},
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two folders of three pictures with the same names: pairs for those who want them."""
    home = tmp_path_factory.mktemp("matrix")
    for name in "AB":
        for i in range(3):
            pixels = np.random.default_rng([i, ord(name)]).integers(0, 256, (40, 40, 3), dtype=np.uint8)
            images.write(pixels, home / name / f"{i}.png")
    one = home / "one"
    for name in "AB":
        images.write(images.read(home / name / "0.png"), one / name / "0.png")
    return home


def tokens(lab, folders, out, method, few=True, **changes):
    home = folders / "one" if few else folders
    size = {"size": 32} if method == "pix2pix" else {}
    words = lab.tokens(out, method=method, **LAYERS, **(SHORT if few else {}), **(size | changes))
    return [words[0], str(home / "A"), str(home / "B"), *words[3:]]


def cases():
    for method in METHODS:
        for network in GENERATORS:
            if method not in ("cut", "fastcut") or network in RESNETS:
                yield (
                    method,
                    network,
                    {"generator__network": network, "size": GENERATOR_SIZES.get(network, 16)},
                )
        yield method, "with dropout", {"generator__dropout": True}
    for name, changes in DISCRIMINATORS.items():
        yield "cyclegan", name, {"size": 96} | changes
    for loss, changes in LOSSES.items():
        for method in METHODS:
            extra = {"discriminator__norm": "instance"}
            yield method, loss, {"adversarial__loss": loss} | extra | changes
    for name, changes in OF_CYCLEGAN.items():
        yield "cyclegan", name, changes
    yield "pix2pix", "unconditional", {"pix2pix__conditional": False, "pix2pix__norm": "l2"}
    yield "cut", "with a buffer", {"cut__replay": 2, "cut__nce_identity": False}


@pytest.mark.parametrize(
    ("method", "name", "changes"), [pytest.param(*case, id=f"{case[0]} {case[1]}") for case in cases()]
)
def test_two_steps(lab, folders, tmp_path, command, method, name, changes):
    ended = command(*tokens(lab, folders, tmp_path / "run", method, **changes))
    assert ended.code == 0, ended.output
    run = Run(tmp_path / "run")
    ways = ("ab", "ba") if method == "cyclegan" else ("ab",)
    for way in ways:
        translator = Translator.load(run.path, direction=way, device="cpu")
        assert translator.noise == (method == "pix2pix")
        assert translator(images.read(folders / "A" / "0.png")).shape == (40, 40, 3)
        assert run.samples(way)
    assert not run.snapshots("ba") or len(ways) == 2


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {
            "adversarial__loss": "wgan",
            "adversarial__critic_steps": 2,
            "discriminator__norm": "instance",
            "discriminator__spectral": True,
            "adversarial__augment": "colour",
            "cyclegan__recent_updates": 1,
        },
    ],
    ids=["as published", "wgan"],
)
def test_resume(lab, folders, tmp_path, method, changes):
    undisturbed, out = tmp_path / "undisturbed", tmp_path / "run"
    changes = {"cut__replay": 2, "generator__dropout": True, "training__state_every": 2} | changes
    words = tokens(lab, folders, out, method, few=False, **changes)
    assert lab.run(tokens(lab, folders, undisturbed, method, few=False, **changes)).code == 0
    for _ in range(2):
        ended = lab.run(words, ("after step", 4))
        assert ended.code == -signal.SIGKILL, ended.output
    assert lab.run(words).code == 0
    assert lab.outcome(out) == lab.outcome(undisturbed)
    shutil.rmtree(out)
