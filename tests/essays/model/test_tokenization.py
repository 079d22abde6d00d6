"""Chunks against the plain list of an essay's tokens, for tokenizers with every kind of special tokens."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import CanineTokenizer, PreTrainedTokenizerFast

from aes_dynloss.errors import ConfigError
from aes_dynloss.essays.model.chunks import Chunker, remembering

WORDS = [f"w{number}" for number in range(20)] + ["a"]
IDS = {"[PAD]": 0, "[UNK]": 1, "[A]": 2, "[B]": 3, "[C]": 4} | {word: 5 + i for i, word in enumerate(WORDS)}
# What a tokenizer puts around a text, and that as ids.
TEMPLATES = {
    "none": ("$A", [], []),
    "bert": ("[A] $A [B]", [2], [3]),
    "prefix": ("[A] $A", [2], []),
    "suffix": ("$A [B]", [], [3]),
    "double": ("[A] [C] $A [B] [B]", [2, 4], [3, 3]),
}


def build(template: str) -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.WordLevel(IDS, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = [(name, IDS[name]) for name in ("[A]", "[B]", "[C]")]
    backend.post_processor = processors.TemplateProcessing(single=template, special_tokens=special)
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", model_max_length=6)


TOKENIZERS = {name: build(template) for name, (template, _, _) in TEMPLATES.items()}


@pytest.mark.parametrize("name", TEMPLATES)
@given(
    texts=st.lists(st.lists(st.sampled_from(WORDS), max_size=60), max_size=4),
    room=st.integers(1, 12),
    cap=st.none() | st.integers(1, 50),
)
def test_chunks_are_the_essay_again(name: str, texts: list[list[str]], room: int, cap: int | None) -> None:
    _, before, after = TEMPLATES[name]
    window = room + len(before) + len(after)
    essays = Chunker(TOKENIZERS[name], window, cap)([" ".join(words) for words in texts])
    assert len(essays) == len(texts)
    for essay, words in zip(essays, texts, strict=True):
        ids = [IDS[word] for word in words]
        kept = ids if cap is None else ids[:cap]
        assert (essay.tokens, essay.dropped) == (len(ids), len(ids) - len(kept))
        assert len(essay.chunks) == max(1, -(-len(kept) // room))  # no more than are needed
        if not kept and not before + after:
            continue  # the next test's
        joined: list[int] = []
        for chunk in essay.chunks:
            assert chunk.dtype == np.int32
            assert len(chunk) <= window
            values = chunk.tolist()
            assert values[: len(before)] == before
            assert values[len(values) - len(after) :] == after
            joined += values[len(before) : len(values) - len(after)]
        assert joined == kept
        lengths = [len(chunk) for chunk in essay.chunks]
        assert max(lengths) - min(lengths) <= 1


def test_empty_text() -> None:
    (essay,) = Chunker(TOKENIZERS["bert"], 8)([""])
    assert [chunk.tolist() for chunk in essay.chunks] == [[2, 3]]
    assert (essay.tokens, essay.dropped) == (0, 0)
    # A chunk without any token could not be pooled.
    (essay,) = Chunker(TOKENIZERS["none"], 8)([" \n"])
    assert [chunk.tolist() for chunk in essay.chunks] == [[IDS["[PAD]"]]]
    assert (essay.tokens, essay.dropped) == (0, 0)


def test_no_texts() -> None:
    assert Chunker(TOKENIZERS["bert"], 8)([]) == []


def test_words_of_special_tokens_in_a_text_are_read_as_the_tokenizer_reads_them() -> None:
    (essay,) = Chunker(TOKENIZERS["bert"], 8)(["w0 [UNK] nowhere"])
    assert [chunk.tolist() for chunk in essay.chunks] == [[2, IDS["w0"], 1, 1, 3]]


@pytest.mark.parametrize(("name", "smallest"), [("none", 1), ("bert", 3), ("double", 5)])
def test_window_without_room(name: str, smallest: int) -> None:
    (essay,) = Chunker(TOKENIZERS[name], smallest)(["w0 w1 w2"])
    assert len(essay.chunks) == 3
    with pytest.raises(ConfigError, match=rf"model\.window is {smallest - 1}, which leaves no room.*Set it higher"):
        Chunker(TOKENIZERS[name], smallest - 1)


def test_a_slow_tokenizer_remembers_nothing():
    """It has no backend by which another run's could be told to be the same."""
    chunker = Chunker(CanineTokenizer(), 8)
    assert remembering(chunker) is chunker
    (essay,) = remembering(chunker)(["seven words"])
    assert len(essay.chunks) == 2


class Counting:
    """A chunker that notes which texts it is given."""

    def __init__(self, chunker: Chunker) -> None:
        self.chunker, self.identity = chunker, chunker.identity
        self.seen: list[str] = []

    def __call__(self, texts):
        self.seen += texts
        return self.chunker(texts)


def test_no_text_is_tokenized_twice():
    """Not in another run with the same tokenizer, window and cap either; with others it is."""
    texts = ["w1 w2", "", "w3 w4 w5 w6 w7", "w1 w2"]
    first, second = (Counting(Chunker(TOKENIZERS["bert"], 5)) for _ in range(2))
    expected = first.chunker(texts)
    for chunker, new in ((first, texts[:3]), (second, [])):
        found = remembering(chunker)(texts)
        assert chunker.seen == new
        for one, other in zip(found, expected, strict=True):
            assert (one.tokens, one.dropped) == (other.tokens, other.dropped)
            assert [chunk.tolist() for chunk in one.chunks] == [chunk.tolist() for chunk in other.chunks]
    for changed in (
        Chunker(TOKENIZERS["bert"], 6),
        Chunker(TOKENIZERS["bert"], 5, 2),
        Chunker(TOKENIZERS["double"], 5),
    ):
        other = Counting(changed)
        remembering(other)(texts)
        assert other.seen == texts[:3]
