"""Every module imports on a system without fcntl, such as Windows."""

import subprocess
import sys
from pathlib import Path

import twofold

PACKAGE = Path(twofold.__file__).parent

PROGRAM = """
import importlib, sys, warnings
sys.modules["fcntl"] = None
warnings.simplefilter("error")
warnings.filterwarnings("ignore", "only soft file lock is available")
for name in sys.argv[1:]:
    importlib.import_module(name)
"""


def test_every_module_imports_without_fcntl():
    paths = [path.relative_to(PACKAGE.parent).with_suffix("") for path in PACKAGE.rglob("*.py")]
    names = sorted(".".join(path.parts).removesuffix(".__init__") for path in paths)
    assert "twofold.files" in names and len(names) > 60
    names.remove("twofold.__main__")
    ended = subprocess.run([sys.executable, "-c", PROGRAM, *names], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
