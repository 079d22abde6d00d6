"""Commands in processes of their own, forked from one that has imported everything, so that each starts at once."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path

# What a run imports, at last; nothing is computed before the fork.
PRELOADED = [
    "aes_dynloss.cli.main",
    "aes_dynloss.essays.finetune.run",
    "aes_dynloss.essays.model.model_folder",
    "aes_dynloss.essays.scoring.output",
    "aes_dynloss.reports.report_tables",
    "torch.distributed.fsdp",
    "torch.fx.experimental.symbolic_shapes",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.bert.modeling_bert",
]


def start(
    *arguments: object,
    folder: Path,
    largest_file: int | None = None,
    env: Mapping[str, str] = {},
    prepare: Callable[[], None] | None = None,
) -> BaseProcess:
    """Start ``aes-dynloss`` with these words; standard output and error go to ``out`` and ``err`` in the folder.

    Args:
        arguments: The command's words.
        folder: Where the command runs.
        largest_file: Bytes a file may have, as on a disk that is full from there on.
        env: Further variables of its environment.
        prepare: What the process does before the command; to be found in a module of this folder.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    words = [str(argument) for argument in arguments]
    process = context.Process(target=_child, args=(words, str(folder), largest_file, dict(env), prepare))
    process.start()
    return process


def finish(process: BaseProcess) -> int:
    """Wait for the end; the exit code, or minus the signal that ended it."""
    process.join(120)
    assert process.exitcode is not None
    return process.exitcode


def finish_together(folder: Path, *arguments: object) -> list[int]:
    """Run a command on two processes that work together; the exit code of each."""
    processes = [start(*arguments, folder=folder, env=env) for env in environments_of_two()]
    return [finish(process) for process in processes]


def environments_of_two() -> list[dict[str, str]]:
    """The variables of each of two processes that work together."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [{**common, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(2)]


def stop_when(
    process: BaseProcess, condition: Callable[[], bool], later: float = 0.0, how: signal.Signals = signal.SIGKILL
) -> bool:
    """Send a signal once a condition holds, or some seconds later; whether the process was still there by then."""
    until = time.monotonic() + 120
    while process.is_alive() and time.monotonic() < until:
        if condition():
            time.sleep(later)
            try:
                os.kill(process.pid or 0, how)
            except ProcessLookupError:
                return False
            return True
        time.sleep(0.0005)
    return False


def _child(
    arguments: list[str],
    folder: str,
    largest_file: int | None,
    env: dict[str, str],
    prepare: Callable[[], None] | None,
) -> None:
    # A shell that started the tests in the background may have left it ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    import torch

    from aes_dynloss.cli.main import run

    os.chdir(folder)
    for name, stream in (("out", 1), ("err", 2)):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), stream)
    os.environ.update(env)
    torch.set_num_threads(1)
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    if prepare is not None:
        prepare()
    sys.exit(run(arguments))
