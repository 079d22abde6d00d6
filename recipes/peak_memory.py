"""The peak of a process's resident memory, whichever process started it."""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

_STATUS = Path("/proc/self/status")
# What a new interpreter does: as python -m, and at its end it tells its peak.
_PROGRAM = """\
import atexit, runpy, sys
file, module, folder = sys.argv[1:4]
sys.path.append(folder)
import peak_memory
atexit.register(peak_memory.write_peak, file)
sys.argv[1:4] = []
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""


def resident(name: str) -> int:
    """A line of /proc/self/status in bytes, such as ``VmRSS``, or ``VmHWM``, its peak; Linux alone."""
    lines = _STATUS.read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) * 1024


def peak_mebibytes() -> float:
    """The peak of this process.

    ``ru_maxrss`` is no measure of it on Linux: it begins at the peak of the process that started this one.
    """
    if _STATUS.exists():
        return resident("VmHWM") / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def write_peak(file: str) -> None:
    """Write :func:`peak_mebibytes` to a file."""
    Path(file).write_text(str(peak_mebibytes()), encoding="ascii")


def peak_of_module(module: str, words: Sequence[str]) -> float:
    """The peak in MiB of ``python -m MODULE WORDS``, which tells it as it ends.

    Raises:
        RuntimeError: It failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "peak"
        command = [sys.executable, "-c", _PROGRAM, str(file), module, str(Path(__file__).parent), *words]
        done = subprocess.run(  # noqa: S603
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False
        )
        if done.returncode:
            raise RuntimeError(done.stdout[-2000:])
        return float(file.read_text(encoding="ascii"))
