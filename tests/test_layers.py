"""The house rules of docs and design as tests: who imports whom, where output comes from, which names exist."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from importlib import metadata
from pathlib import Path
from typing import get_args

import pytest

import twofold

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "twofold"
FILES = sorted(PACKAGE.rglob("*.py"))

LAYERS = [
    {
        "errors",
        "files",
        "fetch",
        "prefetch",
        "randomness",
        "hardware",
        "distributed",
        "runs",
        "read_untrusted",
        "formats",
    },
    {"pages", "networks", "losses"},
    {"data", "seasons", "methods", "cpu", "translation", "metrics"},
    {"evaluation", "exchange", "exporting", "reporting"},
    {"config", "presets", "training", "serving"},
    {"cli", "demo"},
    {"__init__", "__main__"},
]
"""Each room or file may import its own line and the lines above, and no two rooms import each other."""

RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}

OWNERS = {
    "torchmetrics": {"metrics"},
    "cyclopts": {"cli"},
    "rich": {"cli"},
    "yaml": {"config", "read_untrusted", "cli"},
    "pydantic": {"config", "cli", "translation", "formats"},
    "PIL": {"formats", "data", "seasons", "translation", "reporting", "evaluation", "demo"},
    "tifffile": {"formats"},
    "imagecodecs": {"formats"},
    "safetensors": {"exchange", "translation", "training", "evaluation", "metrics"},
    "filelock": {"files"},
    "jinja2": {"pages"},
    "starlette": {"serving"},
    "uvicorn": {"serving"},
    "prometheus_client": {"serving"},
    "wandb": {"reporting"},
    "mlflow": {"reporting"},
    "openvino": {"translation"},
    "onnxruntime": {"translation", "evaluation", "exporting"},
    "onnx": {"translation", "exporting"},
    "google": {"translation"},
}
"""Packages that only some rooms import; settings files may import pydantic everywhere."""


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def room(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def is_settings(path: Path) -> bool:
    return path.name == "settings.py"


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports anywhere, in functions too, as a dotted name."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            assert node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def ours(path: Path) -> list[list[str]]:
    """What a file imports of twofold: the parts below the package's name."""
    names = [name.split(".") for name in imports(path) if name.split(".")[0] == "twofold"]
    return [parts[1:] for parts in names if parts[1:] and parts[1] in RANK]


def others(path: Path) -> set[str]:
    """The packages from elsewhere that a file imports."""
    tops = {name.split(".")[0] for name in imports(path)}
    return tops - {"twofold"} - sys.stdlib_module_names


def test_every_room_has_its_layer():
    assert {room(path) for path in FILES} == set(RANK)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_imports_from_its_own_layer_and_lower_ones(path):
    for parts in ours(path):
        if parts[1:2] != ["settings"]:
            assert RANK[parts[0]] <= RANK[room(path)], (
                f"{path.relative_to(ROOT)} imports twofold.{'.'.join(parts)}"
            )


def test_rooms_do_not_import_each_other_in_circles():
    graph: dict[str, set[str]] = {name: set() for name in RANK}
    for path in FILES:
        if not is_settings(path):
            graph[room(path)] |= {parts[0] for parts in ours(path) if parts[1:2] != ["settings"]}
    order = TopologicalSorter({name: others - {name} for name, others in graph.items()})
    order.prepare()  # CycleError names the circle


def test_settings_are_pydantic_and_the_standard_library_alone():
    found = [path for path in FILES if is_settings(path)]
    assert {room(path) for path in found} >= {"data", "networks", "methods", "training"}
    for path in found:
        assert all(parts[1] == "settings" for parts in ours(path)), path
        assert others(path) == {"pydantic"}, path


def test_networks_and_losses_take_torch_and_their_own_room():
    for path in FILES:
        if room(path) not in ("networks", "losses") or is_settings(path):
            continue
        assert others(path) <= {"torch"}, path
        assert {parts[0] for parts in ours(path)} <= {room(path), "errors", "randomness"}, path
        assert not any(parts[1:2] == ["settings"] for parts in ours(path)), path


def test_networks_losses_and_methods_do_not_know_of_acceleration():
    for path in FILES:
        if room(path) in ("networks", "losses", "methods"):
            assert "cpu" not in {parts[0] for parts in ours(path)}, path


def test_what_ships_does_not_import_what_trained_it():
    for path in FILES:
        if room(path) in ("translation", "exchange", "exporting"):
            seen = {parts[0] for parts in ours(path)}
            assert not seen & {"training", "methods", "data", "config", "losses"}, path


def test_packages_stay_in_their_rooms():
    for path in FILES:
        for package in others(path) & OWNERS.keys():
            allowed = room(path) in OWNERS[package] or (package == "pydantic" and is_settings(path))
            assert allowed, f"{path.relative_to(ROOT)} imports {package}"


def test_runs_and_presets_are_standard_library():
    for name in ("runs", "presets", "errors"):
        assert not others(PACKAGE / f"{name}.py")


def test_room_init_files_are_empty():
    inits = [path for path in FILES if path.name == "__init__.py" and path.parent != PACKAGE]
    rooms = {path.parent for path in FILES} - {PACKAGE}
    assert {path.parent for path in inits} == rooms
    assert all(path.read_bytes() == b"" for path in inits)


def test_only_the_terminal_writes_to_the_terminal():
    for path in FILES:
        tree = parsed(path)
        calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
        assert not any(isinstance(call, ast.Name) and call.id in ("print", "input") for call in calls), path
        streams = {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "sys"
        } & {"stdout", "stderr"}
        assert not streams or room(path) in ("cli", "terminal"), path


