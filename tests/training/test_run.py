"""What a student's training sets around its loop."""

from __future__ import annotations

import pytest
import torch
from toy_runs import settings
from toy_student import ToyExamples, ToyStudent
from toy_taught import measure_of

from aes_dynloss.errors import ConfigError
from aes_dynloss.teaching.policies import LossConfig
from aes_dynloss.teaching.teachers.config import DlfConfig, DlnConfig, GlcConfig, MwnConfig, RewritingConfig
from aes_dynloss.training.accelerator import build_accelerator
from aes_dynloss.training.loop import RunContext
from aes_dynloss.training.run import attention_of, train_student

CPU, GPU = torch.device("cpu"), torch.device("cuda")
APPROXIMATE = DlnConfig(kind="dln", smooth=True, hypergradient={"estimator": "central"})


@pytest.mark.parametrize(
    ("teacher", "device", "one"),
    [
        (DlfConfig(kind="dlf"), GPU, True),
        (DlnConfig(kind="dln"), GPU, True),
        (MwnConfig(kind="mwn"), GPU, True),
        (APPROXIMATE, GPU, False),
        (GlcConfig(kind="glc"), GPU, False),
        (None, GPU, False),
        (DlfConfig(kind="dlf"), CPU, False),
    ],
)
def test_steps_and_exact_derivatives_draw_dropout_alike_on_a_gpu(teacher, device, one):
    """On one kernel, that of second derivatives; elsewhere each pass may have the fastest."""
    before = torch.backends.cuda.flash_sdp_enabled()
    with attention_of(teacher, device):
        assert torch.backends.cuda.flash_sdp_enabled() is (before and not one)
        assert torch.backends.cuda.math_sdp_enabled()
    assert torch.backends.cuda.flash_sdp_enabled() is before


@pytest.mark.parametrize(
    "teacher", [DlnConfig(kind="dln"), MwnConfig(kind="mwn"), RewritingConfig(kind="mine")], ids=lambda one: one.kind
)
def test_no_averaging_beside_a_teacher_that_puts_other_weights_into_the_student(tmp_path, teacher):
    training, student = settings(averaging=0.9), ToyStudent()
    accelerator = build_accelerator(training)
    context = RunContext(accelerator, training, tmp_path, measure_of(accelerator, student), "one_minus_mse")
    before = [parameter.clone() for parameter in student.parameters()]
    with pytest.raises(ConfigError, match=f"training.averaging has no place beside a teacher of kind {teacher.kind}"):
        train_student(context, student, ToyExamples(9), ToyExamples(5, seed=2), LossConfig(), teacher, classes=None)
    assert all(map(torch.equal, student.parameters(), before))
    assert not any(tmp_path.iterdir())
