"""Kernel ridge regression as a part of a head: a score from the likeness to the training essays' vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


class KernelHead(nn.Module):
    """Scores of essays from Gaussian kernels with training essays of the same prompt.

    ``f(x) = sum_i c_i exp(-|x - x_i|^2 / scale)``, each prompt with its own sum; traits of the same essays share their
    vectors. Nothing in it learns by gradients; :meth:`set_prompts` takes what a closed form gives.

    Args:
        prompts: Number of prompts, or prompts and traits, P.
        width: Size of the vectors.
    """

    support: Tensor
    owner: Tensor
    coefficients: Tensor
    scale: Tensor

    def __init__(self, prompts: int, width: int) -> None:
        super().__init__()
        self.register_buffer("support", torch.zeros(0, width, dtype=torch.float16))
        self.register_buffer("owner", torch.zeros(0, dtype=torch.int64))
        # (m,), each of its owner; or (m, P) where several share vectors, 0 where one has none: then owners say nothing.
        self.register_buffer("coefficients", torch.zeros(0))
        self.register_buffer("scale", torch.ones(prompts))

    def set_prompts(self, numbers: Sequence[int], support: Tensor, coefficients: Tensor, scale: float) -> None:
        """Set the regressions of a prompt, or of T traits of the same essays.

        Args:
            numbers: Theirs, T.
            support: Vectors of the n training essays, (n, width); stored as float16.
            coefficients: (n, T).
            scale: Of the kernel, in the unit of a squared distance, above 0.
        """
        if len(numbers) == 1 and self.coefficients.ndim == 1:
            others, known = self.owner != numbers[0], self.coefficients
            new = coefficients[:, 0].to(known)
        else:
            known = self._by_prompt()
            known[:, list(numbers)] = 0
            others = (known != 0).any(1)
            new = known.new_zeros(len(support), len(self.scale))
            new[:, list(numbers)] = coefficients.to(known)
        owner = torch.full((len(support),), numbers[0], device=self.owner.device)
        self.support = torch.cat([self.support[others], support.to(self.support)])
        self.owner = torch.cat([self.owner[others], owner])
        self.coefficients = torch.cat([known[others], new])
        self.scale[list(numbers)] = scale

    def of_prompt(self, number: int) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
        """A prompt's regression: support (n, width), coefficients (n,) and the kernel's scale."""
        own = self.coefficients[:, number] if self.coefficients.ndim == 2 else self.coefficients
        known = own != 0 if self.coefficients.ndim == 2 else self.owner == number
        support, coefficients = self.support[known].double().cpu().numpy(), own[known].double().cpu().numpy()
        return support, coefficients, float(self.scale[number])

    def _by_prompt(self) -> Tensor:
        """The coefficients of each prompt, (m, P)."""
        if self.coefficients.ndim == 2:
            return self.coefficients.clone()
        each = self.coefficients.new_zeros(len(self.owner), len(self.scale))
        each[torch.arange(len(self.owner)), self.owner] = self.coefficients
        return each

    def forward(self, features: Tensor, prompt: Tensor) -> Tensor:
        """Scores, (B, 1), in standard deviations of the prompt's training scores.

        Args:
            features: Vectors of the essays, (B, width).
            prompt: Number of each essay's prompt, (B,).
        """
        answers = features.new_zeros(len(prompt))
        shared = self.coefficients.ndim == 2
        for number in sorted(set(prompt.tolist())):
            own = self.coefficients[:, number] if shared else self.coefficients
            rows, known = prompt == number, own != 0 if shared else self.owner == number
            distances = torch.cdist(features[rows].float(), self.support[known].float()) ** 2
            likeness = torch.exp(-distances / self.scale[number])
            answers[rows] += (likeness @ own[known]).to(answers.dtype)
        return answers[:, None]

    def make_room(self, state: Mapping[str, Tensor], prefix: str = "") -> None:
        """Hold as many training essays as a state that is to be loaded.

        Args:
            state: The state.
            prefix: Of this module's names in it.
        """
        for name in ("support", "owner", "coefficients"):
            buffer, stored = getattr(self, name), state.get(f"{prefix}{name}")
            shapes = [(), tuple(self.scale.shape)] if name == "coefficients" else [tuple(buffer.shape[1:])]
            if stored is not None and tuple(stored.shape[1:]) in shapes and stored.dtype == buffer.dtype:
                setattr(self, name, torch.zeros_like(stored))
