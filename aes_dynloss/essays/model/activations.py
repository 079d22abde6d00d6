"""Outputs of a frozen encoder, or of its frozen lower layers: computed once, then trained on.

They can be kept from run to run, see :mod:`aes_dynloss.essays.model.feature_cache` for pooled vectors and
:mod:`aes_dynloss.essays.model.state_cache` for token states.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from numpy.typing import NDArray
from torch import Tensor, nn

from aes_dynloss.configfile import user_path
from aes_dynloss.errors import AesDynlossError, CheckpointError, ConfigError
from aes_dynloss.essays.model.chunks import read_chunks
from aes_dynloss.essays.model.encoders import only_layers
from aes_dynloss.essays.model.essay_cache import EssayCache, essay_digest
from aes_dynloss.essays.model.examples import EssayExamples
from aes_dynloss.essays.model.feature_cache import FeatureCache
from aes_dynloss.essays.model.scoring_model import ScoringModel
from aes_dynloss.essays.model.state_cache import STATES, StateCache, stored_states
from aes_dynloss.progress import Progress
from aes_dynloss.teaching.student import Batch
from aes_dynloss.training.accelerator import gather_rows
from aes_dynloss.training.batching import Rows, packed
from aes_dynloss.training.prediction import evaluating

logger = logging.getLogger(__name__)

T = TypeVar("T")
C = TypeVar("C", bound=EssayCache)

# Takes essays, rounds of packs of them, and which rounds are needed; yields a round's rows and what is kept of each.
_Encoder = Callable[[EssayExamples, list[list[Rows]], Iterable[bool]], Iterator[tuple[Tensor, Iterable[Any]]]]

_TOKENS_AT_ONCE = 8192
_FEATURE_SAMPLE = 512
_SMALLEST_SD = 1e-4
# Of the encoder's last states from stored ones, relative to the greatest: far above rounding, in float16 and bf16 too.
_LARGEST_DIFFERENCE = 0.01


@contextmanager
def frozen_part_computed(
    accelerator: Accelerator, model: ScoringModel, examples: EssayExamples, train: NDArray[np.int64], folder: Path
) -> Iterator[EssayExamples]:
    """Run what is frozen of the encoder once over all essays; within the block the model starts where that ended.

    The vectors that the head sees are standardised on the way, see :func:`scale_features`, but for a head that was
    learnt before and keeps its units, see :mod:`aes_dynloss.essays.finetune.warm_start`.

    Nothing frozen: the examples as they are. A wholly frozen encoder under mean or cls pooling: pooled vectors, in
    memory. Else hidden states of every token, mapped from files, rounded as
    :mod:`aes_dynloss.essays.model.state_cache` says; and of frozen layers that the head sees their pooled vectors. What
    ``model.features_cache`` has is not computed.

    Args:
        accelerator: The run's; each process computes a share, its main process alone writes files, and all read them.
        model: The scorer; its encoder is cut at the frozen layers within the block and whole again afterwards.
        examples: All essays of the run.
        train: Rows of the training essays among them.
        folder: The run's. Without a features cache token states are kept in it, in :data:`STATES`, which whoever
            completes the run removes.

    Raises:
        ConfigError: The encoder makes something else of the stored states than of the essays: it cannot be cut.
        CheckpointError: The cache cannot be used.
    """
    frozen, cache = model.config.frozen_layers, model.config.features_cache
    if frozen == "all" and model.config.pooling != "attention":
        if cache is None:
            features = pooled_features(accelerator, model, examples)
        else:
            features = cached_features(accelerator, model, examples, cache)
        examples = replace(examples, features=features)
    by_token = frozen != 0 and examples.features is None
    with _states_ready(accelerator, model, examples, folder) if by_token else nullcontext(examples) as ready:
        if not model.config.starts_with_head:
            scale_features(accelerator, model, ready.select(train))
        yield ready


@contextmanager
def _states_ready(
    accelerator: Accelerator, model: ScoringModel, examples: EssayExamples, folder: Path
) -> Iterator[EssayExamples]:
    """Within the block the encoder, as far as it is not frozen, starts from token states that are kept on disk."""
    frozen, cache = model.config.frozen_layers, model.config.features_cache
    longest = examples.select([int(examples.lengths.argmax())])
    expected = _last_states(accelerator, model, longest)

    def differ(stored: EssayExamples) -> bool:
        difference = (_last_states(accelerator, model, stored) - expected).abs().max()
        return bool(difference > _LARGEST_DIFFERENCE * expected.abs().max())

    ((_, rounded),) = _token_states(accelerator, model, longest, [[np.zeros(1, dtype=np.int64)]])
    with _started_above(model, frozen):
        # Some upper layers see more than the one below, such as those of DeBERTa-v2 with a convolution.
        if differ(replace(longest, states=list(rounded))):
            raise ConfigError(
                f"model.frozen_layers is {frozen}, but an encoder of the kind {model.encoder.config.model_type} cannot "
                "start in its middle. Set it to 0, or to all."
            )
    kept_in = folder / STATES if cache is None else user_path(cache, "model.features_cache")
    lower = None
    if model.lower_count:
        vectors = cached_features(accelerator, model, examples, str(kept_in))
        lower = vectors[:, : vectors.shape[1] * model.lower_count // model.pooled_count].clone()
    kept_in, states = _cached_states(accelerator, model, examples, kept_in)
    ready = replace(examples, states=states, lower=lower)
    with _started_above(model, frozen):
        if differ(ready.select([int(examples.lengths.argmax())])):
            raise CheckpointError(
                f"The token states in {kept_in} are not those that this encoder computes. Remove that folder, and they "
                "are computed anew."
            )
        yield ready


def scale_features(accelerator: Accelerator, model: ScoringModel, train: EssayExamples) -> None:
    """Standardise the vectors that the head sees by those of training essays under the encoder as it is.

    Args:
        accelerator: The run's.
        model: The scorer, its encoder whole or started above what the examples' states are of; its buffers are set.
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
    for batch in _encoding(accelerator, model, examples, rounds, needed):
        index, (vectors,) = gather_rows(accelerator, batch.index, [model.pooled(batch.inputs).float()])
        first = _first_of_each(index)
        yield index[first].cpu(), vectors[first].cpu()


