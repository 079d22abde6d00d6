"""Outputs of a frozen encoder, or of its frozen lower layers: computed once, then trained on."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from aes_dynloss.errors import ConfigError
from aes_dynloss.essays.model.examples import EssayExamples, TokenStates
from aes_dynloss.essays.model.feature_cache import cached_features
from aes_dynloss.essays.model.scoring_model import ScoringModel
from aes_dynloss.teaching.student import Batch
from aes_dynloss.training.accelerator import gather_rows
from aes_dynloss.training.batching import packed
from aes_dynloss.training.prediction import evaluating

_TOKENS_AT_ONCE = 8192
_FEATURE_SAMPLE = 512
_SMALLEST_SD = 1e-4
# Of the encoder's last states from stored ones, relative to the greatest: far above rounding, in bf16 too.
_LARGEST_DIFFERENCE = 0.01


@contextmanager
def frozen_part_computed(
    accelerator: Accelerator, model: ScoringModel, examples: EssayExamples, train: NDArray[np.int64], scratch: Path
) -> Iterator[EssayExamples]:
    """Run what is frozen of the encoder once over all essays; within the block the model starts where that ended.

    The vectors that the head sees are standardised on the way, see :func:`scale_features`, but for a head that was
    learnt before and keeps its units, see :mod:`aes_dynloss.essays.finetune.warm_start`.

    Nothing frozen: the examples as they are. A wholly frozen encoder under mean or cls pooling: pooled vectors, in
    memory, those in ``model.features_cache`` without computing them. Else hidden states of every token, float32, in a
    temporary file in ``scratch``.

    Args:
        accelerator: The run's; each process computes what it needs for itself, pooled vectors are shared out.
        model: The scorer; its encoder is cut at the frozen layers within the block and whole again afterwards.
        examples: All essays of the run.
        train: Rows of the training essays among them.
        scratch: Folder for the temporary file, which is removed at the end.

    Raises:
        ConfigError: The encoder makes something else of the stored states than of the essays: it cannot be cut.
        CheckpointError: The features cache cannot be used.
    """
    frozen = model.config.frozen_layers
    if frozen == "all" and model.config.pooling != "attention":
        cache = model.config.features_cache
        if cache is None:
            features = pooled_features(accelerator, model, examples)
        else:
            features = cached_features(accelerator, model, examples, cache, pooled_features)
        examples = replace(examples, features=features)
    if model.config.start_from is None:
        scale_features(accelerator, model, examples.select(train))
    if frozen == 0 or examples.features is not None:
        yield examples
    else:
        with tempfile.TemporaryDirectory(dir=scratch, prefix="activations-") as folder:
            ready = replace(examples, states=_token_states(accelerator, model, examples, Path(folder)))
            if frozen == "all":
                yield ready
            else:
                longest = [int(examples.lengths.argmax())]
                expected = _last_states(accelerator, model, examples, longest)
                with _started_above(model, frozen):
                    difference = (_last_states(accelerator, model, ready, longest) - expected).abs().max()
                    # Some upper layers see more than the one below, such as those of DeBERTa-v2 with a convolution.
                    if difference > _LARGEST_DIFFERENCE * expected.abs().max():
                        raise ConfigError(
                            f"model.frozen_layers is {frozen}, but an encoder of the kind "
                            f"{model.encoder.config.model_type} cannot start in its middle. Set it to 0, or to all."
                        )
                    yield ready


def scale_features(accelerator: Accelerator, model: ScoringModel, train: EssayExamples) -> None:
    """Standardise the vectors that the head sees by those of training essays under the encoder as it is.

    Args:
        accelerator: The run's.
        model: The scorer, its encoder whole; its buffers are set.
        train: Training essays; of a learning encoder, whose vectors will move, a sample is enough.
    """
    features = train.features
    if features is None:
        sample = np.linspace(0, len(train) - 1, min(len(train), _FEATURE_SAMPLE)).round().astype(np.int64)
        features = pooled_features(accelerator, model, train.select(sample))
    model.feature_mean.copy_(features.mean(0))
    spread = features.std(0, unbiased=False)
    # What hardly differs between essays stays in its own unit: a small one would magnify what a learning encoder does.
    model.feature_sd.copy_(torch.where(spread < _SMALLEST_SD, 1.0, spread))


def pooled_features(accelerator: Accelerator, model: ScoringModel, examples: EssayExamples) -> Tensor:
    """Pooled vectors of all essays under the encoder as it is, (N, H) float32 on the CPU, on every process."""
    model.to(accelerator.device)
    packs = packed(np.arange(len(examples)), examples, _TOKENS_AT_ONCE, None)
    local = packs[accelerator.process_index :: accelerator.num_processes] or packs[:1]
    vectors, indices = [], []
    for batch in _encoding(accelerator, model, examples, local):
        vectors.append(model.pooled(batch.inputs))
        indices.append(batch.index)
    index, (rows,) = gather_rows(accelerator, torch.cat(indices), [torch.cat(vectors)])
    # A pack may have been computed twice, so that every process had one: the first of equal rows is taken.
    first = torch.searchsorted(index, torch.arange(len(examples), device=index.device))
    return rows[first].cpu()


def _encoding(
    accelerator: Accelerator, model: ScoringModel, examples: EssayExamples, packs: list[NDArray[np.int64]]
) -> Iterator[Batch]:
    """Batches on the device; while one is looked at, the model is in evaluation mode and precision is the run's."""
    model.to(accelerator.device)
    hidden = not accelerator.is_main_process
    with evaluating(model), accelerator.autocast():
        for pack in tqdm(packs, desc="encode essays", unit="batch", disable=hidden):
            yield examples.batch(pack.tolist()).to(accelerator.device)


