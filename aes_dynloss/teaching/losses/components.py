"""Component losses: pure functions of :class:`Elements`, mixed by a dynamic loss.

A component over elements returns one value an element. A component over the batch returns a scalar, a statistic of all
elements together; it is correct only on the whole effective batch. A new component is one function here plus one entry
in :data:`aes_dynloss.teaching.losses.component_table.COMPONENTS`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from aes_dynloss.errors import ShapeError
from aes_dynloss.teaching.student import ABSENT_BELOW, Elements

SMOOTHING = 0.1
FOCUS = 2.0
TRUNCATION = 0.7
MARGIN = 1.0


def cross_entropy(elements: Elements) -> Tensor:
    """Cross-entropy of the true score point or class, -log p_y.

    Args:
        elements: E elements with ``log_probs`` and ``classes``.

    Returns:
        (E,), at least 0.

    Raises:
        ShapeError: The student has no distribution.

    Examples:
        >>> log_probs = torch.tensor([[0.5, 0.5], [0.1, 0.9]]).log()
        >>> elements = Elements.of_classes(log_probs, torch.tensor([0, 1]), chance_error=torch.tensor(0.5))
        >>> cross_entropy(elements)
        tensor([0.6931, 0.1054])
    """
    log_probs, classes = distribution(elements)
    return -log_probs.gather(1, classes[:, None]).squeeze(1)


def smooth_error(elements: Elements) -> Tensor:
    """Smooth 0/1 error of each element, 2 sigmoid(k (max_j p_j - p_y)) - 1 with k = 50; 0 where it is right.

    Args:
        elements: E elements with ``log_probs`` and ``classes``.

    Returns:
        (E,), in [0, 1).

    References:
        Wu et al. 2018, Learning to teach with dynamic loss functions, released program: the teacher's dev measure.

    Examples:
        >>> log_probs = torch.tensor([[0.5, 0.5], [0.1, 0.9]]).log()
        >>> elements = Elements.of_classes(log_probs, torch.tensor([0, 0]), chance_error=torch.tensor(0.5))
        >>> smooth_error(elements)
        tensor([0., 1.])
    """
    log_probs, classes = distribution(elements)
    probs = log_probs.exp()
    return 2.0 * torch.sigmoid(50.0 * (probs.amax(1) - probs.gather(1, classes[:, None]).squeeze(1))) - 1.0


def expected_error(elements: Elements) -> Tensor:
    """Probability of a wrong class for each element, 1 - p_y.

    Args:
        elements: E elements with ``log_probs`` and ``classes``.

    Returns:
        (E,), in [0, 1].

    Examples:
        >>> log_probs = torch.tensor([[0.5, 0.5], [0.1, 0.9]]).log()
        >>> elements = Elements.of_classes(log_probs, torch.tensor([0, 1]), chance_error=torch.tensor(0.5))
        >>> expected_error(elements)
        tensor([0.5000, 0.1000])
    """
    log_probs, classes = distribution(elements)
    return 1.0 - log_probs.gather(1, classes[:, None]).squeeze(1).exp()


def label_smoothing(elements: Elements) -> Tensor:
    """Cross-entropy against smoothed targets, -(1 - e) log p_y - e / C sum_j log p_j with e = .1.

    Args:
        elements: E elements with ``log_probs`` and ``classes``; C counts the classes that an element can have.

    Returns:
        (E,), at least 0.

    References:
        Szegedy et al. 2016, Rethinking the inception architecture for computer vision, section 7.

    Examples:
        >>> log_probs = torch.tensor([[0.5, 0.5], [0.1, 0.9]]).log()
        >>> elements = Elements.of_classes(log_probs, torch.tensor([0, 1]), chance_error=torch.tensor(0.5))
        >>> label_smoothing(elements)
        tensor([0.6931, 0.2152])
    """
    log_probs, _ = distribution(elements)
    present = log_probs > ABSENT_BELOW
    even = torch.where(present, log_probs, 0.0).sum(1) / present.sum(1)
    return (1.0 - SMOOTHING) * cross_entropy(elements) - SMOOTHING * even


def generalised_cross_entropy(elements: Elements) -> Tensor:
    """Between cross-entropy (q = 0) and the probability of an error (q = 1), (1 - p_y^q) / q with q = .7.

    What cannot be learned pulls less than under cross-entropy, so that wrong labels do.

    Args:
        elements: E elements with ``log_probs`` and ``classes``.

    Returns:
        (E,), in [0, 1 / q].

    References:
        Zhang and Sabuncu 2018, Generalized cross entropy loss for training deep neural networks with noisy labels.

    Examples:
        >>> log_probs = torch.tensor([[0.5, 0.5], [0.1, 0.9]]).log()
        >>> elements = Elements.of_classes(log_probs, torch.tensor([0, 1]), chance_error=torch.tensor(0.5))
        >>> generalised_cross_entropy(elements)
        tensor([0.5492, 0.1016])
    """
    return (1.0 - torch.exp(-TRUNCATION * cross_entropy(elements))) / TRUNCATION


def focal(elements: Elements) -> Tensor:
    """Focal loss, -(1 - p_y)^g log p_y with g = 2: what is known well counts little.

    Args:
        elements: E elements with ``log_probs`` and ``classes``.

    Returns:
        (E,), at least 0.

    References:
        Lin et al. 2017, Focal loss for dense object detection, equation 4.

    Examples:
        >>> log_probs = torch.tensor([[0.5, 0.5], [0.1, 0.9]]).log()
        >>> elements = Elements.of_classes(log_probs, torch.tensor([0, 1]), chance_error=torch.tensor(0.5))
        >>> focal(elements)
        tensor([0.1733, 0.0011])
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

    Examples:
        >>> log_probs = torch.tensor([[0.5, 0.5], [0.1, 0.9]]).log()
        >>> elements = Elements.of_classes(log_probs, torch.tensor([0, 1]), chance_error=torch.tensor(0.5))
        >>> large_margin(elements)
        tensor([1.3133, 0.2639])
    """
    log_probs, classes = distribution(elements)
    true = torch.nn.functional.one_hot(classes, log_probs.shape[1]).to(log_probs.dtype)
    lowered = log_probs - MARGIN * true
    return lowered.logsumexp(1) - lowered.gather(1, classes[:, None]).squeeze(1)


def distribution(elements: Elements, loss: str = "This loss") -> tuple[Tensor, Tensor]:
    """Log-probabilities, (E, C), and true classes, (E,), of elements, for a loss of this name.

    Raises:
        ShapeError: The student has no distribution.
    """
    if elements.log_probs is None or elements.classes is None:
        raise ShapeError(f"{loss} needs a student with a distribution; set model.head=softmax or ordinal.")
    return elements.log_probs, elements.classes


# Where every prediction is the same the root has an infinite slope; this keeps 0 / 0 out of the gradient. A target
# variance is never differentiated and needs none. It is far below any variance of scores on [0, 1].
TINY_VARIANCE = 1e-12


def squared_error(elements: Elements) -> Tensor:
    """Squared error of each element, (p - y)^2; its mean is the MSE.

    Args:
        elements: E elements.

    Returns:
        (E,), at least 0.

    Examples:
        >>> p, y, one = torch.tensor([0.2, 0.5, 0.6]), torch.tensor([0.0, 0.5, 1.0]), torch.ones(3)
        >>> elements = Elements(p, y, torch.zeros(3, dtype=torch.int64), centre=0.5 * one, spread=0.5 * one)
        >>> squared_error(elements)
        tensor([0.0400, 0.0000, 0.1600])
    """
    return (elements.scores - elements.targets).square()


def absolute_error(elements: Elements) -> Tensor:
    """Absolute error of each element, |p - y|; its mean is the MAE.

    Args:
        elements: E elements.

    Returns:
        (E,), at least 0.

    Examples:
        >>> p, y, one = torch.tensor([0.2, 0.5, 0.6]), torch.tensor([0.0, 0.5, 1.0]), torch.ones(3)
        >>> elements = Elements(p, y, torch.zeros(3, dtype=torch.int64), centre=0.5 * one, spread=0.5 * one)
        >>> absolute_error(elements)
        tensor([0.2000, 0.0000, 0.4000])
    """
    return (elements.scores - elements.targets).abs()


def huber(elements: Elements) -> Tensor:
    """Huber's loss of each element with its bend at delta = one half of the group's standard deviation.

    e^2 / 2 for |e| <= delta, delta (|e| - delta / 2) beyond, with e = p - y.

    Args:
        elements: E elements.

    Returns:
        (E,), at least 0.

    References:
        Huber 1964, Robust estimation of a location parameter.

    Examples:
        >>> p, y, one = torch.tensor([0.2, 0.5, 0.6]), torch.tensor([0.0, 0.5, 1.0]), torch.ones(3)
        >>> elements = Elements(p, y, torch.zeros(3, dtype=torch.int64), centre=0.5 * one, spread=0.5 * one)
        >>> huber(elements)
        tensor([0.0200, 0.0000, 0.0687])
    """
    error = (elements.scores - elements.targets).abs()
    delta = 0.5 * elements.spread
    return torch.where(error <= delta, 0.5 * error.square(), delta * (error - 0.5 * delta))


def binary_cross_entropy(elements: Elements) -> Tensor:
    """Cross-entropy of a target in [0, 1] against the sigmoid's output, -y ln p - (1 - y) ln(1 - p).

    Args:
        elements: E elements with ``logits`` and targets in [0, 1] (not standardised).

    Returns:
        (E,), at least 0.

    Raises:
        ShapeError: The student has no sigmoid link, so there are no logits.

    Examples:
        >>> logits, y, half = torch.tensor([0.0, 2.0]), torch.tensor([0.5, 1.0]), torch.full((2,), 0.5)
        >>> elements = Elements(logits.sigmoid(), y, torch.tensor([0, 0]), half, half, logits=logits)
        >>> binary_cross_entropy(elements)
        tensor([0.6931, 0.1269])
    """
    if elements.logits is None:
        raise ShapeError("binary_cross_entropy needs a student with a sigmoid link; set model.link=sigmoid.")
    return functional.binary_cross_entropy_with_logits(elements.logits, elements.targets, reduction="none")


def ranking(elements: Elements) -> Tensor:
    """Pairwise logistic ranking loss within each group.

    Mean over the pairs of one group with y_i > y_j of ln(1 + exp(-(z_i - z_j))), z the score in units of its group's
    standard deviation; 0 where there is no such pair. Where elements have weights, a pair counts by their product.

    Args:
        elements: The E elements of a whole effective batch.

    Returns:
        Scalar, at least 0.

    References:
        Burges et al. 2005, Learning to rank using gradient descent (RankNet).

    Examples:
        >>> p, y, one = torch.tensor([0.2, 0.5, 0.6]), torch.tensor([0.0, 0.5, 1.0]), torch.ones(3)
        >>> elements = Elements(p, y, torch.zeros(3, dtype=torch.int64), centre=0.5 * one, spread=0.5 * one)
        >>> ranking(elements)
        tensor(0.4689)
    """
    scaled = elements.standardised()
    margin = scaled.scores[:, None] - scaled.scores[None, :]
    ordered = scaled.targets[:, None] - scaled.targets[None, :] > 1e-6
    pairs = (ordered & (elements.groups[:, None] == elements.groups[None, :])).to(margin.dtype)
    if elements.weights is None:
        return (functional.softplus(-margin) * pairs).sum() / pairs.sum().clamp(min=1.0)
    weights = elements.weights.reshape(-1)
    pairs = pairs * weights[:, None] * weights[None, :]
    return (functional.softplus(-margin) * pairs).sum() / pairs.sum().clamp(min=TINY_VARIANCE)


def one_minus_qwk(elements: Elements) -> Tensor:
    """One minus the differentiable quadratic weighted kappa.

    QWK = 2 Cov(p, y) / (Var p + Var y + (mean p - mean y)^2) with population moments, which equals the counted kappa
    on whole scores. Taken on values standardised by group; identical constants (0 / 0) agree fully: 0.

    Args:
        elements: The E elements of a whole effective batch.

    Returns:
        Scalar in [0, 2].

    References:
        Cohen 1968, Weighted kappa; de la Torre et al. 2018, Weighted kappa loss function for ordinal classification.

    Examples:
        >>> p, y, one = torch.tensor([0.2, 0.5, 0.6]), torch.tensor([0.0, 0.5, 1.0]), torch.ones(3)
        >>> elements = Elements(p, y, torch.zeros(3, dtype=torch.int64), centre=0.5 * one, spread=0.5 * one)
        >>> one_minus_qwk(elements)
        tensor(0.3333)
    """
    scaled = elements.standardised()
    p, y = scaled.scores, scaled.targets
    mean = elements.mean
    p_mean, y_mean = mean(p), mean(y)
    covariance = mean((p - p_mean) * (y - y_mean))
    total = mean((p - p_mean).square()) + mean((y - y_mean).square()) + (p_mean - y_mean).square()
    return 1.0 - (2.0 * covariance + TINY_VARIANCE) / (total + TINY_VARIANCE)


def standard_deviation_error(elements: Elements) -> Tensor:
    """Morris's STDE: s |sd(p) - sd(y)|, with population standard deviations.

    In a batch of one group this is |sd(p) - sd(y)| on the scores as they are. In a batch of several, values are first
    standardised by each group's training mean and sd, and s, the root mean square of the spreads, brings the result
    back to the scores' units.

    Args:
        elements: The E elements of a whole effective batch.

    Returns:
        Scalar, at least 0. It carries no sign: shuffled predictions with the right spread cost nothing.

    References:
        Morris 2023, arXiv 2305.10447.

    Examples:
        >>> p, y, one = torch.tensor([0.2, 0.5, 0.6]), torch.tensor([0.0, 0.5, 1.0]), torch.ones(3)
        >>> elements = Elements(p, y, torch.zeros(3, dtype=torch.int64), centre=0.5 * one, spread=0.5 * one)
        >>> standard_deviation_error(elements)
        tensor(0.2383)
    """
    scaled = elements.standardised()
    unit = elements.mean(elements.spread.square()).sqrt()
    return unit * (_deviation(scaled, scaled.scores) - _deviation(scaled, scaled.targets)).abs()


def all_pairs_error(elements: Elements) -> Tensor:
    """The error term of Morris's released program, fault included: RMSE - .0007 R2 over all E x E pairs.

    There predictions were (E, 1) and labels (E,), so every prediction is compared with every label:
    RMSE = sqrt(mean_ij (p_i - y_j)^2) and R2 = 1 - mean_ij (p_i - y_j)^2 / Var y. The pairing of essay and score never
    enters, and the least value lies at p_i = mean(y) for all i. Only for showing that behaviour.

    Args:
        elements: The E elements of a whole effective batch.

    Returns:
        Scalar.

    References:
        Morris 2023, arXiv 2305.10447, released program.

    Examples:
        >>> p, y, one = torch.tensor([0.2, 0.5, 0.6]), torch.tensor([0.0, 0.5, 1.0]), torch.ones(3)
        >>> elements = Elements(p, y, torch.zeros(3, dtype=torch.int64), centre=0.5 * one, spread=0.5 * one)
        >>> all_pairs_error(elements)
        tensor(0.4474)
    """
    squares = (elements.scores[:, None] - elements.targets[None, :]).square()
    errors = squares.mean()
    if elements.weights is not None:
        weights = elements.weights.reshape(-1) / elements.weights.sum()
        errors = weights @ squares @ weights
    variance = _variance(elements, elements.targets)
    r_squared = 1.0 - errors / (variance + TINY_VARIANCE)
    return (errors + TINY_VARIANCE).sqrt() - 0.0007 * r_squared


def _deviation(elements: Elements, values: Tensor) -> Tensor:
    return (_variance(elements, values) + TINY_VARIANCE).sqrt()


def _variance(elements: Elements, values: Tensor) -> Tensor:
    if elements.weights is None:
        return values.var(unbiased=False)
    return elements.mean((values - elements.mean(values)).square())
