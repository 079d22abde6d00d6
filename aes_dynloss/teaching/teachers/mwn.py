"""The teacher of Meta-Weight-Net: an optimiser moves the weighting network along the hypergradient itself."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from aes_dynloss.teaching.teachers.rewriting import RewritingTeacher


class MetaWeightTeacher(RewritingTeacher):
    """Weights theta of the weighting network, moved by a step of Adam or SGD after each window of the student's.

    With windows of one step and the measure that is the plain loss, this is the paper's algorithm: a step that the
    student takes on trial, a step of theta by the gradient of the loss on clean examples after that, and the student's
    step from the same point under the new theta. The trial step is one of the student's own optimiser, momentum,
    clipping and all; in the paper it is one of plain SGD, which ``training.optimizer`` sgd without momentum gives.

    Args:
        coefficients: First theta, (P,).
        optimizer: adam: as in the released program. sgd: as in the paper's equations.
        learning_rate: Its rate.
        weight_decay: Its L2 penalty; 1e-4 in the released program.

    References:
        Shu et al. 2019, arXiv 1902.07379, algorithm 1, and its released program.

    Examples:
        >>> from aes_dynloss.teaching.policies import StudentState
        >>> teacher = MetaWeightTeacher(torch.tensor([1.0, 0.5]))
        >>> teacher.coefficients(StudentState(progress=0.0))
        tensor([1.0000, 0.5000])
    """

    def __init__(
        self,
        coefficients: Tensor,
        *,
        optimizer: Literal["adam", "sgd"] = "adam",
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(coefficients)
        build = torch.optim.Adam if optimizer == "adam" else torch.optim.SGD
        self._moving = torch.nn.Parameter(coefficients.clone())
        self._optimizer = build([self._moving], lr=learning_rate, weight_decay=weight_decay)

    def rewritten(self, hypergradient: Tensor) -> Tensor:
        """theta', after a step of its optimiser."""
        self._moving.grad = hypergradient
        self._optimizer.step()
        return self._moving.detach().clone()  # the steps of a run keep the coefficients that they had

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on: theta and its optimiser."""
        return {"phi": self.phi, "optimizer": self._optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put :meth:`state_dict` back."""
        self.phi = state["phi"].to(self.phi.device)
        self._moving.data.copy_(self.phi)
        self._optimizer.load_state_dict(state["optimizer"])