def _token_states(
    accelerator: Accelerator,
    model: ScoringModel,
    examples: EssayExamples,
    rounds: Sequence[list[Rows]],
    needed: Iterable[bool] = repeat(True),
) -> Iterator[tuple[Tensor, Iterable[NDArray[Any]]]]:
    """As :func:`_pooled`: rows, and the states of each one's tokens at the top of the frozen layers, (tokens, H)."""
    frozen = model.config.frozen_layers
    # One layer more than is frozen: states after the last one may be normalised.
    with only_layers(model.encoder_layers, slice(None if frozen == "all" else frozen + 1)):
        for batch in _encoding(accelerator, model, examples, rounds, needed):
            answer = read_chunks(model.encoder, batch.inputs, all_layers=frozen != "all")
            hidden = answer[0] if frozen == "all" else answer.hidden_states[frozen]
            mask = batch.inputs["attention_mask"].bool()
            row_of_chunk = batch.index[batch.inputs["owner"]]
            rows = row_of_chunk[:, None].expand_as(mask)[mask]
            index, (states,) = gather_rows(accelerator, rows, [hidden[mask].float()])
            first = _first_of_each(index)
            index, kept = index[first].cpu(), stored_states(states.cpu())
            counts = (sum(map(len, examples.essays[row].chunks)) for row in index.tolist())
            if kept.dtype != np.float16 and accelerator.is_main_process:
                logger.warning("Token states reach %.3g, beyond float16's range: kept in float32.", np.abs(kept).max())
            yield index, [kept[start : start + count] for start, count in zip(first.tolist(), counts, strict=True)]


def _first_of_each(index: Tensor) -> Tensor:
    """Where each row begins in an index that ascends.

    The last pack may have been computed twice, so that every process had one: the first of equal rows is taken.
    """
    return torch.searchsorted(index, torch.unique(index))


def _encoding(
    accelerator: Accelerator,
    model: ScoringModel,
    examples: EssayExamples,
    rounds: Sequence[list[Rows]],
    needed: Iterable[bool],
) -> Iterator[Batch]:
    """This process's batches on the device; while one is looked at, the model evaluates, in the run's precision."""
    model.to(accelerator.device)
    packs = [packs[min(accelerator.process_index, len(packs) - 1)] for packs in rounds]
    hidden = not accelerator.is_main_process or len(packs) == 1
    bar = Progress(packs, desc="encode essays", unit="batch", disable=hidden)
    with evaluating(model), accelerator.autocast():
        for pack, wanted in zip(bar, needed, strict=False):
            if wanted:
                yield examples.batch(pack.tolist()).to(accelerator.device)


