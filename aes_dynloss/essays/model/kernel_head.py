"""Kernel ridge regression as a part of a head: a score from the likeness to the training essays' vectors."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class KernelHead(nn.Module):
    """Scores of essays from Gaussian kernels with training essays of the same prompt.

    ``f(x) = sum_i c_i exp(-|x - x_i|^2 / scale)``, each prompt with its own sum. Nothing in it learns by gradients;
    :meth:`set_prompt` takes what a closed form gives.

    Args:
        prompts: Number of prompts P.
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
        self.register_buffer("coefficients", torch.zeros(0))
        self.register_buffer("scale", torch.ones(prompts))

    def set_prompt(self, number: int, support: Tensor, coefficients: Tensor, scale: float) -> None:
        """Set a prompt's regression.

        Args:
            number: The prompt's.
            support: Vectors of its n training essays, (n, width); stored as float16.
            coefficients: (n,).
            scale: Of the kernel, in the unit of a squared distance, above 0.
        """
        others = self.owner != number
        owner = torch.full((len(support),), number, device=self.owner.device)
        self.support = torch.cat([self.support[others], support.to(self.support)])
        self.owner = torch.cat([self.owner[others], owner])
        self.coefficients = torch.cat([self.coefficients[others], coefficients.to(self.coefficients)])
        self.scale[number] = scale

    def forward(self, features: Tensor, prompt: Tensor) -> Tensor:
        """Scores, (B, 1), in standard deviations of the prompt's training scores.

        Args:
            features: Vectors of the essays, (B, width).
            prompt: Number of each essay's prompt, (B,).
        """
        answers = features.new_zeros(len(prompt))
        for number in sorted(set(prompt.tolist())):
            rows, known = prompt == number, self.owner == number
            distances = torch.cdist(features[rows].float(), self.support[known].float()) ** 2
            likeness = torch.exp(-distances / self.scale[number])
            answers[rows] += (likeness @ self.coefficients[known]).to(answers.dtype)
        return answers[:, None]

    def make_room(self, state: Mapping[str, Tensor], prefix: str = "") -> None:
        """Hold as many training essays as a state that is to be loaded.

        Args:
            state: The state.
            prefix: Of this module's names in it.
        """
        for name in ("support", "owner", "coefficients"):
            buffer, stored = getattr(self, name), state.get(f"{prefix}{name}")
            if stored is not None and stored.shape[1:] == buffer.shape[1:] and stored.dtype == buffer.dtype:
                setattr(self, name, torch.zeros_like(stored))
