"""The choice of machine settings, for a new run and on another machine; and compiled networks."""

import re
import shutil

import pytest
import torch
from torch import nn

from twofold import config as configs
from twofold import hardware
from twofold.errors import UsageError
from twofold.methods.adversarial import AdversarialObjective
from twofold.methods.base import Batch
from twofold.training import machine, memory
from twofold.training.build import build
from twofold.training.trainer import Trainer

pytestmark = [  # of torch's compiler about itself
    pytest.mark.filterwarnings("ignore:The .grad attribute"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def batch(seed, size=16):
    draws = torch.Generator().manual_seed(seed)
    return Batch(*(torch.rand(1, 3, size, size, generator=draws) * 2 - 1 for _ in "ab"))


@pytest.fixture
def traced(monkeypatch):
    """Compiling as far as a C++ compiler is not needed: networks are traced with their gradients, then run as torch."""
    compile_, made = nn.Module.compile, []

    def traced(network, **given):
        made.append(network)
        compile_(network, **given, backend="aot_eager")

    monkeypatch.setattr(nn.Module, "compile", traced)
    yield made
    torch.compiler.reset()


def losses(method, steps=4, **given):
    trainer = Trainer(method, **given)
    reports = []
    for step in range(steps):
        trainer.step(batch(step), 1e-3)
        reports.append(trainer.sums.report())
    return trainer, reports


def test_traced_networks_train_to_the_same_losses(tiny, traced):
    plain, expected = losses(tiny(), ema=4)
    trainer, found = losses(tiny(), ema=4, compiled=True)
    assert {id(network) for network in traced} == {id(x) for x in trainer.method.networks().values()}
    for mine, right in zip(found, expected, strict=True):
        assert mine == pytest.approx(right, rel=1e-4)
    assert trainer.method.state_dict().keys() == plain.method.state_dict().keys()
    for name, value in plain.method.state_dict().items():
        torch.testing.assert_close(trainer.method.state_dict()[name], value, rtol=1e-3, atol=3e-4, msg=name)


def test_traced_networks_in_bf16(tiny, traced):
    _, expected = losses(tiny(), 2, precision="bf16")
    _, found = losses(tiny(), 2, precision="bf16", compiled=True)
    assert traced and found[0] == pytest.approx(expected[0], rel=0.02)


def test_uncompiled_networks_run_as_plain_torch(tiny, traced):
    trainer, _ = losses(tiny(), 2, compiled=True)
    counts = torch._dynamo.utils.counters["stats"]
    before = counts["unique_graphs"]
    assert before > 0
    with trainer.uncompiled(), torch.no_grad():
        for size in (20, 24, 28):
            trainer.generator("ab").eval()(torch.zeros(3, 3, size, size))
    trainer.generator("ab").train()
    assert counts["unique_graphs"] == before


@pytest.mark.parametrize("settings", [{"method": "cut"}, {"method": "fastcut"}])
def test_every_call_of_cuts_networks_is_compiled(settings, traced, monkeypatch):
    compile_, eager = torch.compile, []
    monkeypatch.setattr(
        torch, "compile", lambda call, **how: compile_(call, **{"backend": "aot_eager", **how})
    )
    for kind, name in ((nn.Conv2d, "_conv_forward"), (nn.Linear, "forward")):
        original = getattr(kind, name)

        def watched(self, *args, original=original):
            if not torch.compiler.is_compiling():
                eager.append(self)
            return original(self, *args)

        monkeypatch.setattr(kind, name, watched)
    small = {"generator": {"width": 2}, "discriminator": {"width": 2, "layers": 1}, "cut": {"head_width": 4}}
    given = {"a": "A", "b": "B", "data": {"size": 16, "channels_a": 3, "channels_b": 3}}
    trainer = Trainer(build(configs.compose(given, small, settings)), compiled=True)
    for seed in range(2):
        trainer.step(batch(seed), 1e-3)
    assert not eager and trainer.sums.broken() is None
    with trainer.uncompiled(), torch.no_grad():
        trainer.generator("ab")(torch.zeros(1, 3, 16, 16))
    assert eager  # the watch works


def test_penalised_discriminators_are_not_compiled(tiny, traced):
    adversarial = AdversarialObjective("lsgan", r1=1.0)
    method = tiny(adversarial=adversarial)
    _, found = losses(method, 2, compiled=True)
    assert {id(network) for network in traced} == {id(method.gen_ab), id(method.gen_ba)}
    _, expected = losses(tiny(adversarial=adversarial), 2)
    assert found[1] == pytest.approx(expected[1], rel=1e-3)


@pytest.mark.slow
def test_compiled_networks_train_to_the_same_losses(tiny):
    """With torch's own compiler; gradients and norms are other kernels, and Adam makes steps of rounding."""
    if not machine.can_compile(CPU):
        pytest.skip("there is no C++ compiler")
    _, expected = losses(tiny())
    _, found = losses(tiny(), compiled=True)
    torch.compiler.reset()
    for mine, right in zip(found, expected, strict=True):
        assert mine == pytest.approx(right, rel=1e-3)


# ---- the choice


@pytest.fixture
def choose(monkeypatch):
    """choose(device=CUDA, can_compile=False, **{"machine.compile": "on"}): the chosen machine settings, and the lines."""

    def chosen(
        device=CPU, can_compile=True, gcc=True, free=1 << 40, images=100_000, needs=(1, 1), **overrides
    ):
        with monkeypatch.context() as patched:
            pretend(patched, device, can_compile, gcc, free, needs)
            given = {"a": "A", "b": "B", "data.channels_a": 3, "data.channels_b": 3} | overrides
            config, lines = configs.compose(configs.nest(given)), []
            return machine.choose(config, images, lines.append).machine, lines

    return chosen


def pretend(patched, device, can_compile=True, gcc=True, free=1 << 40, needs=(1, 1)):
    """Another machine than this one. `needs`: bytes of a step without and with checkpointing."""

    def pick(name="auto", local_rank=0):
        if name not in ("auto", device.type):
            raise UsageError(f"{name} is not on this machine")
        return device

    patched.setattr(machine, "can_compile", lambda device: can_compile)
    patched.setattr(machine, "can_use_native", lambda device: gcc and device.type == "cpu")
    patched.setattr(hardware, "pick_device", pick)
    patched.setattr(hardware, "fast_bf16", lambda device: device.type == "cuda")
    patched.setattr(hardware, "free_memory", lambda device: free)
    patched.setattr(
        memory, "estimate_step", lambda config: memory.Need(0, needs[bool(config.machine.checkpoint)])
    )


@pytest.mark.parametrize(
    ("device", "size", "images", "compile"),
    [
        (CPU, 256, 1_000_000, "off"),
        (CUDA, 256, 266_800, "on"),
        (CUDA, 256, 2_000, "on"),
        (CUDA, 256, 1_999, "off"),
        (CUDA, 512, 500, "on"),
        (torch.device("mps"), 256, 266_800, "off"),
    ],
)
def test_networks_are_compiled_where_it_saves_time(choose, device, size, images, compile):
    assert choose(device, images=images, **{"data.size": size})[0].compile == compile
    assert choose(device, can_compile=False, images=images, **{"data.size": size})[0].compile == "off"


@pytest.mark.parametrize(
    ("device", "overrides", "expected"),
    [
        (CPU, {}, ("off", False)),
        (CPU, {"machine.precision": "bf16"}, ("off", False)),
        (CUDA, {}, ("on", True)),
        (CUDA, {"machine.compile": "off"}, ("off", False)),
        (CUDA, {"machine.capture": False}, ("on", False)),
        (CUDA, {"data.resize": "none"}, ("on", False)),
        (CUDA, {"machine.checkpoint": True}, ("on", True)),
        (CUDA, {"machine.checkpoint": True, "generator.dropout": True}, ("on", False)),
        (CUDA, {"training.accumulate": 2}, ("on", False)),
        (CUDA, {"machine.precision": "fp16"}, ("on", True)),
        (CUDA, {"machine.precision": "fp16", "machine.fused": False}, ("on", False)),
        (CUDA, {"machine.compile": "off", "machine.capture": True}, ("off", True)),
    ],
)
def test_compiling_and_capture(choose, monkeypatch, device, overrides, expected):
    chosen, lines = choose(device, **overrides)
    assert (chosen.compile, chosen.capture) == expected and lines == []
    monkeypatch.setattr(machine, "world", lambda: 2)
    if not overrides.get("machine.capture"):
        assert choose(device, **overrides)[0].capture is False


def test_the_rest_of_the_choice(choose):
    cpu, gpu, apple = (choose(device)[0] for device in (CPU, CUDA, torch.device("mps")))
    assert (cpu.device, cpu.precision, cpu.channels_last, cpu.fused) == ("cpu", "float32", True, True)
    assert (gpu.device, gpu.precision, gpu.channels_last, gpu.fused) == ("cuda", "bf16", True, True)
    assert (apple.precision, apple.channels_last, apple.fused) == ("float32", False, False)
    assert cpu.threads == torch.get_num_threads()
    given = {"machine.threads": 3, "machine.channels_last": False, "machine.fused": False}
    kept = choose(CPU, **given)[0]
    assert (kept.threads, kept.channels_last, kept.fused) == (3, False, False)


def test_c_code_where_there_is_a_compiler(choose):
    assert choose()[0].native and choose(**{"machine.native": True})[0].native
    assert choose(**{"machine.precision": "bf16"})[0].native
    assert choose(gcc=False)[0].native is choose(CUDA)[0].native is False
    assert choose(**{"machine.native": False})[0].native is False


@pytest.mark.parametrize(
    ("surroundings", "setting", "message"),
    [
        (
            {"can_compile": False},
            {"machine.compile": "on"},
            r"needs a C\+\+ compiler, which is not installed",
        ),
        ({"can_compile": False, "device": CUDA}, {"machine.compile": "on"}, r"and Triton, which is not"),
        ({}, {"machine.capture": True}, r"machine\.capture true needs CUDA"),
        ({"gcc": False}, {"machine.native": True}, r"machine\.native true needs a CPU, Linux and gcc"),
    ],
)
def test_settings_that_the_machine_cannot_have_are_refused(choose, surroundings, setting, message):
    with pytest.raises(UsageError, match=message):
        choose(**surroundings, **setting)


@pytest.mark.parametrize(
    ("free", "needs", "overrides", "checkpoint"),
    [
        (100, (60, 30), {}, False),  # fits well
        (100, (61, 30), {}, True),
        (100, (150, 100), {}, True),
        (100, (150, 101), {}, False),  # does not fit in either way
        (100, (70, 70), {}, False),  # a network without residual blocks
        (None, (150, 30), {}, False),
        (100, (150, 30), {"machine.checkpoint": False}, False),
        (100, (10, 5), {"machine.checkpoint": True}, True),
    ],
)
def test_blocks_are_checkpointed_where_memory_is_short(choose, free, needs, overrides, checkpoint):
    gib = 1 << 30
    found, lines = choose(free=free and free * gib, needs=tuple(x * gib for x in needs), **overrides)
    assert found.checkpoint is checkpoint
    assert len(lines) == (checkpoint and not overrides)
    if lines:
        assert lines[0].startswith(
            f"checkpointing residual blocks: a step needs about {needs[0]}.0 GiB of 100.0"
        )


@pytest.mark.parametrize(("dropout", "asked"), [(False, (True, True)), (True, (True, False))])
def test_a_captured_step_with_dropout_is_not_checkpointed_unasked(choose, dropout, asked):
    short = {"free": 100, "needs": (90, 30), "generator.dropout": dropout}
    chosen = choose(CUDA, **short)[0]
    assert (chosen.capture, chosen.checkpoint) == (not dropout, True)
    chosen = choose(CUDA, **short, **{"machine.capture": True})[0]
    assert (chosen.capture, chosen.checkpoint) == asked


# ---- resuming on another machine


def resumed(monkeypatch, before, after, overrides=(), **stored):
    """The machine settings of a run that starts on one machine and resumes on another, and the lines printed."""
    with monkeypatch.context() as patched:
        pretend(patched, **before)
        given = {"a": "A", "b": "B", "data.channels_a": 3, "data.channels_b": 3} | stored
        first = machine.choose(configs.compose(configs.nest(given)), 100_000, print)
    with monkeypatch.context() as patched:
        pretend(patched, **after)
        layer, lines = configs.nest(dict(overrides)), []
        config = configs.resume(first, layer)
        return machine.choose_again(first, config, layer, 100_000, lines.append).machine, lines


def test_the_same_machine_changes_nothing(monkeypatch):
    for device in (CPU, CUDA):
        assert resumed(monkeypatch, {"device": device}, {"device": device})[1] == []


def test_missing_compilers_are_printed_and_done_without(monkeypatch):
    used, lines = resumed(monkeypatch, {"device": CPU}, {"device": CPU, "gcc": False})
    assert used.native is False
    assert len(lines) == 1 and lines[0].endswith("bits: native True -> False")
    used, lines = resumed(monkeypatch, {"device": CUDA}, {"device": CUDA, "can_compile": False})
    assert (used.compile, used.capture) == ("off", True)
    assert len(lines) == 1 and lines[0].endswith("bits: compile on -> off")


def test_another_device_keeps_the_precision(monkeypatch):
    used, lines = resumed(monkeypatch, {"device": CUDA}, {"device": CPU})
    assert (used.device, used.precision, used.compile, used.capture) == ("cpu", "bf16", "off", False)
    (line,) = lines
    assert "device cuda -> cpu" in line and "compile on -> off" in line and "capture True -> False" in line
    used, _ = resumed(monkeypatch, {"device": CPU}, {"device": CUDA}, {"machine.device": "cuda"})
    assert (used.device, used.precision, used.compile, used.capture) == ("cuda", "float32", "on", True)


def test_the_users_changes_are_kept_or_refused(monkeypatch):
    same = {"device": CPU}
    used, lines = resumed(monkeypatch, same, same, {"machine.fused": False, "machine.threads": 7})
    assert (used.fused, used.threads) == (False, 7)
    assert len(lines) == 1 and lines[0].endswith("threads 1 -> 7, fused True -> False")
    left_open = {"machine.device": "auto", "machine.compile": "auto", "machine.native": None}
    assert resumed(monkeypatch, same, same, left_open)[1] == []
    with pytest.raises(UsageError, match="native true needs"):
        resumed(monkeypatch, same, same | {"gcc": False}, {"machine.native": True})
    with pytest.raises(UsageError, match="mps is not on this machine"):
        resumed(monkeypatch, same, same, {"machine.device": "mps"})


def test_a_run_resumes_without_the_compilers_it_started_with(finished, tmp_path, command, monkeypatch):
    shutil.copytree(finished, tmp_path / "run")
    config = tmp_path / "run" / "config.yaml"
    text = re.sub("native: (true|false)", "native: true", config.read_text())
    config.write_text(text.replace("compile: 'off'", "compile: 'on'"))
    monkeypatch.setattr(machine, "can_compile", lambda device: False)
    monkeypatch.setattr(machine, "can_use_native", lambda device: False)
    ended = command("train", "--resume", tmp_path / "run", "--epochs", 3)
    assert ended.code == 0
    assert ended.output.count("bits: compile on -> off, native True -> False") == 1
    assert "compile: 'off'" in config.read_text() and "native: false" in config.read_text()


def test_yaml_has_truth_values_for_on_and_off(tmp_path):
    file = tmp_path / "given.yaml"
    for word in ("on", "off", "auto", "'on'"):
        file.write_text(f"a: A\nb: B\nmachine:\n  compile: {word}\n")
        assert configs.compose(configs.from_file(file)).machine.compile == word.strip("'")
    written = configs.to_yaml(configs.compose({"a": "A", "b": "B", "machine": {"compile": "off"}}))
    file.write_text(written)
    assert configs.compose(configs.from_file(file)).machine.compile == "off"
