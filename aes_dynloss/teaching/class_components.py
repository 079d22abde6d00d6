"""Component losses of elements that are each of one class or score point: pure functions of :class:`Elements`.

Each answers one number an element. A new one is one function here plus one entry in :data:`OF_CLASSES`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from aes_dynloss.errors import ShapeError
from aes_dynloss.teaching.elements import ABSENT_BELOW, Elements

SMOOTHING = 0.1
FOCUS = 2.0
MARGIN = 1.0


def cross_entropy(elements: Elements) -> Tensor:
    """Cross-entropy of the true score point or class, -log p_y.

    Args:
        elements: E elements with ``log_probs`` and ``classes``.

    Returns:
        (E,), at least 0.

    Raises:
        ShapeError: The student has no distribution.
    """
    log_probs, classes = _distribution(elements)
    return -log_probs.gather(1, classes[:, None]).squeeze(1)


def smooth_error(elements: Elements) -> Tensor:
    """Smooth 0/1 error of each element, 2 sigmoid(k (max_j p_j - p_y)) - 1 with k = 50; 0 where the answer is right.

    Args:
        elements: E elements with ``log_probs`` and ``classes``.

    Returns:
        (E,), in [0, 1).

    References:
        Wu et al. 2018, Learning to teach with dynamic loss functions, released program: the teacher's dev measure.
    """
    log_probs, classes = _distribution(elements)
    probs = log_probs.exp()
    return 2.0 * torch.sigmoid(50.0 * (probs.amax(1) - probs.gather(1, classes[:, None]).squeeze(1))) - 1.0


def expected_error(elements: Elements) -> Tensor:
    """Probability of a wrong answer of each element, 1 - p_y.

    Args:
        elements: E elements with ``log_probs`` and ``classes``.

    Returns:
        (E,), in [0, 1].
    """
    log_probs, classes = _distribution(elements)
    return 1.0 - log_probs.gather(1, classes[:, None]).squeeze(1).exp()


def label_smoothing(elements: Elements) -> Tensor:
    """Cross-entropy against smoothed targets, -(1 - e) log p_y - e / C sum_j log p_j with e = .1.

    Args:
        elements: E elements with ``log_probs`` and ``classes``; C counts the classes that an element can have.

    Returns:
        (E,), at least 0.

    References:
        Szegedy et al. 2016, Rethinking the inception architecture for computer vision, section 7.
    """
    log_probs, _ = _distribution(elements)
    present = log_probs > ABSENT_BELOW
    even = torch.where(present, log_probs, 0.0).sum(1) / present.sum(1)
    return (1.0 - SMOOTHING) * cross_entropy(elements) - SMOOTHING * even


def focal(elements: Elements) -> Tensor:
    """Focal loss, -(1 - p_y)^g log p_y with g = 2: what is known well counts little.

    Args:
        elements: E elements with ``log_probs`` and ``classes``.

    Returns:
        (E,), at least 0.

    References:
        Lin et al. 2017, Focal loss for dense object detection, equation 4.
    """
    plain = cross_entropy(elements)
    return (1.0 - torch.exp(-plain)).pow(FOCUS) * plain


def large_margin(elements: Elements) -> Tensor:
    """Cross-entropy with the true class's logit lowered by a margin m = 1, -log(p_y e^-m / (p_y e^-m + 1 - p_y)).

    The margin is added to the logit. The large-margin softmax that L2T-DLF was compared with multiplies an angle
    between weights and features instead, which a loss of the outputs alone cannot see.

    Args:
        elements: E elements with ``log_probs`` and ``classes``.

    Returns:
        (E,), at least 0.

    References:
        Wang et al. 2018, Additive margin softmax for face verification; Liu et al. 2016, Large-margin softmax loss for
        convolutional neural networks.
    """
    log_probs, classes = _distribution(elements)
    true = torch.nn.functional.one_hot(classes, log_probs.shape[1]).to(log_probs.dtype)
    lowered = log_probs - MARGIN * true
    return lowered.logsumexp(1) - lowered.gather(1, classes[:, None]).squeeze(1)


OF_CLASSES: dict[str, Callable[[Elements], Tensor]] = {
    "cross_entropy": cross_entropy,
    "label_smoothing": label_smoothing,
    "focal": focal,
    "large_margin": large_margin,
    "smooth_error": smooth_error,
    "expected_error": expected_error,
}


def _distribution(elements: Elements) -> tuple[Tensor, Tensor]:
    if elements.log_probs is None or elements.classes is None:
        raise ShapeError("This loss needs a student with a distribution; set model.head=softmax or ordinal.")
    return elements.log_probs, elements.classes
