"""Outputs of a frozen encoder, or of its frozen lower layers: computed once, then trained on.

Pooled vectors of a wholly frozen encoder can be kept from run to run, see
:mod:`aes_dynloss.essays.model.feature_cache`.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from aes_dynloss.errors import AesDynlossError, CheckpointError, ConfigError
from aes_dynloss.essays.model.examples import EssayExamples
from aes_dynloss.essays.model.feature_cache import FeatureCache, essay_digest
from aes_dynloss.essays.model.scoring_model import ScoringModel
from aes_dynloss.teaching.student import Batch
from aes_dynloss.training.accelerator import gather_rows
from aes_dynloss.training.batching import Rows, packed
from aes_dynloss.training.prediction import evaluating

logger = logging.getLogger(__name__)

T = TypeVar("T")

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
            features = cached_features(accelerator, model, examples, cache)
        examples = replace(examples, features=features)
    if model.config.start_from is None:
        scale_features(accelerator, model, examples.select(train))
    if frozen == 0 or examples.features is not None:
        yield examples
    else:
        with tempfile.TemporaryDirectory(dir=scratch, prefix="activations-") as folder:
            states, starts = _token_states(accelerator, model, examples, Path(folder))
            ready = replace(examples, states=states, starts=starts)
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
    packs = packed(np.arange(len(examples)), examples, _TOKENS_AT_ONCE, None)
    features = torch.empty(len(examples), len(model.feature_mean))
    for index, vectors in _pooled(accelerator, model, examples, _rounds(accelerator, packs)):
        features[index] = vectors
    return features


def _rounds(accelerator: Accelerator, packs: list[Rows]) -> list[list[Rows]]:
    """Packs that are encoded at the same time, one a process."""
    processes = accelerator.num_processes
    return [packs[start : start + processes] for start in range(0, len(packs), processes)]


def _pooled(
    accelerator: Accelerator,
    model: ScoringModel,
    examples: EssayExamples,
    rounds: Sequence[list[Rows]],
    needed: Iterable[bool] = repeat(True),
) -> Iterator[tuple[Tensor, Tensor]]:
    """Rows of one round of packs after the other, (B,), and their pooled vectors, (B, H) float32; on every process."""
    local = [packs[min(accelerator.process_index, len(packs) - 1)] for packs in rounds]
    for batch in _encoding(accelerator, model, examples, local, needed):
        index, (vectors,) = gather_rows(accelerator, batch.index, [model.pooled(batch.inputs).float()])
        # The last pack may have been computed twice, so that every process had one: the first of equal rows is taken.
        first = torch.searchsorted(index, torch.unique(index))
        yield index[first].cpu(), vectors[first].cpu()


def _encoding(
    accelerator: Accelerator,
    model: ScoringModel,
    examples: EssayExamples,
    packs: Sequence[Rows],
    needed: Iterable[bool] = repeat(True),
) -> Iterator[Batch]:
    """Batches on the device; while one is looked at, the model is in evaluation mode and precision is the run's."""
    model.to(accelerator.device)
    hidden = not accelerator.is_main_process
    with evaluating(model), accelerator.autocast():
        for pack, wanted in zip(tqdm(packs, desc="encode essays", unit="batch", disable=hidden), needed, strict=False):
            if wanted:
                yield examples.batch(pack.tolist()).to(accelerator.device)


def _token_states(
    accelerator: Accelerator, model: ScoringModel, examples: EssayExamples, folder: Path
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
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
    return values, starts


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


def cached_features(accelerator: Accelerator, model: ScoringModel, examples: EssayExamples, folder: str) -> Tensor:
    """Pooled vectors of all essays: those that are kept as they are kept, the others computed and kept from now on.

    Each batch is kept as soon as it is computed, so that a run that is killed loses no other. Where another run has
    kept a vector while this one computed it, its vector is taken, so that all runs use the same.

    Args:
        accelerator: The run's; its main process alone reads and writes, all get the same vectors.
        model: The scorer; its encoder is wholly frozen, its pooling is mean or cls.
        examples: N essays.
        folder: The cache, made if it is not there.

    Returns:
        (N, H) float32 on the CPU, on every process.

    Raises:
        CheckpointError: What is kept is damaged or foreign, or nothing can be kept there; on every process.
    """
    digests = [essay_digest(essay.chunks) for essay in examples.essays]
    first: dict[bytes, int] = {}
    for row, digest in enumerate(digests):
        first.setdefault(digest, row)

    def look() -> tuple[FeatureCache, list[bytes]]:
        cache = FeatureCache.of(model, accelerator.mixed_precision, folder)
        kept = cache.find(first)
        # In an order of their own: runs that have the same essays in another order fill the same batches.
        missing = sorted(digest for digest in first if digest not in kept)
        size = cache.size(len(missing)) / 1e6
        logger.info(
            "Encoded essays: %d in %s, %d to compute; %.1f MB in all.", len(kept), cache.path, len(missing), size
        )
        if missing:
            cache.make_room(len(missing))
        return cache, missing

    cache, missing = _from_main(accelerator, look)
    if missing:
        _compute_missing(accelerator, model, examples.select([first[digest] for digest in missing]), missing, cache)

    def all_rows() -> NDArray[np.float32]:
        cache.merge()
        vectors = cache.find(first)
        if len(vectors) < len(first):
            raise CheckpointError(f"Vectors were removed from {cache.path} during this run. Run it again.")
        return np.stack([vectors[digest] for digest in digests])

    return torch.from_numpy(_from_main(accelerator, all_rows))


def _compute_missing(
    accelerator: Accelerator,
    model: ScoringModel,
    examples: EssayExamples,
    digests: Sequence[bytes],
    cache: FeatureCache,
) -> None:
    """Encode essays and keep each round of packs at once.

    The longest come first. Of several runs at a time one does so, the others start with the shortest, and each leaves
    out what another has kept: so two halve the work. What is left after a kill falls into the same packs as before.
    """
    packs = packed(np.arange(len(examples)), examples, _TOKENS_AT_ONCE, None)
    with ExitStack() as stack:
        leads = _from_main(accelerator, lambda: stack.enter_context(cache.lead()))
        rounds = _rounds(accelerator, packs if leads else packs[::-1])
        missing = cache.missing([digests[row] for pack in packs for row in pack] for packs in rounds)
        needed = (_from_main(accelerator, lambda: next(missing)) for _ in rounds)
        for index, vectors in _pooled(accelerator, model, examples, rounds, needed):
            part = {digests[row]: vector for row, vector in zip(index.tolist(), vectors.numpy(), strict=True)}
            _from_main(accelerator, partial(cache.add, part))


def _from_main(accelerator: Accelerator, action: Callable[[], T]) -> T:
    """What an action answers on the main process, on every process; its AesDynlossError is raised on all of them."""
    outcome: list[Any] = [None]
    if accelerator.is_main_process:
        try:
            outcome = [action()]
        except AesDynlossError as error:
            outcome = [error]
    (answer,) = broadcast_object_list(outcome)
    if isinstance(answer, AesDynlossError):
        raise answer from None
    return answer  # type: ignore[no-any-return]
