"""The scorer as a torch module: encoder, pooling, head, and each prompt's scale. It is the student that is trained.

`Pooling` makes one vector of an essay's token states, `ScoreHead` a score or a distribution over score points of that
vector, and `ScoringModel` joins them to an encoder.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import Parameter, functional
from torch.nn.utils.rnn import pad_sequence

from aes_dynloss.errors import ConfigError
from aes_dynloss.essays.data.essay_table import Prompt, trait_numbers
from aes_dynloss.essays.features.linguistic import MOST_SD, SMALLEST_SD, feature_scales
from aes_dynloss.essays.model.chunks import read_chunks
from aes_dynloss.essays.model.encoders import keep_lower_layers, layer_list
from aes_dynloss.essays.model.int8_linear import expect_int8
from aes_dynloss.essays.model.kernel_head import KernelHead
from aes_dynloss.essays.model.lora import add_adapters
from aes_dynloss.essays.model.model_config import ModelConfig
from aes_dynloss.essays.model.prompt_scales import PromptScale
from aes_dynloss.teaching.student import Elements


class Pooling(nn.Module):
    """Pools the tokens of an essay over all of its chunks together.

    mean: the mean over tokens. cls: the mean over chunks of their first token. attention: sum_t a_t h_t with
    a = softmax(v . tanh(W h_t)) over all tokens of the essay.

    Args:
        kind: mean, cls or attention.
        width: Size H of the hidden states.

    References:
        Yang et al. 2016, Hierarchical attention networks (the form of the attention).
    """

    def __init__(self, kind: Literal["mean", "cls", "attention"], width: int) -> None:
        super().__init__()
        self.kind = kind
        if kind == "attention":
            self.project = nn.Linear(width, width)
            self.query = nn.Linear(width, 1, bias=False)
            nn.init.zeros_(self.query.weight)  # starts as the mean

    def forward(self, hidden: Tensor, mask: Tensor, owner: Tensor, essays: int) -> Tensor:
        """Pool.

        Args:
            hidden: Hidden states of C chunks, (C, L, H).
            mask: 1 at tokens, 0 at padding, (C, L).
            owner: Essay of each chunk, (C,), in [0, essays).
            essays: Number of essays B.

        Returns:
            (B, H) in float32 or wider.
        """
        # Sums over hundreds of tokens are no work for bf16, which autocast would choose for these products.
        with torch.autocast(hidden.device.type, enabled=False):
            hidden = hidden.to(torch.promote_types(hidden.dtype, torch.float32))
            # A matrix of membership instead of index_add: the same sums on a GPU every time, and twice differentiable.
            member = (owner[None, :] == torch.arange(essays, device=owner.device)[:, None]).to(hidden.dtype)
            if self.kind == "cls":
                return member @ hidden[:, 0] / member.sum(1, keepdim=True)
            weights = self.token_weights(hidden, mask, owner, member)
            total = member @ torch.einsum("cl,clh->ch", weights, hidden)
            return total / (member @ weights.sum(1, keepdim=True))

    def token_weights(self, hidden: Tensor, mask: Tensor, owner: Tensor, member: Tensor) -> Tensor:
        """What each token counts in the weighted mean that is no ``cls``, (C, L), up to a factor an essay.

        Args:
            hidden: As :meth:`forward` takes them.
            mask: Too.
            owner: Too.
            member: 1 where a chunk is of an essay, (B, C).
        """
        if self.kind == "mean":
            return mask.to(hidden.dtype)
        scores = self.query(torch.tanh(self.project(hidden))).squeeze(-1)
        scores = scores.masked_fill(mask == 0, -torch.inf)
        # Any number may be taken from all scores of an essay; its greatest keeps exp in range.
        top = scores.detach().amax(1)
        top = torch.where(member > 0, top[None, :], -torch.inf).amax(1)
        return torch.exp(scores - top[owner][:, None])


# Log-probability of a score point that a prompt does not have: its probability is exactly 0, its gradient too.
ABSENT = -1e4
_EMBEDDING = 16


def heads_of(config: ModelConfig, prompts: Sequence[Prompt]) -> list[int]:
    """The number of each prompt's head: its own, one for all prompts, or one for each trait on all prompts.

    Args:
        config: Its ``prompts``.
        prompts: All prompts, or prompts and traits.
    """
    if config.prompts == "own_head":
        return list(range(len(prompts)))
    if config.prompts == "embedding":
        return [0] * len(prompts)
    return trait_numbers(prompts)


class ScoreHead(nn.Module):
    """Scores of essays from their vectors, for every prompt of a model.

    Args:
        config: Its ``head`` is regression, softmax or ordinal; its ``prompts`` a head for each prompt, one that sees
            the prompt's embedding, or one that is not told the prompt; its ``hidden`` the width of a hidden layer, or
            None; its ``dropout`` before each linear layer.
        width: Size of the vectors.
        scales: The prompts with their training statistics.

    References:
        McCullagh 1980, Regression models for ordinal data (the cumulative logit of ``ordinal``).
    """

    counts: Tensor
    heads: Tensor

    def __init__(self, config: ModelConfig, width: int, scales: Sequence[PromptScale]) -> None:
        super().__init__()
        self.kind = config.head
        self.own, self.embedded = config.prompts == "own_head", config.prompts == "embedding"
        heads = heads_of(config, [scale.prompt for scale in scales])
        self.head_count = max(heads) + 1
        self.register_buffer("heads", torch.tensor(heads), persistent=False)
        self.points = points = max(scale.prompt.range.count for scale in scales)
        answers = points if self.kind == "softmax" else 1
        if self.embedded:
            self.embedding = nn.Embedding(len(scales), _EMBEDDING)
            width += _EMBEDDING
        layers: list[nn.Module] = [nn.Dropout(config.dropout)]
        if config.hidden is not None:
            layers += [nn.Linear(width, config.hidden), nn.GELU(), nn.Dropout(config.dropout)]
        self.body = nn.Sequential(*layers)
        self.answer = nn.Linear(config.hidden or width, answers * self.head_count)
        nn.init.zeros_(self.answer.weight)  # the first answer is each prompt's mean, or its distribution
        nn.init.zeros_(self.answer.bias)
        shares = pad_sequence([torch.tensor(scale.shares) for scale in scales], batch_first=True)
        self._own_points = [len(scale.shares) for scale in scales]
        counts = torch.tensor(self._own_points)
        self.register_buffer("counts", counts, persistent=False)
        # Half an essay is added to each point, as if a point that was never seen were merely rare.
        valid = torch.arange(points) < counts[:, None]
        smooth = torch.where(valid, shares + 0.5 / 100, 0.0)
        smooth = smooth / smooth.sum(1, keepdim=True)
        if self.kind == "softmax":
            self.prior = nn.Parameter(torch.where(valid, smooth, 1.0).log())
        elif self.kind == "ordinal":
            above = (1.0 - smooth.cumsum(1))[:, :-1].clamp(min=1e-4, max=1 - 1e-4)
            borders = -torch.logit(above)
            self.first_border = nn.Parameter(borders[:, :1].clone())
            steps = borders.diff(dim=1).clamp(min=1e-3)
            self.border_steps = nn.Parameter(torch.log(torch.expm1(steps)))

    def forward(self, features: Tensor, prompt: Tensor) -> Tensor:
        """Answers.

        Args:
            features: Vectors of the essays, (B, width).
            prompt: Number of each essay's prompt, (B,).

        Returns:
            regression: (B, 1), in standard deviations of the prompt's training scores; else log-probabilities of the
            score points, (B, points), :data:`ABSENT` where the prompt has fewer.
        """
        if self.embedded:
            features = torch.cat([features, self.embedding(prompt).to(features.dtype)], dim=1)
        hidden: Tensor = self.body(features)
        if not self.own and self.head_count == 1:
            answers: Tensor = self.answer(hidden)
        # Elsewhere one product is cheaper than to wait.
        elif self.own and self.kind == "softmax" and hidden.device.type == "cpu":
            answers = self._of_own_points(hidden, prompt)
        else:
            rows = torch.arange(len(prompt), device=prompt.device)
            answers = self.answer(hidden).view(len(prompt), self.head_count, -1)[rows, self.heads[prompt]]
        answers = answers.to(torch.promote_types(answers.dtype, torch.float32))
        if self.kind == "regression":
            return answers
        valid = torch.arange(self.points, device=prompt.device) < self.counts[prompt][:, None]
        if self.kind == "softmax":
            log_probs = functional.log_softmax((answers + self.prior[prompt]).masked_fill(~valid, ABSENT), dim=1)
            return torch.where(valid, log_probs, ABSENT)
        return self._ordinal(answers, prompt, valid)

    def _of_own_points(self, hidden: Tensor, prompt: Tensor) -> Tensor:
        """Logits of each essay's own score points, (B, points), 0 where its prompt has fewer.

        All prompts' points at once would cost many times as much: ASAP has 127 over eight prompts, each essay 4 to 61.
        """
        weights = self.answer.weight.view(len(self.counts), self.points, -1).unbind()
        biases = self.answer.bias.view(len(self.counts), self.points).unbind()
        parts, places = [hidden.new_zeros(0, self.points)], [prompt.new_zeros(0)]
        for number, count in enumerate(self._own_points):
            rows = torch.nonzero(prompt == number).squeeze(1)
            if len(rows):
                logits = functional.linear(hidden[rows], weights[number][:count], biases[number][:count])
                parts.append(functional.pad(logits, (0, self.points - count)))
                places.append(rows)
        return torch.cat(parts)[torch.argsort(torch.cat(places))]

    def _ordinal(self, latent: Tensor, prompt: Tensor, valid: Tensor) -> Tensor:
        """Answer ln(sigmoid(z - b_k) - sigmoid(z - b_{k+1})), borders b rising, the outermost infinite."""
        borders = torch.cat([self.first_border, functional.softplus(self.border_steps)], dim=1).cumsum(1)
        reached = latent - borders[prompt]
        end = torch.full_like(latent, -ABSENT)
        upper = torch.cat([end, reached], dim=1)
        lower = torch.cat([reached, -end], dim=1)
        last = torch.arange(self.points, device=prompt.device) == (self.counts[prompt] - 1)[:, None]
        lower = torch.where(last, ABSENT, lower)
        gap = torch.where(valid, upper - lower, 1.0)
        log_probs = functional.logsigmoid(upper) + functional.logsigmoid(-lower) + torch.log(-torch.expm1(-gap))
        return torch.where(valid, log_probs, ABSENT)


class ScoringModel(nn.Module):
    """Essay scorer for one or several prompts.

    Args:
        encoder: A transformers encoder without pooler; its layers above ``keep_layers`` are removed,
            and it gets the adapters of ``lora``.
        config: Pooling, head and what learns.
        scales: The prompts with their training statistics, in the order of their numbers.

    Raises:
        ConfigError: ``keep_layers``, ``pooled_layers`` or ``frozen_layers`` is more than the encoder has; or
            ``lora`` does not fit it.
    """

    encoder: Any  # transformers is untyped
    kernel: KernelHead | None
    feature_mean: Tensor
    feature_sd: Tensor
    mean: Tensor
    sd: Tensor
    length_mean: Tensor
    length_sd: Tensor
    unit_points: Tensor
    linguistic_mean: Tensor
    linguistic_sd: Tensor
    feature_scales: Tensor
    trait: Tensor | None

    def __init__(self, encoder: nn.Module, config: ModelConfig, scales: Sequence[PromptScale]) -> None:
        super().__init__()
        self.config = config
        self.scales = list(scales)
        self.encoder = encoder
        if config.keep_layers is not None:
            keep_lower_layers(encoder, config.keep_layers)
        if config.int8:
            expect_int8(encoder)
        self._layers = (layer_list(encoder),)  # in a tuple, so that torch does not register them a second time
        self.pooling = Pooling(config.pooling, int(self.encoder.config.hidden_size))
        self.pooled_count = self._count_pooled()
        width = int(self.encoder.config.hidden_size) * self.pooled_count
        linguistic = len(config.feature_names)
        seen = width + config.log_length + linguistic
        self.head = ScoreHead(config, seen, scales)
        self.kernel = KernelHead(len(scales), seen) if config.solver == "kernel_ridge" else None
        if linguistic:  # of each prompt: what is much on one is little on another
            self.register_buffer("linguistic_mean", torch.zeros(len(scales), linguistic))
            self.register_buffer("linguistic_sd", torch.ones(len(scales), linguistic))
            own = len(config.own_features)
            weights = torch.from_numpy(feature_scales(linguistic - own, own)).float()
            self.register_buffer("feature_scales", weights, persistent=False)
        # Features are standardised and then divided by sqrt(width): the vector as a whole weighs as much as the length.
        self.register_buffer("feature_mean", torch.zeros(width))
        self.register_buffer("feature_sd", torch.ones(width))
        for name in ("mean", "sd", "length_mean", "length_sd"):
            self.register_buffer(name, torch.tensor([getattr(scale, name) for scale in scales]), persistent=False)
        numbers = trait_numbers([scale.prompt for scale in scales])
        self.register_buffer("trait", torch.tensor(numbers) if max(numbers) > 0 else None, persistent=False)
        points = [torch.linspace(0, 1, scale.prompt.range.count) for scale in scales]
        self.register_buffer("unit_points", pad_sequence(points, batch_first=True), persistent=False)
        self._freeze()
        if config.lora is not None:
            add_adapters(encoder, config.lora)

    def forward(self, **inputs: Tensor) -> Tensor:
        """Outputs of the head, see :meth:`ScoreHead.forward`.

        Args:
            inputs: ``prompt`` (B,), ``log_length`` (B,); where the head sees them ``linguistic`` (B, F), and
                ``strings`` (B,), what n-grams add in the head's unit; and either ``features`` (B, H), the pooled
                vectors; or ``input_ids`` (C, L) with ``attention_mask`` (C, L) and ``owner`` (C,), the essay of each
                chunk, and with ``hidden`` (C, L, H), the states at the top of the frozen layers, where those were
                computed before, and ``lower`` (B, H), the vectors of those of them that are pooled. Where several of B
                are of one essay, with ``essay`` (B,), which of those that were read each is of.
        """
        features = self.head_inputs(inputs)
        # Under bf16 autocast scores would have eight bits.
        with torch.autocast(features.device.type, enabled=False):
            answers = cast(Tensor, self.head(features, inputs["prompt"]))
            if self.kernel is not None:
                answers = answers + self.kernel(features, inputs["prompt"])
            return answers + inputs["strings"][:, None] if self.config.strings else answers

    def head_inputs(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """What the head sees, (B, width): the standardised vector, the length, and the linguistic features.

        Args:
            inputs: As :meth:`forward` takes them.
        """
        prompt = inputs["prompt"]
        features = self.pooled(inputs)
        features = (features - self.feature_mean) / (self.feature_sd * math.sqrt(features.shape[1]))
        if self.config.log_length:
            length = (inputs["log_length"] - self.length_mean[prompt]) / self.length_sd[prompt]
            features = torch.cat([features, length[:, None].to(features.dtype)], dim=1)
        if self.config.feature_names:
            values = (inputs["linguistic"] - self.linguistic_mean[prompt]) / self.linguistic_sd[prompt]
            values = values.clamp(-MOST_SD, MOST_SD) * self.feature_scales
            features = torch.cat([features, values.to(features.dtype)], dim=1)
        return features

    def scale_linguistic(self, values: Tensor, groups: Tensor) -> None:
        """Standardise linguistic features by training essays: by those of each prompt, by all that share a head.

        Args:
            values: Of N training essays, (N, F).
            groups: Number of each essay's prompt, (N,).
        """
        for number in range(len(self.scales)):
            rows = values[self.sharing(groups, number)].double()
            spread, mean = rows.std(0, unbiased=False), rows.mean(0)
            self.linguistic_mean[number] = mean
            self.linguistic_sd[number] = torch.where(spread <= SMALLEST_SD * mean.abs(), torch.inf, spread)

    def sharing(self, groups: Tensor, number: int) -> Tensor:
        """Which examples are of a scale, or of one that shares its head, (N,) bool."""
        if self.config.prompts != "shared":
            return groups == number
        heads = self.head.heads.to(groups.device)
        return heads[groups] == heads[number]

    def pooled(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """The essays' vectors, (B, H): of one layer, or those of ``pooled_layers`` side by side, the lowest first.

        References:
            Devlin et al. 2019, BERT, section 5.3 (features of several layers, concatenated).
        """
        if "features" in inputs:
            return inputs["features"]
        states = self.pooled_states(inputs)
        essays = len(inputs["prompt"]) if "essay" not in inputs else int(inputs["essay"].max()) + 1
        vectors = [self.pooling(state, inputs["attention_mask"], inputs["owner"], essays) for state in states]
        pooled = torch.cat([inputs["lower"], *vectors] if "lower" in inputs else vectors, dim=1)
        return pooled[inputs["essay"]] if "essay" in inputs else pooled

    def pooled_states(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """The hidden states, (C, L, H), of each layer whose tokens are pooled, the lowest first.

        Where the states of frozen layers were computed before, those of the layers above.
        """
        count = self.pooled_count - (self.lower_count if "hidden" in inputs else 0)
        if count == 1:
            return (self.last_states(inputs),)
        answer = self._answer(inputs, all_layers=True)
        # The last states proper: some encoders still normalise what hidden_states ends with.
        return (*answer.hidden_states[-count:-1], answer[0])

    def last_states(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """The encoder's last hidden states, (C, L, H), from the inputs that :meth:`forward` names."""
        if "hidden" in inputs and self.config.frozen_layers == "all":
            return inputs["hidden"]
        return cast(Tensor, self._answer(inputs, all_layers=False)[0])

    def _answer(self, inputs: Mapping[str, Tensor], *, all_layers: bool) -> Any:  # noqa: ANN401 - untyped
        if "hidden" not in inputs:
            return read_chunks(self.encoder, inputs, all_layers=all_layers)
        # Where lower layers are cut off, the encoder takes their stored states from `hidden`; see activations.py.
        named = {name: inputs[name] for name in ("input_ids", "attention_mask", "hidden")}
        return self.encoder(**named, output_hidden_states=all_layers)

    def elements(self, outputs: Tensor, targets: Tensor, groups: Tensor) -> Elements:
        """Scores on [0, 1], or the distribution and its expectation, beside the targets; see :class:`Elements`.

        Args:
            outputs: Of the head, (B, D).
            targets: Scores on [0, 1], (B,); or with each essay's weight beside it, (B, 2), and its rater's number,
                (B, 3).
            groups: Number of each essay's prompt, (B,).
        """
        if targets.ndim == 1:
            return self._with_parts(self._elements(outputs, targets, groups))
        elements = self._with_parts(self._elements(outputs, targets[:, 0], groups))
        raters = targets[:, 2].long() if targets.shape[1] == 3 else None
        return replace(elements, weights=targets[:, 1:2].to(outputs.dtype), raters=raters)

    def _with_parts(self, elements: Elements) -> Elements:
        """The elements with the number of the trait of each, where there are several."""
        return elements if self.trait is None else replace(elements, parts=self.trait[elements.groups])

    def _elements(self, outputs: Tensor, targets: Tensor, groups: Tensor) -> Elements:
        centre, spread = self.mean[groups].to(outputs.dtype), self.sd[groups].to(outputs.dtype)
        targets = targets.to(outputs.dtype)
        if self.config.head != "regression":
            last = self.head.counts[groups] - 1
            classes = (targets * last).round().long()
            scores = (outputs.exp() * self.unit_points[groups]).sum(1)
            return Elements(scores, targets, groups, centre, spread, log_probs=outputs, classes=classes)
        answer = outputs.squeeze(1)
        if self.config.link == "identity":
            return Elements(centre + spread * answer, targets, groups, centre, spread)
        # The sigmoid's slope at the mean is the sd, so that both links start alike.
        middle = centre.clamp(0.02, 0.98)
        logits = torch.logit(middle) + spread / (middle * (1 - middle)) * answer
        return Elements(torch.sigmoid(logits), targets, groups, centre, spread, logits=logits)

    def scores(self, outputs: Tensor, groups: Tensor) -> Tensor:
        """Scores on [0, 1], (B,), of outputs on any device."""
        device = self.mean.device
        outputs, groups = outputs.to(device), groups.to(device)
        return self.elements(outputs, torch.zeros(len(groups), device=device), groups).scores

    def parameter_stack(self) -> list[list[tuple[str, Parameter]]]:
        """Trainable parameters: embeddings, encoder layers from the bottom, then pooling and head."""
        head = [*self.pooling.named_parameters("pooling"), *self.head.named_parameters("head")]
        layers = [list(layer.named_parameters()) for layer in (self.encoder_layers or [])]
        taken = {id(parameter) for layer in [*layers, head] for _, parameter in layer}
        rest = [(name, parameter) for name, parameter in self.named_parameters() if id(parameter) not in taken]
        learning = [[(name, p) for name, p in layer if p.requires_grad] for layer in (rest, *layers, head)]
        return [layer for layer in learning if layer]

    def as_module(self) -> nn.Module:
        """The student as the module that it is."""
        return self

    @property
    def encoder_layers(self) -> nn.ModuleList | None:
        """The encoder's layers from the bottom, those that are there now; None where they cannot be told apart."""
        return self._layers[0]

    def train(self, mode: bool = True) -> ScoringModel:
        """Training mode for what learns; frozen parts stay in evaluation mode, without dropout."""
        if self.config.frozen_layers != "all":
            super().train(mode)
            for part in self._frozen_parts:
                part.eval()
            return self
        self.training = mode
        for child in self.children():  # the encoder, of many modules, was put into evaluation mode for good
            if child is not self.encoder:
                child.train(mode)
        return self

    def _count_pooled(self) -> int:
        """Layers that are pooled, the embeddings counted as one."""
        wanted = self.config.pooled_layers
        if wanted == 1:
            return 1
        layers = self.encoder_layers
        most = 1 if layers is None else len(layers) + 1
        if layers is None or (wanted != "all" and wanted > most):
            has = "no layers that can be told apart" if layers is None else f"{len(layers)} and the embeddings"
            raise ConfigError(f"model.pooled_layers is {wanted}, but the encoder has {has}. Set it to {most} at most.")
        return most if wanted == "all" else wanted

    def _freeze(self) -> None:
        frozen, layers = self.config.frozen_layers, self.encoder_layers
        # Layers that are pooled and frozen below others that learn.
        self.lower_count = 0
        # A tuple, so that torch does not register the parts a second time.
        self._frozen_parts: tuple[nn.Module, ...] = ()
        if frozen == 0:
            return
        if frozen == "all":
            learning = nn.ModuleList()
        elif layers is not None and frozen < len(layers):
            learning = layers[frozen:]
            self.lower_count = max(0, self.pooled_count - len(learning))
        else:
            has = "no layers that can be told apart" if layers is None else f"{len(layers)} layers"
            raise ConfigError(
                f"model.frozen_layers is {frozen}, but the encoder has {has}. Lower it, or set it to all."
            )
        self.encoder.requires_grad_(requires_grad=False)
        self.encoder.eval()
        learning.requires_grad_(requires_grad=True)
        # The embeddings and their dropout too; but what holds a learning layer stays in its mode.
        above = {id(module) for module in learning.modules()}
        self._frozen_parts = tuple(
            module
            for module in self.encoder.modules()
            if id(module) not in above and not any(parameter.requires_grad for parameter in module.parameters())
        )
