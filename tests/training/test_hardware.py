"""What a machine can do at speed: bf16 where the processor has it, threads where cores are idle."""

from __future__ import annotations

import logging
import os

import pytest
import torch
from toy_runs import settings

from aes_dynloss.errors import ConfigError
from aes_dynloss.training import hardware
from aes_dynloss.training.hardware import check_bf16, cpu_has_bf16, leave_busy_cores, resolve_precision

X86 = "processor : 0\nflags : fpu avx2 avx512f{}\nbugs : spectre_v1\n"


class TestProcessor:
    @pytest.mark.parametrize(
        ("known", "expected"),
        [
            ({"avx512_bf16": True}, True),
            ({"amx_bf16": True, "avx512_bf16": False}, True),
            ({"avx512_bf16": False, "avx512_f": True, "amx_tile": True}, False),
            # Of an ARM processor: never measured.
            ({"architecture": "aarch64", "bf16": True}, False),
        ],
        ids=str,
    )
    def test_as_torch_says(self, monkeypatch, known, expected):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known, raising=False)
        assert cpu_has_bf16() is expected

    @pytest.mark.parametrize(
        ("flag", "expected"), [("", False), (" avx512_bf16", True), (" amx_bf16", True), (" avx512_bf16_not", False)]
    )
    def test_as_linux_says(self, monkeypatch, tmp_path, flag, expected):
        """Where torch does not say it yet."""
        (tmp_path / "cpuinfo").write_text(X86.format(flag))
        monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
        monkeypatch.setattr(hardware, "_CPUINFO", tmp_path / "cpuinfo")
        assert cpu_has_bf16() is expected

    def test_where_nobody_says(self, monkeypatch, tmp_path):
        monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
        monkeypatch.setattr(hardware, "_CPUINFO", tmp_path / "none")
        assert not cpu_has_bf16()

    def test_torch_without_the_library_that_uses_it(self, monkeypatch):
        monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
        assert not cpu_has_bf16()

    def test_both_sources_agree_here(self, monkeypatch):
        said = cpu_has_bf16()
        monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
        assert not hardware._CPUINFO.exists() or cpu_has_bf16() == said


@pytest.fixture(params=[False, True], ids=["without bf16", "with bf16"])
def has_bf16(request, monkeypatch):
    monkeypatch.setattr(hardware, "cpu_has_bf16", lambda: request.param)
    return request.param


class TestPrecision:
    def test_of_a_processor(self, has_bf16):
        assert resolve_precision(settings(precision="auto")) == ("bf16" if has_bf16 else "float32")
        assert resolve_precision(settings(precision="float32")) == "float32"

    @pytest.mark.parametrize("emulated", [False, True])
    def test_of_a_card(self, monkeypatch, has_bf16, emulated):
        """Which has it in hardware, or has not, whatever the processor has; asked for, it is computed anyhow."""
        monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(
            torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or not emulated
        )
        assert resolve_precision(settings(device="auto", precision="auto")) == ("float32" if emulated else "bf16")
        assert resolve_precision(settings(device="auto", precision="bf16")) == "bf16"
        assert resolve_precision(settings(precision="auto")) == ("bf16" if has_bf16 else "float32")  # device: cpu

    @pytest.mark.parametrize(
        ("asked", "began_in", "words"),
        [
            ("bf16", None, r"training\.precision is bf16, and .* 6 to 67 times slower than float32\. Leave it at auto"),
            (
                "auto",
                "bf16",
                r"This run, or its grid, began in bf16, and .* 6 to 67 times .*\. Go on with it on a machine",
            ),
        ],
    )
    def test_bf16_on_a_processor(self, has_bf16, asked, began_in, words):
        config = settings(precision=asked)
        if has_bf16:
            assert resolve_precision(config, began_in) == "bf16"
        else:
            with pytest.raises(ConfigError, match=words + ".*, or give --force-precision"):
                resolve_precision(config, began_in)
        assert resolve_precision(config, began_in, force=True) == "bf16"

    def test_a_run_goes_on_as_it_began(self, has_bf16):
        assert resolve_precision(settings(precision="auto"), "float32") == "float32"
        # What is asked for by name is what the run began with: its configuration cannot have changed.
        assert resolve_precision(settings(precision="float32"), "bf16") == "float32"

    def test_who_asks_is_named(self, has_bf16):
        if has_bf16:
            check_bf16("--precision is bf16", "Leave it out")
        else:
            with pytest.raises(
                ConfigError, match=r"^--precision is bf16, and this processor .*\. Leave it out, or give"
            ):
                check_bf16("--precision is bf16", "Leave it out")


class TestThreads:
    @pytest.fixture(autouse=True)
    def _eight_threads(self, monkeypatch):
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
            monkeypatch.delenv(name, raising=False)
        self.threads = 8
        monkeypatch.setattr(os, "cpu_count", lambda: 16)
        monkeypatch.setattr(torch, "get_num_threads", lambda: self.threads)
        monkeypatch.setattr(torch, "set_num_threads", lambda number: setattr(self, "threads", number))

    @pytest.mark.parametrize(
        ("load", "expected"),
        [(0.0, 8), (0.4, 8), (8.0, 8), (8.4, 8), (9.0, 7), (13.2, 3), (15.0, 1), (16.0, 1), (90.0, 1)],
    )
    def test_as_many_as_there_are_idle_cores(self, monkeypatch, caplog, load, expected):
        monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0), raising=False)
        with caplog.at_level(logging.WARNING):
            leave_busy_cores()
        assert self.threads == expected
        said = [
            f"The machine is busy (a load of {load:.1f} on 16 cores): using {expected} of 8 threads. OMP_NUM_THREADS "
            "sets another number."
        ]
        assert [record.getMessage() for record in caplog.records] == (said if expected < 8 else [])

    @pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "MKL_NUM_THREADS"])
    def test_what_the_user_has_chosen(self, monkeypatch, name):
        monkeypatch.setattr(os, "getloadavg", lambda: (90.0, 0.0, 0.0), raising=False)
        monkeypatch.setenv(name, "8")
        leave_busy_cores()
        assert self.threads == 8

    def test_a_system_that_does_not_say(self, monkeypatch):
        monkeypatch.delattr(os, "getloadavg", raising=False)
        leave_busy_cores()
        assert self.threads == 8