def _token_states(accelerator: Accelerator, model: ScoringModel, examples: EssayExamples, folder: Path) -> TokenStates:
    counts = np.array([sum(len(chunk) for chunk in essay.chunks) for essay in examples.essays], dtype=np.int64)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64)
    frozen = model.config.frozen_layers
    width = int(model.feature_mean.shape[0])
    values = np.lib.format.open_memmap(
        folder / "states.npy", mode="w+", dtype=np.float32, shape=(int(counts.sum()), width)
    )
    packs = packed(np.arange(len(examples)), examples, _TOKENS_AT_ONCE, None)
    for batch in _encoding(accelerator, model, examples, packs):
        ids, mask = batch.inputs["input_ids"], batch.inputs["attention_mask"]
        output = model.encoder(input_ids=ids, attention_mask=mask, output_hidden_states=frozen != "all")
        hidden = output[0] if frozen == "all" else output.hidden_states[frozen]
        rows = batch.index.tolist()
        positions = np.concatenate([np.arange(starts[row], starts[row] + counts[row]) for row in rows])
        values[positions] = hidden[mask.bool()].float().cpu().numpy()
    return TokenStates(values, starts)


def _last_states(accelerator: Accelerator, model: ScoringModel, examples: EssayExamples, rows: list[int]) -> Tensor:
    """The encoder's last states of the tokens of a few essays, (tokens, H)."""
    inputs = examples.batch(rows).to(accelerator.device).inputs
    with evaluating(model), accelerator.autocast():
        return model.last_states(inputs)[inputs["attention_mask"].bool()].float()


@contextmanager
def _started_above(model: ScoringModel, frozen: int) -> Iterator[None]:
    """Within the block the encoder has only its upper layers, and they start from the input ``hidden``.

    Embeddings are still looked up, which is cheap and keeps masks and position biases as the encoder makes them; then
    the first layer left is handed the stored states in place of what came from below.
    """
    layers = cast(nn.ModuleList, model.encoder_layers)  # a model without them is refused when it is built
    whole = list(layers)
    stored: list[Tensor] = []

    def keep(_: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        stored[:] = [named.pop("hidden")]
        return arguments, named

    def start(
        _: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if "hidden_states" in named:
            return arguments, {**named, "hidden_states": stored[0]}
        return (stored[0], *arguments[1:]), named

    hooks = [
        model.encoder.register_forward_pre_hook(keep, with_kwargs=True),
        whole[frozen].register_forward_pre_hook(start, with_kwargs=True),
    ]
    del layers[:frozen]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        del layers[:]
        layers.extend(whole)