def _last_states(accelerator: Accelerator, model: ScoringModel, examples: EssayExamples) -> Tensor:
    """The encoder's last states of the tokens of a few essays, (tokens, H)."""
    model.to(accelerator.device)
    inputs = examples.batch(range(len(examples))).to(accelerator.device).inputs
    with evaluating(model), accelerator.autocast():
        return model.last_states(inputs)[inputs["attention_mask"].bool()].float()


@contextmanager
def _started_above(model: ScoringModel, frozen: int | Literal["all"]) -> Iterator[None]:
    """Within the block the encoder has only its upper layers, and they start from the input ``hidden``.

    Embeddings are still looked up, which is cheap and keeps masks and position biases as the encoder makes them; then
    the first layer left is handed the stored states in place of what came from below.
    """
    if frozen == "all":  # the model itself takes `hidden` for the last states
        yield
        return
    layers = cast(nn.ModuleList, model.encoder_layers)  # a model without them is refused when it is built
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
        layers[frozen].register_forward_pre_hook(start, with_kwargs=True),
    ]
    try:
        with only_layers(layers, slice(frozen, None)):
            yield
    finally:
        for hook in hooks:
            hook.remove()


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
    cache, _ = _completed(
        accelerator,
        examples,
        digests,
        lambda: FeatureCache.of(model, accelerator.mixed_precision, folder),
        partial(_pooled, accelerator, model),
    )

    def all_rows() -> NDArray[np.float32]:
        cache.merge()
        vectors = cache.find_all(digests)
        return np.stack([vectors[digest] for digest in digests])

    return torch.from_numpy(_from_main(accelerator, all_rows))


def _cached_states(
    accelerator: Accelerator, model: ScoringModel, examples: EssayExamples, folder: Path
) -> tuple[Path, list[NDArray[Any]]]:
    """As :func:`cached_features`: where token states are kept, and those of each essay, (tokens, H), mapped from it."""
    digests = [essay_digest(essay.chunks) for essay in examples.essays]
    cache, computed = _completed(
        accelerator,
        examples,
        digests,
        lambda: StateCache.of(model, accelerator.mixed_precision, folder),
        partial(_token_states, accelerator, model),
    )
    states = cache.find_all(digests, check=computed)  # what was complete was checked by the main process
    return cache.path, [states[digest] for digest in digests]


def _completed(
    accelerator: Accelerator,
    examples: EssayExamples,
    digests: Sequence[bytes],
    cache_of: Callable[[], C],
    encoder: _Encoder,
) -> tuple[C, bool]:
    """A cache that has all essays, and whether some had to be computed; on every process."""
    first: dict[bytes, int] = {}
    for row, digest in enumerate(digests):
        first.setdefault(digest, row)

    def look() -> tuple[C, list[bytes]]:
        cache = cache_of()
        kept = cache.find(first)
        # In an order of their own: runs that have the same essays in another order fill the same batches.
        missing = sorted(digest for digest in first if digest not in kept)
        rows = None
        if cache.several_rows:
            rows = sum(len(chunk) for digest in missing for chunk in examples.essays[first[digest]].chunks)
        logger.info(
            "Encoded essays: %d in %s, %d to compute (%.1f MB); %.1f MB in all.",
            len(kept),
            cache.path,
            len(missing),
            (cache.size(len(missing), rows) - cache.size()) / 1e6,
            cache.size(len(missing), rows) / 1e6,
        )
        if missing:
            cache.make_room(len(missing), rows)
        return cache, missing

    cache, missing = _from_main(accelerator, look)
    if missing:
        once = replace(examples.select([first[digest] for digest in missing]), units=None)  # each is of its own essay
        _compute_missing(accelerator, once, missing, cache, encoder)
    return cache, bool(missing)


def _compute_missing(
    accelerator: Accelerator,
    examples: EssayExamples,
    digests: Sequence[bytes],
    cache: EssayCache,
    encoder: _Encoder,
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
        for index, values in encoder(examples, rounds, needed):
            part = {digests[row]: np.asarray(value) for row, value in zip(index.tolist(), values, strict=True)}
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
