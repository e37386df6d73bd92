"""From settings to a method with freshly initialised networks."""

import torch

from twofold.config import Config
from twofold.methods.base import Method
from twofold.methods.cyclegan import CycleGAN
from twofold.networks.layers import Discriminator, Generator, initialise
from twofold.networks.registry import (
    automatic_generator,
    build_discriminator,
    build_generator,
    check_size,
)
from twofold.networks.settings import Init
from twofold.randomness import seed32


def build(config: Config) -> Method:
    """The method that a resolved config describes; its weights depend on the seed alone."""
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        torch.manual_seed(seed32("weights", config.seed))
        return METHODS[config.method](config)


def cyclegan(config: Config) -> Method:
    (a, b), chosen = channels(config), config.cyclegan
    assert chosen.identity is not None  # decided by `start.decide`
    return CycleGAN(
        generator(config, a, b),
        generator(config, b, a),
        discriminator(config, a),
        discriminator(config, b),
        adversarial=chosen.adversarial,
        gan_ab=chosen.gan_ab,
        gan_ba=chosen.gan_ba,
        cycle_a=chosen.cycle_a,
        cycle_b=chosen.cycle_b,
        identity=chosen.identity,
        replay=chosen.replay,
    )


METHODS = {"cyclegan": cyclegan}


def channels(config: Config) -> tuple[int, int]:
    a, b = config.data.channels_a, config.data.channels_b
    assert a is not None and b is not None  # found out by `start.decide`
    return a, b


def generator(config: Config, in_channels: int, out_channels: int) -> Generator:
    chosen, size = config.generator, config.data.size
    network = build_generator(
        automatic_generator(size) if chosen.network == "auto" else chosen.network,
        in_channels=in_channels,
        out_channels=out_channels,
        width=chosen.width,
        norm=chosen.norm,
        dropout=chosen.dropout,
        upsample=chosen.upsample,
        skips=chosen.skips,
        size=size,
    )
    fill(network, chosen.init)
    return network


def discriminator(config: Config, in_channels: int) -> Discriminator:
    chosen = config.discriminator
    network = build_discriminator(
        chosen.network, in_channels=in_channels, width=chosen.width, layers=chosen.layers, norm=chosen.norm
    )
    check_size(network, config.data.size, config.data.size)
    fill(network, chosen.init)
    return network


def fill(network: Generator | Discriminator, init: Init) -> None:
    """Draw the first weights; left out on the meta device, where it would take seconds to import torch's compiler."""
    if not next(network.parameters()).is_meta:
        initialise(network, init)
