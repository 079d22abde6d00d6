"""The restricted matrix of a vocabulary: tokens in bands of frequency, and what a loss sees of all of them at once.

The bilinear log loss of L2T-DLF has a coefficient W[y, j] for every pair of tokens, 36 million for 6,000. Here they are

    W[y, j] = gold_b [j = y] + near_b / k [j among the k nearest to y] + any_b / V,    b = band of y,

and the bias is b_y = bias_b, so that the loss of a token with the distribution p is

    -sigmoid(gold_b log p_y + near_b mean_near log p_j + any_b mean_all log p_j + bias_b) + floor (-log p_y).

These are all matrices that have one coefficient for the gold token, one for near and one for other tokens in each band
(gold_b + any_b / V, near_b / k + any_b / V, any_b / V). A student shows three means a token as log-probabilities of
B + 2 classes: one for each band, of which a token has its own, one for near and one for all tokens. On these the core's
own bilinear loss is the one above, with gold_b = W[b, b], near_b = W[b, B], any_b = W[b, B + 1].
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from aes_dynloss import Elements, register_loss
from aes_dynloss.teaching.losses.bilinear_loss import BilinearLogLoss
from aes_dynloss.teaching.losses.components import distribution
from aes_dynloss.teaching.student import ABSENT_BELOW

_ABSENT = 2 * ABSENT_BELOW
NEAR_AND_ANY = 2


def frequency_bands(counts: Tensor, bands: int) -> Tensor:
    """The band of each token, (V,) int64: 0 has the commonest; each has about the same part of all that is read.

    Args:
        counts: How often each token occurs, (V,).
        bands: Bands B.

    Examples:
        >>> frequency_bands(torch.tensor([0, 10, 4, 6]), bands=2)
        tensor([1, 0, 1, 1])
    """
    order = counts.argsort(descending=True, stable=True)
    commoner = counts[order].cumsum(0) - counts[order]
    bands_in_order = (commoner * bands // counts.sum().clamp(min=1)).clamp(max=bands - 1)
    return torch.empty_like(bands_in_order).scatter(0, order, bands_in_order)


def near_tokens(embeddings: Tensor, counts: Tensor, near: int) -> Tensor:
    """The nearest tokens of each by the cosine of their embeddings, (V, k) int64, never itself.

    Args:
        embeddings: (V, D).
        counts: How often each token occurs, (V,); only those that do are near to another.
        near: Number of them k; fewer where there are fewer.

    Examples:
        >>> embeddings = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
        >>> near_tokens(embeddings, torch.ones(3), near=1).tolist()
        [[1], [0], [1]]
    """
    directions = normalize(embeddings.detach(), dim=1)
    likeness = directions @ directions.T
    likeness[:, counts == 0] = -torch.inf
    likeness.fill_diagonal_(-torch.inf)
    return likeness.topk(min(near, int((counts > 0).sum()) - 1), dim=1).indices


def token_means(logits: Tensor, tokens: Tensor, near: Tensor) -> Tensor:
    """Log-probability of the gold token, and its means over near and over all tokens, (N, 3).

    Args:
        logits: (N, V).
        tokens: Gold tokens, (N,).
        near: Near tokens of each of the vocabulary, (V, k).
    """
    scores = [
        logits.gather(1, tokens[:, None]).squeeze(1),
        logits.gather(1, near[tokens]).mean(1),
        logits.mean(1),
    ]
    return torch.stack(scores, dim=1) - logits.logsumexp(1, keepdim=True)


def token_log_probs(means: Tensor, bands: Tensor, count: int) -> Tensor:
    """The means as log-probabilities of B + 2 classes, (N, B + 2).

    Args:
        means: See :func:`token_means`, (N, 3).
        bands: Band of each gold token, (N,).
        count: Number of bands B.
    """
    absent = means.new_full((len(means), count), _ABSENT)
    return torch.cat([absent.scatter(1, bands[:, None], means[:, :1]), means[:, 1:]], dim=1)


@register_loss("uniform_cross_entropy", needs="log_probs", in_units=False)
def uniform_cross_entropy(elements: Elements) -> Tensor:
    """-1/V sum_j log p_j, (E,): 0.1 of it beside 0.9 cross_entropy is label smoothing over the whole vocabulary.

    References:
        Szegedy et al. 2016, Rethinking the inception architecture for computer vision, section 7.
    """
    log_probs, _ = distribution(elements)
    return -log_probs[:, -1]


def band_coefficients(loss: BilinearLogLoss, coefficients: Tensor) -> dict[str, list[float]]:
    """What a bilinear loss over the classes of tokens has for each band.

    Args:
        loss: The loss.
        coefficients: W and b.
    """
    matrix, bias = loss.unpacked(coefficients)
    bands = len(bias) - NEAR_AND_ANY
    values = {"gold": matrix.diagonal(), "near": matrix[:, -2], "any": matrix[:, -1], "bias": bias}
    return {name: [round(float(value), 4) for value in column[:bands]] for name, column in values.items()}
