"""A script of these tests on two processes that talk over gloo."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return str(probe.getsockname()[1])


def ended(processes: list[subprocess.Popen[bytes]], seconds: int) -> list[int | None]:
    """Exit codes; processes that talk in different orders would wait for ever, so the wait has an end."""
    codes: list[int | None] = []
    for _ in range(seconds * 10):
        codes = [process.poll() for process in processes]
        if None not in codes or any(codes):
            break
        time.sleep(0.1)
    return codes


def run_together(script: ModuleType, folder: Path, seconds: int = 150) -> None:
    """Run a script with a folder for its results; both must end well, and within the time."""
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": free_port(), "OMP_NUM_THREADS": "1"}
    processes = []
    for rank in ("0", "1"):
        environment = os.environ | shared | {"RANK": rank, "LOCAL_RANK": rank}
        arguments = [sys.executable, str(Path(str(script.__file__))), str(folder)]
        with (folder / f"errors{rank}").open("w") as errors:
            processes.append(subprocess.Popen(arguments, env=environment, stderr=errors))
    try:
        codes = ended(processes, seconds)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    words = "\n".join((folder / f"errors{rank}").read_text("utf-8")[-3000:] for rank in (0, 1))
    assert codes == [0, 0], words
