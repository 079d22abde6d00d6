"""Features caches, scorers on a tiny encoder that use them, and processes that add to them."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from forked import PRELOADED
from safetensors.numpy import load_file
from tiny_encoder import WORDS
from tiny_scorer import TWO_PROMPTS
from torch import Tensor

from aes_dynloss.essays.model import activations
from aes_dynloss.essays.model.activations import frozen_part_computed
from aes_dynloss.essays.model.chunks import Chunker
from aes_dynloss.essays.model.encoders import load_encoder, load_tokenizer
from aes_dynloss.essays.model.examples import EssayExamples
from aes_dynloss.essays.model.feature_cache import FeatureCache
from aes_dynloss.essays.model.model_config import ModelConfig
from aes_dynloss.essays.model.scoring_model import ScoringModel

TEXTS = ["the teacher and the otter", "", "a bridge is not a school. " * 9, "phones 42", "a walk to the river " * 4]
# Of many lengths, several of the same length: more than six batches under few tokens at once.
MANY_TEXTS = [f"{start} {'a walk to the river ' * (number % 7)}" for number, start in enumerate(WORDS[:20])]


def model_of(encoder: Path, folder: Path | None, **config: object) -> ScoringModel:
    cache = str(folder) if folder is not None else None
    made = ModelConfig(encoder=str(encoder), frozen_layers="all", features_cache=cache, **config)
    return ScoringModel(load_encoder(str(encoder)), made, TWO_PROMPTS).eval()


def essays_of(encoder: Path, texts: list[str], *, window: int = 16, max_tokens: int | None = None) -> EssayExamples:
    """Examples of texts, prompts in turn."""
    tokenizer = load_tokenizer(str(encoder))
    groups = np.arange(len(texts)) % len(TWO_PROMPTS)
    chunks = Chunker(tokenizer, window, max_tokens)(texts)
    return EssayExamples(chunks, groups, np.zeros(len(texts)), int(tokenizer.pad_token_id))


@contextmanager
def counted(model: ScoringModel) -> Iterator[list[int]]:
    """Chunks of each call of the encoder."""
    calls: list[int] = []

    def count(_: object, __: object, named: dict[str, Any]) -> None:
        blocks = named.get("token_blocks")  # chunks of a batch may come as one row of blocks
        calls.append(len(named["input_ids"]) if blocks is None else sum(map(len, blocks.masks)))

    hook = model.encoder.register_forward_pre_hook(count, with_kwargs=True)
    try:
        yield calls
    finally:
        hook.remove()


def features_of(accelerator: Accelerator, model: ScoringModel, essays: EssayExamples) -> tuple[Tensor, int]:
    """The vectors that a run trains on, and how many chunks its encoder saw for them."""
    every = np.arange(len(essays))
    with counted(model) as calls, frozen_part_computed(accelerator, model, essays, every, Path("none")) as ready:
        assert ready.features is not None
        return ready.features, sum(calls)


def chunks_in(essays: EssayExamples) -> int:
    return int(essays.sequences.sum())


def only_file(folder: Path) -> Path:
    (path,) = folder.glob("*.safetensors")
    return path


def kept_in(path: Path) -> int:
    return len(load_file(path)["digests"])


def digest_of(number: int) -> bytes:
    """A made-up essay's digest."""
    return number.to_bytes(32, "big")


def add_one_by_one(cache: FeatureCache, numbers: Iterable[int], begun: Event | None = None) -> None:
    """Add and merge a vector of each number, all of whose elements are that number; say that it begins."""
    if begun is not None:
        begun.set()
    for number in numbers:
        cache.add({digest_of(number): np.full(cache.width, number, dtype=np.float32)})
        cache.merge()


def start_adding(cache: FeatureCache, numbers: Iterable[int]) -> tuple[BaseProcess, Event]:
    """Start a process that adds; the event says that it has begun."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    begun = context.Event()
    process = context.Process(target=add_one_by_one, args=(cache, list(numbers), begun))
    process.start()
    return process, begun


def start_encoding(
    encoder: Path, folder: Path, result: Path, *, pause: float, env: Mapping[str, str] = {}
) -> BaseProcess:
    """Start a run that encodes :data:`MANY_TEXTS` in batches of 40 tokens.

    Args:
        encoder: The tiny encoder.
        folder: The cache.
        result: A .npz for its ``features`` and the number of ``batches`` that it encoded.
        pause: Seconds that each batch takes beside, so that other processes come between.
        env: Further variables of its environment, such as those of processes that work together.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=_encode, args=(encoder, folder, result, pause, dict(env)))
    process.start()
    return process


def _encode(encoder: Path, folder: Path, result: Path, pause: float, env: dict[str, str]) -> None:
    os.environ.update(env)
    torch.set_num_threads(1)
    activations._TOKENS_AT_ONCE = 40
    model = model_of(encoder, folder)
    model.encoder.register_forward_pre_hook(lambda *_: time.sleep(pause))
    with counted(model) as calls:
        features, _ = features_of(Accelerator(cpu=True), model, essays_of(encoder, MANY_TEXTS))
    np.savez(result, features=features.numpy(), batches=len(calls))


def made_cache(folder: Path, numbers: range = range(5), width: int = 4) -> FeatureCache:
    folder.mkdir(parents=True, exist_ok=True)
    cache = FeatureCache(folder / "made.safetensors", '{"pooling": "mean"}', width)
    add_one_by_one(cache, numbers)
    return cache


def parts_in(folder: Path) -> list[Path]:
    """Batches that are kept and not merged yet."""
    return list(folder.glob("*.parts/*.safetensors"))


def flipped(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
