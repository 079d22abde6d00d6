"""Distributions over score points as heads answer them, where prompts may have fewer points than others."""

from __future__ import annotations

import torch
from toy_elements import make_elements

# What a head answers for a score point that an element's prompt does not have.
ABSENT = -1e4


def drawn_logits(size, points, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size, points, generator=generator, dtype=torch.float64)


def drawn_classes(counts, seed=0):
    generator = torch.Generator().manual_seed(seed + 100)
    return torch.tensor([int(torch.randint(count, (), generator=generator)) for count in counts])


def as_head(logits, counts):
    """Log-probabilities as a head gives them: a prompt's points first, then absent ones."""
    valid = torch.arange(logits.shape[1]) < torch.tensor(counts)[:, None]
    return torch.where(valid, torch.log_softmax(logits.masked_fill(~valid, ABSENT), dim=1), ABSENT)


def of_distribution(log_probs, classes):
    zeros = torch.zeros(len(classes))
    return make_elements(zeros, zeros, log_probs=log_probs, classes=classes)


def drawn(counts, points, seed=0):
    """Elements of prompts with so many of all points."""
    return of_distribution(as_head(drawn_logits(len(counts), points, seed), counts), drawn_classes(counts, seed))


def same_gradients(wide, narrow, logits, phi):
    """Gradients by logits, (B, P), and by coefficients, of a loss that is what it is on the first four points alone."""
    torch.testing.assert_close(wide, narrow)
    found, expected = (torch.autograd.grad(value, [logits, phi], retain_graph=True) for value in (wide, narrow))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
        assert bool(one.isfinite().all())
    assert bool((found[0][:, 4:] == 0).all())
    return found
