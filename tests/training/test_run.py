"""What a student's training sets around its loop."""

from __future__ import annotations

import pytest
import torch

from aes_dynloss.teaching.teachers.config import DlfConfig, DlnConfig, GlcConfig, MwnConfig
from aes_dynloss.training.run import attention_of

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
