"""Outputs of a frozen encoder, or of its frozen lower layers: computed once, then trained on.

Pooled vectors of a wholly frozen encoder can be kept from run to run, so that an essay is encoded once for all of them.

One safetensors file for each encoder, pooling and precision, named by a hash of what they are. In it each vector stands
under the SHA-256 of its essay's chunks: prompts, folds, seeds and losses share it, another window or cap does not. No
text and no token is stored. Yet a vector tells what its essay is about: the folder needs the care that the essays do.

The device is not told apart: vectors that a GPU computed are used on a CPU, though the last bits would differ there.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
import transformers
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from aes_dynloss.configfile import user_path
from aes_dynloss.errors import AesDynlossError, CheckpointError, ConfigError, first_line
from aes_dynloss.essays.model.encoders import encoder_values
from aes_dynloss.essays.model.examples import EssayExamples
from aes_dynloss.essays.model.scoring_model import ScoringModel
from aes_dynloss.tables.atomic import atomic_file, leftovers_of
from aes_dynloss.teaching.student import Batch
from aes_dynloss.training.accelerator import gather_rows
from aes_dynloss.training.batching import packed
from aes_dynloss.training.prediction import evaluating

logger = logging.getLogger(__name__)

Vectors = dict[bytes, NDArray[np.float32]]
T = TypeVar("T")

FORMAT = "aes_dynloss.pooled_vectors"
VERSION = 1
_DIGEST_BYTES = 32
_LOCK_SECONDS = 300
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

    Where another run has kept a vector while this one computed it, its vector is taken, so that all runs use the same.

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

    def look() -> tuple[FeatureCache, Vectors]:
        cache = FeatureCache.of(model, accelerator.mixed_precision, folder)
        return cache, cache.find(first)

    cache, vectors = _from_main(accelerator, look)
    missing = {digest: row for digest, row in first.items() if digest not in vectors}
    if accelerator.is_main_process:
        logger.info("Encoded essays: %d in %s, %d to compute.", len(vectors), cache.path, len(missing))
    if missing:
        rows = pooled_features(accelerator, model, examples.select(list(missing.values()))).float().numpy()
        vectors |= _from_main(accelerator, lambda: cache.add(dict(zip(missing, rows, strict=True))))
    return torch.from_numpy(np.stack([vectors[digest] for digest in digests]))


def essay_digest(chunks: Sequence[NDArray[np.int32]]) -> bytes:
    """SHA-256 of an essay as an encoder reads it: the token ids, and where one chunk ends."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(len(chunk).to_bytes(8, "little"))
        digest.update(chunk.astype("<i4").tobytes())
    return digest.digest()


def weights_digest(encoder: nn.Module) -> str:
    """SHA-256 of an encoder's weights with their names, types and shapes, in hexadecimal."""
    digest = hashlib.sha256()
    for name, tensor in sorted(encoder.state_dict().items()):
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


