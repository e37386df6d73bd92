"""From settings to a method with freshly initialised networks."""

from collections.abc import Callable
from typing import Any

import torch

from twofold.config import Config
from twofold.errors import UsageError
from twofold.evaluation.features import torchscript
from twofold.formats.contract import Contract
from twofold.losses.perceptual import Perceptual
from twofold.methods.adversarial import AdversarialObjective
from twofold.methods.base import Method
from twofold.methods.cut import CUT
from twofold.methods.cyclegan import CycleGAN
from twofold.methods.pix2pix import Pix2Pix
from twofold.methods.settings import MethodName
from twofold.networks import registry
from twofold.networks.layers import Discriminator, Generator, initialise
from twofold.networks.resnet import ResnetGenerator
from twofold.networks.settings import DiscriminatorSettings, GeneratorSettings, Init
from twofold.randomness import seed32
from twofold.training.checkpointing import checkpoint_blocks
from twofold.training.float32_layers import keep_last_layer_float32
from twofold.training.freezing import freeze

Contracts = tuple[Contract, Contract]
"""Of A and of B."""


def build(config: Config, contracts: Contracts | None = None) -> Method:
    """The method that a resolved config describes; its weights depend on the seed alone.

    Args:
        contracts: what the images are, from the manifest; None: pictures of 8 bits with the config's channels.

    Raises:
        UsageError: the networks cannot take images of this size, or do not suit the method, or training.freeze does not
            suit them.
    """
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        torch.manual_seed(seed32("weights", config.seed))
        method = METHODS[config.method](config, contracts or pictures(config))
    freeze(method, config.training.freeze)
    return method


def cyclegan(config: Config, contracts: Contracts) -> CycleGAN:
    (a, b), chosen = channels(contracts), config.cyclegan
    generators = generator(config, *contracts), generator(config, *contracts[::-1])
    domains = (a, b, a, b) if chosen.cycle == "adversarial" else (a, b)
    discriminators = [discriminator(config, domain) for domain in domains]
    identity = (0.5 if a == b else 0.0) if chosen.identity is None else chosen.identity
    weights = chosen.model_dump(exclude={"cycle"}) | {"identity": identity}
    losses = {"adversarial": adversarial(config), "perceptual": perceptual(config)}
    return CycleGAN(*generators, *discriminators, **weights, **losses)


def pix2pix(config: Config, contracts: Contracts) -> Pix2Pix:
    (a, b), chosen = channels(contracts), config.pix2pix
    networks = generator(config, *contracts), discriminator(config, a + b if chosen.conditional else b)
    losses = {"adversarial": adversarial(config), "perceptual": perceptual(config)}
    return Pix2Pix(*networks, **chosen.model_dump(), **losses)


def cut(config: Config, contracts: Contracts) -> CUT:
    network = generator(config, *contracts)
    assert isinstance(network, ResnetGenerator)  # see Config
    discriminator_b = discriminator(config, contracts[1].network_channels)
    try:
        method = CUT(network, discriminator_b, adversarial=adversarial(config), **config.cut.model_dump())
    except UsageError as error:  # of the layers, which another network has not
        raise UsageError(f"--cut.layers: {error}") from error
    fill(method.heads, config.generator.init)
    return method


METHODS: dict[MethodName, Callable[[Config, Contracts], Method]] = {
    "cyclegan": cyclegan,
    "pix2pix": pix2pix,
    "cut": cut,
    "fastcut": cut,
}


def adversarial(config: Config) -> AdversarialObjective:
    return AdversarialObjective(**config.adversarial.model_dump())


def perceptual(config: Config) -> Perceptual | None:
    """The loss in the features of the user's network; None on the meta device, where only shapes matter."""
    chosen = config.perceptual
    if chosen.network is None or torch.get_default_device().type == "meta":
        return None
    return Perceptual(torchscript(chosen.network, torch.device("cpu")), chosen.weight)


def pictures(config: Config) -> Contracts:
    """Contracts of pictures of 8 bits with the config's channels."""
    a, b = config.data.channels_a, config.data.channels_b
    assert a is not None and b is not None  # from the images, see start.py
    return Contract(channels=a), Contract(channels=b)


def channels(contracts: Contracts) -> tuple[int, int]:
    """The channels that the networks see, of A and of B."""
    a, b = contracts
    return a.network_channels, b.network_channels


def generator(config: Config, source: Contract, target: Contract) -> Generator:
    """A generator from one domain to the other; under bf16 its last layer is float32 where the target is deep."""
    chosen, size = config.generator, config.data.size
    name = registry.automatic_generator(size) if chosen.network == "auto" else chosen.network
    counts = {"in_channels": source.network_channels, "out_channels": target.network_channels}
    network = registry.build_generator(name, **counts, size=size, **arguments(chosen))
    if target.is_deep:
        keep_last_layer_float32(network)
    if config.machine.checkpoint:
        checkpoint_blocks(network)
    fill(network, chosen.init)
    return network


def discriminator(config: Config, in_channels: int) -> Discriminator:
    chosen = config.discriminator
    network = registry.build_discriminator(chosen.network, in_channels=in_channels, **arguments(chosen))
    registry.check_size(network, config.data.size, config.data.size)
    fill(network, chosen.init)
    return network


def arguments(chosen: GeneratorSettings | DiscriminatorSettings) -> dict[str, Any]:
    return chosen.model_dump(exclude={"network", "init"})


def fill(network: torch.nn.Module, init: Init) -> None:
    """Draw the first weights. Left out on the meta device, where it would import torch's compiler for seconds."""
    if not next(network.parameters()).is_meta:
        initialise(network, init)
