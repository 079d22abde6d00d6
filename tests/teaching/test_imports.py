from __future__ import annotations

import subprocess
import sys

import pytest

BLOCKED = """
import importlib, pkgutil, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ImportError(f"{{name}} must not be imported here")

sys.meta_path.insert(0, Blocker())
package = importlib.import_module({package!r})
modules = [module.name for module in pkgutil.walk_packages(package.__path__, package.__name__ + ".")]
for module in modules:
    importlib.import_module(module)
print(len(modules))
"""


@pytest.mark.parametrize(
    ("package", "blocked", "least"),
    [
        ("aes_dynloss.teaching", {"accelerate", "transformers", "datasets", "sklearn"}, 20),
        ("aes_dynloss.training", {"transformers", "datasets", "sklearn"}, 12),
    ],
)
def test_what_a_package_does_without(package, blocked, least):
    script = BLOCKED.format(package=package, blocked=blocked)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= least


def test_the_blocker_blocks():
    script = BLOCKED.format(package="aes_dynloss.teaching", blocked={"torch"})
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "torch must not be imported here" in done.stderr
