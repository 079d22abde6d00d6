"""No training step looks at a number that lies on the device: it would wait for all that the device has to do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_scorer import random_essays, scoring_model
from torch.utils._python_dispatch import TorchDispatchMode
from toy_runs import EVERYTHING, settings
from toy_student import ToyExamples, ToyStudent

from aes_dynloss.teaching.policies import LossConfig
from aes_dynloss.training.accelerator import build_accelerator
from aes_dynloss.training.loop import RunContext, TeacherUpdate, fit

# What takes a number, or as many rows as there are non-zeros, from the device to the host.
_ASKING = {"_local_scalar_dense", "equal", "is_nonzero", "masked_select", "nonzero", "_unique2", "unique_dim"}


class Questions(TorchDispatchMode):
    """Counts what would make the host wait, while ``listening``."""

    def __init__(self) -> None:
        super().__init__()
        self.listening = False
        self.heard: list[str] = []
        self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.listening:
            self.operations += 1
            name = func._schema.name.removeprefix("aten::")
            by_mask = name.startswith("index") and any(
                each is not None and each.dtype in (torch.bool, torch.uint8) for each in _indices(args)
            )
            if name in _ASKING or by_mask:
                self.heard.append(name)
        return func(*args, **(kwargs or {}))


def _indices(args: Any) -> Iterator[torch.Tensor | None]:
    for each in args:
        if isinstance(each, list | tuple):
            yield from (one for one in each if one is None or isinstance(one, torch.Tensor))


def listened_fit(folder: Path, questions: Questions, student: Any, train: Any, terms: Any, **changed: Any) -> None:
    """Train under a mode that listens from the first step's beginning to the last one's end."""
    config = settings(epochs=1, log_every=10_000, **changed)
    loss, scheduled = LossConfig.model_validate({"terms": terms}).build()

    class From:
        def coefficients(self, state: Any) -> torch.Tensor:
            questions.listening = True
            return scheduled.coefficients(state)

    class To(TeacherUpdate):
        def update(self, optimizer: Any, *, last: bool) -> dict[str, float]:
            questions.listening = not last
            return {}

    with questions:
        fit(
            RunContext(build_accelerator(config), config, folder, lambda: {"none": 0.0}, "none"),
            student, train, loss, From(), To(),
        )  # fmt: skip


@pytest.mark.parametrize("terms", [{"mse": 1.0}, EVERYTHING], ids=["mse", "everything"])
@pytest.mark.parametrize(
    "changed",
    [{}, {"micro_batch_size": 2}, {"clip_norm": None}, {"averaging": 0.9}, {"optimizer": "sgd", "momentum": 0.9}],
    ids=str,
)
def test_toy_student(tmp_path: Path, terms: dict[str, float], changed: dict[str, Any]) -> None:
    questions = Questions()
    listened_fit(tmp_path, questions, ToyStudent(dropout=0.1), ToyExamples(37), terms, **changed)
    assert questions.operations > 100
    assert questions.heard == []


@pytest.mark.parametrize("kind", ["bert", "mpnet"])
@pytest.mark.parametrize("terms", [{"mse": 1.0}, {"mse": 0.5, "stde": 0.5}], ids=["mse", "stde"])
def test_scorer(tmp_path: Path, kind: str, terms: dict[str, float]) -> None:
    questions = Questions()
    student = scoring_model(kind, dropout=0.1)
    train = random_essays([3, 30, 12, 0, 14, 5, 7, 9, 1, 20])
    listened_fit(tmp_path, questions, student, train, terms, micro_batch_tokens=60)
    assert questions.operations > 100
    assert questions.heard == []


def test_questions_are_heard(tmp_path: Path) -> None:
    class Curious(ToyStudent):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            outputs = super().forward(x)
            if float(outputs.detach()[0, 0]) > 0:
                outputs = outputs + 0 * outputs[outputs[:, 1] > 0].sum()
            return outputs

    questions = Questions()
    listened_fit(tmp_path, questions, Curious(), ToyExamples(37), {"mse": 1.0})
    assert {"_local_scalar_dense", "index"} <= set(questions.heard)
