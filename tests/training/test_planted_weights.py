"""Meta-Weight-Net where half of the scores, or a third of the labels, are planted wrong: they get less weight."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from aes_dynloss.teaching.policies import LossConfig, StudentState
from aes_dynloss.teaching.student import Batch, Elements
from aes_dynloss.teaching.teachers.config import MwnConfig
from aes_dynloss.training.accelerator import build_accelerator
from aes_dynloss.training.config import TrainingConfig
from aes_dynloss.training.loop import RunContext
from aes_dynloss.training.run import train_student
from aes_dynloss.training.teacher_folder import read_teacher

pytestmark = pytest.mark.slow

FEATURES, SPREAD = 4, 1.2
# Part of the targets that are wrong, the student's rate, and its classes.
FORMS = {"scores": (0.5, 0.3, None), "labels": (0.3, 1.0, 2)}


class Linear(nn.Module):
    """A score, or a distribution over two classes."""

    def __init__(self, form: str, seed: int) -> None:
        super().__init__()
        self.form = form
        self.linear = nn.Linear(FEATURES, 1 if form == "scores" else 2)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed)))

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)

    def elements(self, outputs: Tensor, targets: Tensor, groups: Tensor) -> Elements:
        if self.form == "labels":
            log_probs = functional.log_softmax(outputs, dim=1)
            return Elements.of_classes(log_probs, targets.long(), chance_error=torch.tensor(0.5))
        one = torch.ones_like(targets)
        return Elements(outputs[:, 0], targets, groups, centre=0 * one, spread=SPREAD * one)

    def parameter_stack(self) -> list[list[tuple[str, nn.Parameter]]]:
        return [list(self.linear.named_parameters())]

    def as_module(self) -> nn.Module:
        return self


class Examples:
    """Rows whose target a plane tells; that of a part of them is the lowest score, or the other class."""

    def __init__(self, form: str, number: int, seed: int, *, noise: float = 0.0) -> None:
        generator = np.random.default_rng(seed)
        self.x = generator.standard_normal((number, FEATURES)).astype(np.float32)
        truth = self.x @ np.array([1.0, -0.7, 0.5, 0.4])
        if form == "labels":
            truth = truth > 0
        self.wrong = generator.random(number) < noise
        self.targets = np.where(self.wrong, ~truth if form == "labels" else -3.0, truth).astype(np.float32)
        self.lengths = self.sequences = np.ones(number, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.targets)

    def batch(self, rows) -> Batch:
        index = torch.as_tensor(np.asarray(rows))
        return Batch({"x": torch.from_numpy(self.x)[index]}, torch.from_numpy(self.targets)[index], 0 * index, index)


def learnt(
    folder: Path, form: str, seed: int, *, epochs: int = 12, standardise: bool = False, **changed: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Which targets are wrong, and their weights under the saved teacher when the student ends."""
    folder.mkdir(exist_ok=True)
    noise, rate, classes = FORMS[form]
    student, train = Linear(form, seed), Examples(form, 600, 10 * seed + 1, noise=noise)
    config = TrainingConfig(
        epochs=epochs, batch_size=30, micro_batch_tokens=None, learning_rate=rate, head_learning_rate=rate,
        optimizer="sgd", weight_decay=0.0, warmup=0.0, decay="constant", clip_norm=None, precision="float32",
        device="cpu", seed=seed,
    )  # fmt: skip
    later = itertools.count(1)  # the last epoch's student is the best
    context = RunContext(build_accelerator(config), config, folder, lambda: {"later": next(later) / 100}, "later")
    teacher = MwnConfig(**{"kind": "mwn", "learning_rate": 0.02, "width": 20, "dev_batch": 50, **changed})
    dev, loss = Examples(form, 60, 10 * seed + 2), LossConfig(terms={"mse": 1.0}, standardise=standardise)
    train_student(context, student, train, dev, loss, teacher, classes=classes)
    spec, policy = read_teacher(folder / "teacher", torch.device("cpu"))
    batch, weighted = train.batch(range(len(train))), spec.build()
    with torch.no_grad():
        elements = student.elements(student(**batch.inputs), batch.targets, batch.groups)
        costs = weighted.plain(torch.zeros(0), elements.standardised() if classes is None else elements)
        return train.wrong, weighted.weights(policy.coefficients(StudentState(1.0)), costs).numpy()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("form", FORMS)
def test_wrong_targets_weigh_less(tmp_path, form, seed):
    wrong, weights = learnt(tmp_path, form, seed)
    assert 0.25 < wrong.mean() < 0.55
    assert weights[wrong].mean() < weights[~wrong].mean() / 3


CHANGES = [
    {"optimizer": "sgd"}, {"learning_rate": 0.05}, {"weight_decay": 1.0}, {"window": 2}, {"dev_batch": 20},
    {"width": 10}, {"measure": "mae"}, {"measure": "mse"},
    {"window": 2, "hypergradient": {"estimator": "truncated", "last": 1}}, {"standardise": True},
]  # fmt: skip


def test_each_setting_reaches_the_teacher(tmp_path):
    """mse as a measure is in units of the spread; by default it is the plain loss as configured."""
    found = [learnt(tmp_path / "default", "scores", 0, epochs=1)[1]]
    found += [learnt(tmp_path / str(number), "scores", 0, epochs=1, **how)[1] for number, how in enumerate(CHANGES)]
    for number, weights in enumerate(found):
        assert all(not np.allclose(weights, other, rtol=0, atol=1e-7) for other in found[:number]), number
    same = learnt(tmp_path / "again", "scores", 0, epochs=1)[1]
    assert np.array_equal(same, found[0])
