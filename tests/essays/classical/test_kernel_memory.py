"""The memory that kernels may take is what the process has: that of its container, where it has a limit."""

from __future__ import annotations

from pathlib import Path

import pytest

from aes_dynloss.errors import ConfigError
from aes_dynloss.essays.classical import kernel_memory

MACHINE = 8_000_000 * 1024


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A system with 8 GB free, whose control groups are yet to be written."""
    (tmp_path / "meminfo").write_text("MemTotal: 16000000 kB\nMemAvailable: 8000000 kB\n")
    for name, path in (("_MEMINFO", "meminfo"), ("_OWN_GROUPS", "cgroup"), ("_GROUPS", "groups")):
        monkeypatch.setattr(kernel_memory, name, tmp_path / path)
    return tmp_path


def write_group(folder: Path, values: dict[str, str]) -> None:
    folder.mkdir(parents=True)
    for name, value in values.items():
        (folder / name).write_text(value + "\n")


def test_machine_without_control_groups(system: Path) -> None:
    assert kernel_memory.free_memory() == MACHINE


def test_container_of_version_2(system: Path) -> None:
    (system / "cgroup").write_text("0::/\n")
    stat = "anon 700\nactive_file 100\ninactive_file 200"
    write_group(system / "groups", {"memory.max": "5000", "memory.current": "1000", "memory.stat": stat})
    assert kernel_memory.free_memory() == 5000 - 1000 + 300


def test_group_without_limit_in_one_with_a_limit(system: Path) -> None:
    (system / "cgroup").write_text("0::/slice/job\n")
    write_group(system / "groups/slice/job", {"memory.max": "max", "memory.current": "10", "memory.stat": "anon 10"})
    slice_ = {"memory.max": "4000", "memory.current": "4100", "memory.stat": "anon 4100"}
    for name, value in slice_.items():
        (system / "groups/slice" / name).write_text(value)
    assert kernel_memory.free_memory() == 0


def test_container_of_version_1_knows_the_path_of_the_machine(system: Path) -> None:
    (system / "cgroup").write_text("5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n0::/\n")
    values = {"memory.limit_in_bytes": "3000", "memory.usage_in_bytes": "1000"}
    write_group(system / "groups/memory", values | {"memory.stat": "total_inactive_file 50\ninactive_file 7"})
    assert kernel_memory.free_memory() == 2050


def test_limit_above_the_machine(system: Path) -> None:
    (system / "cgroup").write_text("0::/\n")
    values = {"memory.max": str(10 * MACHINE), "memory.current": "1000", "memory.stat": "anon 700"}
    write_group(system / "groups", values)
    assert kernel_memory.free_memory() == MACHINE


def test_kernels_that_the_container_does_not_hold(system: Path) -> None:
    (system / "cgroup").write_text("0::/\n")
    write_group(system / "groups", {"memory.max": str(10**9), "memory.current": "0", "memory.stat": "anon 0"})
    with pytest.raises(
        ConfigError, match=r"Prompt 1: kernels of 10000 .* up to 6\.8 GB of memory, and 1\.0 GB are free"
    ):
        kernel_memory.check_kernels("Prompt 1", 10_000, strings=True, instead="Take model.solver: sgd")