@dataclass(frozen=True)
class FeatureCache:
    """The vectors of one encoder under one pooling and precision.

    Args:
        path: Their file, which need not be there.
        identity: What determines a vector beside its essay, as JSON.
        width: Length H of a vector.
    """

    path: Path
    identity: str
    width: int

    @classmethod
    def of(cls, model: ScoringModel, precision: str, folder: str) -> FeatureCache:
        """The cache of a scorer's vectors.

        Args:
            model: The scorer.
            precision: Accelerate's mixed precision, such as no or bf16.
            folder: Where caches lie.

        Raises:
            ConfigError: The folder is that of a user who is not there.
        """
        path = user_path(folder, "model.features_cache")
        config = json.dumps(encoder_values(model.encoder), sort_keys=True)
        values = {
            "format": FORMAT,
            "version": VERSION,
            "encoder": type(model.encoder).__name__,
            "config": hashlib.sha256(config.encode()).hexdigest(),
            "weights": weights_digest(model.encoder),
            "pooling": model.config.pooling,
            "layers": model.pooled_count,
            "precision": precision,
            "transformers": transformers.__version__,  # whose code is the encoder's
        }
        identity = json.dumps(values, sort_keys=True)
        name = hashlib.sha256(identity.encode()).hexdigest()[:32]
        return cls(path / f"{name}.safetensors", identity, int(model.feature_mean.shape[0]))

    def find(self, wanted: Collection[bytes]) -> Vectors:
        """What is kept of some essays.

        Args:
            wanted: Their digests.

        Raises:
            CheckpointError: The file is damaged or foreign; or an essay is missing and could not be added, which is
                better known before it is encoded.
        """
        stored = self._read()
        kept = {digest: stored[digest] for digest in wanted if digest in stored}
        if len(kept) < len(wanted):
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                if not os.access(self.path.parent, os.W_OK | os.X_OK):
                    raise PermissionError("Permission denied")
            except OSError as error:
                raise self._out_of_reach("written", error) from None
        return kept

    def add(self, vectors: Mapping[bytes, NDArray[np.float32]]) -> Vectors:
        """Keep vectors, unless such of the same essays are kept already; whole or not at all.

        Args:
            vectors: (H,) for each digest.

        Returns:
            What is kept of these essays now.

        Raises:
            CheckpointError: The file cannot be written, or what is there is damaged or foreign.
        """
        from safetensors.numpy import save

        lock = self.path.with_name(f"{self.path.name}.lock")
        try:
            with FileLock(lock, timeout=_LOCK_SECONDS):
                stored = self._read()  # under the lock: another process may have written since
                merged = {**vectors, **stored}
                if len(merged) > len(stored):
                    order = sorted(merged)
                    keys = np.frombuffer(b"".join(order), dtype=np.uint8).reshape(len(order), _DIGEST_BYTES)
                    rows = np.stack([merged[digest] for digest in order]).astype(np.float32)
                    metadata = {"identity": self.identity, "sha256": _checksum(keys, rows)}
                    for half in leftovers_of(self.path):
                        half.unlink(missing_ok=True)
                    with atomic_file(self.path, raises=None) as temporary:
                        temporary.write_bytes(save({"digests": keys, "vectors": rows}, metadata))
        except Timeout:
            raise CheckpointError(
                f"Another process has held {lock} for {_LOCK_SECONDS} seconds. End it, or set model.features_cache to "
                "another folder."
            ) from None
        except OSError as error:
            raise self._out_of_reach("written", error) from None
        return {digest: merged[digest] for digest in vectors}

    def _read(self) -> Vectors:
        """Everything that is kept."""
        from safetensors import safe_open

        try:
            self.path.open("rb").close()  # safetensors says of each file that it cannot open that there is none
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:  # ValueError: a name with a null byte
            raise self._out_of_reach("read", error) from None
        try:
            with safe_open(self.path, framework="numpy") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        except Exception as error:  # safetensors and numpy each raise their own
            raise self._damaged(first_line(error)) from None
        if metadata.get("identity") != self.identity:
            raise self._damaged("it holds something else than vectors of this encoder")
        keys, rows = tensors.get("digests"), tensors.get("vectors")
        if keys is None or rows is None or metadata.get("sha256") != _checksum(keys, rows):
            raise self._damaged("it does not have its checksum")
        whole = keys.shape == (len(rows), _DIGEST_BYTES) and rows.shape == (len(keys), self.width)
        if not whole or keys.dtype != np.uint8 or rows.dtype != np.float32:
            raise self._damaged("its tables do not fit together")
        return {key.tobytes(): row for key, row in zip(keys, rows, strict=True)}

    def _damaged(self, why: str) -> CheckpointError:
        return CheckpointError(
            f"The features cache {self.path} cannot be used: {why}. Remove the file, and its vectors are computed anew."
        )

    def _out_of_reach(self, done: str, error: Exception) -> CheckpointError:
        return CheckpointError(
            f"The features cache {self.path} cannot be {done}: {getattr(error, 'strerror', None) or error}. Make room "
            "and mend its rights, or set model.features_cache to another folder; null: no cache."
        )


def _checksum(keys: NDArray[Any], rows: NDArray[Any]) -> str:
    """SHA-256 of both tables: safetensors has no checksum, and a changed byte would pass for a vector."""
    digest = hashlib.sha256(keys.tobytes())
    digest.update(rows.tobytes())
    return digest.hexdigest()


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
