"""The live student: its trainable weights as one flat vector, written to and read from the module."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from aes_dynloss.errors import ShapeError
from aes_dynloss.teaching.student import (
    Batch,
    Student,
    kept_buffers,
    random_state,
    set_random_state,
)


class LiveStudent:
    """The student behind a run, unwrapped, with its P learning weights in one order: that of its parameter stack.

    Weights go into the live module instead of through ``functional_call``, which is silently wrong around a module
    that checkpoints its activations.

    Args:
        student: The student.

    Raises:
        ShapeError: Its weights are of several dtypes, or none learns.
    """

    def __init__(self, student: Student) -> None:
        self.student = student
        self.module = student.as_module()
        self.parameters = [parameter for layer in student.parameter_stack() for _, parameter in layer]
        kinds = {parameter.dtype for parameter in self.parameters}
        if len(kinds) != 1:
            raise ShapeError(f"A student that is taught needs learning weights of one dtype, found {kinds or 'none'}.")
        known = {id(parameter): name for name, parameter in self.module.named_parameters()}
        self.names = [known[id(parameter)] for parameter in self.parameters]
        self._sizes = [parameter.numel() for parameter in self.parameters]

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.parameters[0].device

    @property
    def checkpoints_activations(self) -> bool:
        """Whether a module recomputes activations in its backward pass, as transformers' modules say of themselves."""
        return any(getattr(module, "gradient_checkpointing", False) for module in self.module.modules())

    def weights(self) -> Tensor:
        """A copy of the weights, (P,)."""
        return torch.cat([parameter.detach().reshape(-1) for parameter in self.parameters])

    @torch.no_grad()
    def put(self, weights: Tensor) -> None:
        """Put weights, (P,), into the module."""
        torch._foreach_copy_(list(self.parameters), self.views(weights))

    def views(self, flat: Tensor) -> list[Tensor]:
        """A flat vector, (P,), as tensors of the weights' shapes that share its memory."""
        parts = torch.split(flat, self._sizes)
        return [part.view(parameter.shape) for part, parameter in zip(parts, self.parameters, strict=True)]

    def flat(self, tensors: Sequence[Tensor | None]) -> Tensor:
        """Tensors of the weights' shapes as one vector, (P,); None means zeros."""
        whole = [
            torch.zeros_like(parameter) if tensor is None else tensor
            for tensor, parameter in zip(tensors, self.parameters, strict=True)
        ]
        return torch.cat([tensor.reshape(-1) for tensor in whole])

    def outputs(
        self, batch: Batch, precision: AbstractContextManager[object], weights: Sequence[Tensor] | None = None
    ) -> Tensor:
        """The student's outputs, (B, D).

        Args:
            batch: What it reads.
            precision: The context of the forward pass.
            weights: Weights instead of those in the module, where a graph must outlive their next change.
        """
        with precision:
            if weights is None:
                outputs: Tensor = self.module(**batch.inputs)
            else:
                named = dict(zip(self.names, weights, strict=True))
                outputs = functional_call(self.module, named, (), dict(batch.inputs))
        return outputs

    def measure_mode(self) -> None:
        """No dropout; batch norm by the batch's own statistics, so that a dev measure depends on the weights alone."""
        self.module.eval()
        for module in self.module.modules():
            if isinstance(module, _BatchNorm):
                module.train()

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Afterwards the student is as it was: weights, buffers (batch norm's statistics), mode, random state."""
        weights = self.weights()
        modes = [(module, module.training) for module in self.module.modules()]
        state = random_state(self.device)
        try:
            with kept_buffers(self.module):
                yield
        finally:
            set_random_state(state, self.device)
            for module, training in modes:
                module.training = training
            self.put(weights)