def test_files_are_of_readable_length():
    long = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8").count("\n") for path in FILES}
    assert {name: lines for name, lines in long.items() if lines > 400} == {}


# ---- names that users can type


def choices(model, field):
    """The strings that a Literal field takes."""
    annotation = model.model_fields[field].annotation
    return set(get_args(annotation))


def test_names_in_settings_are_those_in_the_registries():
    from twofold.config import Settings
    from twofold.losses.adversarial import AdversarialName
    from twofold.losses.augment import AugmentName
    from twofold.losses.settings import AdversarialSettings
    from twofold.methods.settings import DEFAULTS, ROOMS, MethodName
    from twofold.networks.layers import InitName, NormName, UpsampleName
    from twofold.networks.registry import DISCRIMINATORS, GENERATORS
    from twofold.networks.settings import DiscriminatorSettings, GeneratorSettings
    from twofold.training.build import METHODS

    assert choices(GeneratorSettings, "network") == set(GENERATORS) | {"auto"}
    assert choices(DiscriminatorSettings, "network") == set(DISCRIMINATORS)
    for model in (GeneratorSettings, DiscriminatorSettings):
        assert choices(model, "norm") == set(get_args(NormName))
        assert choices(model, "init") == set(get_args(InitName))
    assert choices(GeneratorSettings, "upsample") == set(get_args(UpsampleName))
    assert set(get_args(MethodName)) == set(METHODS) == set(DEFAULTS) == set(ROOMS)
    assert set(ROOMS.values()) <= set(Settings.model_fields)
    assert choices(AdversarialSettings, "loss") == set(get_args(AdversarialName))
    (augment, _) = get_args(AdversarialSettings.model_fields["augment"].annotation)
    assert get_args(augment) == get_args(AugmentName)


def test_logs_that_can_be_asked_for_have_an_exporter():
    from twofold.reporting.exporters import EXPORTERS
    from twofold.training.settings import LogName

    assert set(get_args(LogName)) == set(EXPORTERS)


def test_names_on_the_command_line_are_those_of_the_package():
    from twofold.cli.options import Direction
    from twofold.cli.translate import translate
    from twofold.formats import images
    from twofold.runs import DIRECTIONS
    from twofold.translation.backends import Backend
    from twofold.translation.sources import FORMATS

    assert get_args(Direction) == DIRECTIONS
    formats = {name for each in get_args(translate.__annotations__["format"]) for name in get_args(each)}
    assert get_args(translate.__annotations__["backend"]) == get_args(Backend)
    assert formats == {"same", *FORMATS}
    assert {f".{name}" for name in FORMATS} <= images.SUFFIXES
    for name in FORMATS:
        assert any(images.holds(f".{name}", "uint8", channels) for channels in (1, 3)), name


# ---- the package as a whole


def test_public_names():
    assert twofold.__all__ == [
        "Translator",
        "TwofoldError",
        "UsageError",
        "__version__",
        "evaluate",
        "export",
        "load",
        "train",
    ]
    assert twofold.__version__ == metadata.version("twofold")
    for name in set(twofold.__all__) - {"__version__"}:
        assert getattr(twofold, name).__name__ == name
    with pytest.raises(AttributeError, match="nothing"):
        twofold.nothing  # noqa: B018


COMMANDS = [
    ["--help"],
    ["train", "--help"],
    ["translate", "--help"],
    ["presets"],
    ["presets", "horse2zebra"],
    ["data", "download"],
    ["data", "download", "cityscapes"],
    ["train", "a", "b", "--no", "1"],
]


def test_info_does_not_wait_for_torch(tmp_path):
    from twofold.networks.registry import describe
    from twofold.networks.resnet import ResnetGenerator
    from twofold.translation.header import Header
    from twofold.translation.model_file import save

    network = ResnetGenerator(width=2, blocks=1)
    save(network, Header(describe(network), "ab", 32), tmp_path / "x.safetensors")
    code = f"import sys\nfrom twofold.cli.app import run\nassert run(['info', {str(tmp_path / 'x.safetensors')!r}]) == 0"
    code += "\nassert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and "resnet" in done.stdout, done.stderr


def test_data_make_does_not_wait_for_torch(tmp_path):
    make = ["data", "make", "seasons", str(tmp_path / "out"), "--count", "1", "--size", "16"]
    code = f"import sys\nfrom twofold.cli.app import run\nassert run({make}) == 0\nassert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "code", ["import twofold", f"from twofold.cli.app import run\nfor tokens in {COMMANDS}: run(tokens)"]
)
def test_help_and_import_do_not_wait_for_torch(code):
    check = "import sys; heavy = {'torch', 'numpy', 'PIL', 'torchmetrics'} & set(sys.modules); assert not heavy, heavy"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{check}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_no_paths_of_one_machine_in_the_repository():
    private = [f"/{name}/" for name in ("work", "root", "home", "Users")]
    kinds = {".py", ".md", ".toml", ".txt", ".yaml", ".yml", ".css", ".js", ".json", ""}
    tops = [PACKAGE, ROOT / "tests", ROOT / "docs", ROOT / "benchmarks", ROOT / ".ci"]
    paths = [path for top in tops for path in top.rglob("*") if "__pycache__" not in path.parts]
    paths += [path for path in ROOT.iterdir() if path.suffix in kinds]
    skipped = {Path(__file__), ROOT / ".git"}  # .git is a file in a work tree
    read = [path for path in paths if path.is_file() and path.suffix in kinds and path not in skipped]
    assert len(read) > 50
    for path in read:
        text = path.read_text(encoding="utf-8")
        assert not [word for word in private if word in text], path
