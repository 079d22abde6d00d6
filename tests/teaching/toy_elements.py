"""Elements out of plain numbers."""

from __future__ import annotations

import numpy as np
import torch

from aes_dynloss.teaching.student import Elements

CENTRES, SPREADS = np.array([0.4, 0.55, 0.3]), np.array([0.2, 0.3, 0.1])


def make_elements(
    scores, targets, groups=None, *, centres=CENTRES, spreads=SPREADS, dtype=torch.float64, **optional
) -> Elements:
    """Elements of these scores and targets; groups are all 0 unless given."""
    scores = torch.as_tensor(scores, dtype=dtype)
    groups = torch.zeros(len(scores), dtype=torch.int64) if groups is None else torch.as_tensor(groups)
    return Elements(
        scores=scores,
        targets=torch.as_tensor(targets, dtype=dtype),
        groups=groups,
        centre=torch.as_tensor(centres, dtype=dtype)[groups],
        spread=torch.as_tensor(spreads, dtype=dtype)[groups],
        **optional,
    )


def random_elements(size: int = 12, *, seed: int = 0, groups: int = 3, dtype=torch.float64) -> Elements:
    """Elements with all the optional fields; three score points or classes."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(size, generator=generator, dtype=dtype)
    return make_elements(
        torch.sigmoid(logits),
        torch.rand(size, generator=generator, dtype=dtype),
        torch.randint(groups, (size,), generator=generator),
        dtype=dtype,
        logits=logits,
        log_probs=torch.log_softmax(torch.randn(size, 3, generator=generator, dtype=dtype), dim=1),
        classes=torch.randint(3, (size,), generator=generator),
    )
