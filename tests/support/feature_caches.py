"""Features caches of vectors and token states, scorers on a tiny encoder that use them, processes that add to them."""

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
    made = ModelConfig(**{"encoder": str(encoder), "frozen_layers": "all", "features_cache": cache} | config)
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


# Ways to a scorer that reads token states, each with a layer that is frozen.
BY_TOKEN = {"lower": {"frozen_layers": 1}, "all": {"frozen_layers": "all", "pooling": "attention"}}


def states_of(
    accelerator: Accelerator, model: ScoringModel, essays: EssayExamples, run: Path = Path("none")
) -> tuple[list[np.ndarray], int]:
    """The token states that a run trains on, and how many batches its lowest layer saw for them.

    Twice it sees the longest essay beside: whether the encoder can be cut is known before anything is computed.
    """
    calls: list[int] = []
    hook = model.encoder_layers[0].register_forward_pre_hook(lambda *_: calls.append(1))
    try:
        with frozen_part_computed(accelerator, model, essays, np.arange(len(essays)), run) as ready:
            assert ready.states is not None
            return [np.array(states) for states in ready.states], len(calls) - 2
    finally:
        hook.remove()


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
    encoder: Path, folder: Path, result: Path, *, pause: float, env: Mapping[str, str] = {}, by_token: bool = False
) -> BaseProcess:
    """Start a run that encodes :data:`MANY_TEXTS` in batches of 40 tokens.

    Args:
        encoder: The tiny encoder.
        folder: The cache.
        result: A .npz for its ``features``, vectors or all states, and the number of ``batches`` that it encoded.
        pause: Seconds that each batch takes beside, so that other processes come between.
        env: Further variables of its environment, such as those of processes that work together.
        by_token: Whether it reads token states.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=_encode, args=(encoder, folder, result, pause, dict(env), by_token))
    process.start()
    return process


def _encode(encoder: Path, folder: Path, result: Path, pause: float, env: dict[str, str], by_token: bool) -> None:
    os.environ.update(env)
    torch.set_num_threads(1)
    activations._TOKENS_AT_ONCE = 40
    accelerator, essays = Accelerator(cpu=True), essays_of(encoder, MANY_TEXTS)
    model = model_of(encoder, folder, **BY_TOKEN["lower"] if by_token else {})
    model.encoder.register_forward_pre_hook(lambda *_: time.sleep(pause))
    if by_token:
        states, batches = states_of(accelerator, model, essays)
        features = np.concatenate(states)
    else:
        with counted(model) as calls:
            features = features_of(accelerator, model, essays)[0].numpy()
        batches = len(calls)
    np.savez(result, features=features, batches=batches)


def made_cache(folder: Path, numbers: range = range(5), width: int = 4) -> FeatureCache:
    folder.mkdir(parents=True, exist_ok=True)
    cache = FeatureCache(folder / "made.safetensors", '{"pooling": "mean"}', width)
    add_one_by_one(cache, numbers)
    return cache


def parts_in(folder: Path) -> list[Path]:
    """Batches of vectors that are kept and not merged yet, or of token states, which never are."""
    return [path for path in folder.glob("*/*.safetensors") if path.parent.suffix in {".parts", ".states"}]


def flipped(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
