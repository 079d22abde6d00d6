"""Forward correction: cross-entropy through a matrix that says how targets of unknown worth come about."""

from __future__ import annotations

import torch
from torch import Tensor

from aes_dynloss.errors import ShapeError
from aes_dynloss.teaching.losses.bilinear_loss import binned
from aes_dynloss.teaching.losses.components import cross_entropy
from aes_dynloss.teaching.student import Elements

_LEAST_PROBABILITY = 1e-6
_RIGHT_AT_FIRST = 0.7  # by logits: at 1 a matrix would have no gradient


class ForwardCorrection:
    """-log sum_i p_i C_iy for elements of unknown worth, -log p_y for trusted ones.

    C_ij is the probability that what is truly i was called j; each group has one of its own. The student learns the
    truth i, since it is p C that has to agree with the targets.

    Args:
        groups: Number of groups G.
        classes: Classes or score points of the student's distribution.
        bins: Most rows and columns K of C; scales with more points are binned evenly.
        logits: Whether coefficients are logits of C's rows, so that a teacher may move them freely.

    References:
        Patrini et al. 2017, arXiv 1609.03683 (forward correction); Hendrycks et al. 2018, Using trusted data to train
        deep networks on labels corrupted by severe noise, arXiv 1802.05300 (gold loss correction, which counts C). That
        L2T-DLF learns C by its gradient is this package's own.

    Examples:
        >>> from dataclasses import replace
        >>> log_probs = torch.tensor([[0.5, 0.5], [0.9, 0.1]]).log()
        >>> elements = Elements.of_classes(log_probs, torch.tensor([0, 1]), chance_error=torch.tensor(0.5))
        >>> elements = replace(elements, raters=torch.tensor([0, 1]))  # 0 is trusted
        >>> loss = ForwardCorrection(groups=1, classes=2)
        >>> loss(torch.tensor([0.5, 0.5, 0.0, 1.0]), elements)  # a true 0 is called 1 half of the time
        tensor([0.6931, 0.5978])
    """

    over_batch = False

    def __init__(self, groups: int, classes: int, *, bins: int = 12, logits: bool = False) -> None:
        self._groups = groups
        self.bins = min(classes, bins)
        self._logits = logits

    @property
    def size(self) -> int:
        """Coefficients G K K."""
        return self._groups * self.bins**2

    def neutral(self) -> Tensor:
        """C = I for all groups: plain cross-entropy of bins, (G K K,). By logits: right in 7 of 10, else any other."""
        identity = torch.eye(self.bins)
        if self._logits:
            wrong = (1.0 - _RIGHT_AT_FIRST) / (self.bins - 1)
            identity = (identity * (_RIGHT_AT_FIRST - wrong) + wrong).log()
        return identity.repeat(self._groups, 1, 1).reshape(-1)

    def matrices(self, coefficients: Tensor) -> Tensor:
        """C of each group, (G, K, K)."""
        matrices = coefficients.view(self._groups, self.bins, self.bins)
        return matrices.softmax(2) if self._logits else matrices

    def logged_values(self, coefficients: Tensor) -> dict[str, Tensor]:
        """The mean of C's diagonals: how often targets are called what they are."""
        return {"diagonal": self.matrices(coefficients).diagonal(dim1=1, dim2=2).mean()}

    def terms(self, elements: Elements) -> dict[str, Tensor]:
        """Cross-entropy of each element, for the log."""
        return {"cross_entropy": cross_entropy(elements)}

    def estimated(self, elements: Elements) -> Tensor:
        """C, not by logits, from what a student of the untrusted targets says of trusted elements, (G K K,).

        Row i is the mean of its distributions over the elements that are truly i. A row that no element tells of says
        that targets are right.

        Args:
            elements: Trusted elements, their distributions by a student that learned from untrusted targets alone.
        """
        log_probs, classes, present = binned(elements, self.bins)
        probabilities = log_probs.exp() * present
        matrices = self.matrices(self.neutral().to(probabilities))
        for group in range(self._groups):
            for row in range(self.bins):
                told = (elements.groups == group) & (classes == row)
                if told.any():
                    matrices[group, row] = probabilities[told].mean(0)
        return matrices.reshape(-1)

    def __call__(self, coefficients: Tensor, elements: Elements) -> Tensor:
        """The loss of each element.

        Args:
            coefficients: C of each group or its logits, row by row, (G K K,).
            elements: E elements with ``log_probs``, ``classes`` and ``raters``, of which 0 is trusted.

        Returns:
            (E,), at least 0.

        Raises:
            ShapeError: The coefficients have another shape, or the elements lack something.
        """
        joint, _, trusted = self._joint(coefficients, elements)
        corrected = -joint.sum(1).clamp(min=_LEAST_PROBABILITY).log()
        return torch.where(trusted, cross_entropy(elements), corrected)

    def probability_true(self, coefficients: Tensor, elements: Elements) -> Tensor:
        """Probability that an element's bin is what it was called, by the student: p_y C_yy / sum_i p_i C_iy.

        Args:
            coefficients: The matrices C or their logits, (G K K,).
            elements: E elements with ``raters``.

        Returns:
            (E,), in [0, 1]; 1 for trusted elements.

        Examples:
            >>> from dataclasses import replace
            >>> log_probs = torch.tensor([[0.5, 0.5], [0.9, 0.1]]).log()
            >>> elements = Elements.of_classes(log_probs, torch.tensor([1, 1]), chance_error=torch.tensor(0.5))
            >>> elements = replace(elements, raters=torch.tensor([1, 1]))
            >>> loss = ForwardCorrection(groups=1, classes=2)
            >>> loss.probability_true(torch.tensor([0.5, 0.5, 0.0, 1.0]), elements)
            tensor([0.6667, 0.1818])
        """
        joint, classes, trusted = self._joint(coefficients, elements)
        right = joint.gather(1, classes[:, None]).squeeze(1) / joint.sum(1).clamp(min=_LEAST_PROBABILITY)
        return torch.where(trusted, 1.0, right)

    def _joint(self, coefficients: Tensor, elements: Elements) -> tuple[Tensor, Tensor, Tensor]:
        """Probability of being truly in a bin and called what it was, (E, K); the latter bin; who is trusted."""
        if coefficients.shape != (self.size,) or elements.raters is None:
            raise ShapeError(
                f"The forward correction expects coefficients of shape ({self.size},) and elements with raters, found "
                f"{tuple(coefficients.shape)} and {'no raters' if elements.raters is None else 'raters'}."
            )
        log_probs, classes, present = binned(elements, self.bins)
        probabilities = log_probs.exp() * present
        matrices = self.matrices(coefficients.to(probabilities))[elements.groups]
        called = matrices.gather(2, classes[:, None, None].expand(-1, self.bins, 1)).squeeze(2)
        return probabilities * called, classes, elements.raters == 0
