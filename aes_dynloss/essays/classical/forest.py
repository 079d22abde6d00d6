"""Random forest on the words, word pairs and parts of words that occur in a text, beside its numbers, kept as arrays.

What an answer to a question is worth hangs on few words together, which trees find. Parts of words are 3 to 5
characters long; a misspelt word has most of them. A forest predicts each training text by the trees that did not see
it, so that nothing is fitted twice. scikit-learn grows the trees; what is kept of them is data.

References:
    Breiman 2001, Random forests (out-of-bag predictions).
    Ramachandran, Cheng and Foltz 2015, Identifying patterns for short answer scoring (forests on words of answers).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from aes_dynloss.errors import CheckpointError
from aes_dynloss.essays.classical.boosting import BoostedTrees
from aes_dynloss.essays.classical.left_out import Groups, Rows, by_parts

if TYPE_CHECKING:
    from sklearn.ensemble import RandomForestRegressor

Array = NDArray[np.float64]
Keys = NDArray[np.uint64]

# Chosen on dev of one fold of ASAP-SAS among the few settings that were tried.
_SETTINGS: Mapping[str, Any] = {"n_estimators": 100, "min_samples_leaf": 2, "max_features": 0.1, "random_state": 0}
# What is looked for occurs in one of a hundred training texts, in 2 at least and 10 at most.
_LEAST_TEXTS, _MOST_TEXTS = 2, 10
_PARTS = range(3, 6)
LEAST_EXAMPLES = 5
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")


def word_keys(text: str) -> Keys:
    """64-bit keys of a text's words, pairs of neighbouring words and parts of words, whatever their case; each once.

    A part of a word is three to five characters of it, with a mark before and behind the word.

    Args:
        text: The text.

    Example:
        >>> len(word_keys("To do, to DO"))  # to, do, "to do", "do to", "_to", "to_", "_to_", "_do", "do_", "_do_"
        10
    """
    words = _WORD.findall(text.replace("\u2019", "'").lower())
    keys = [*map(_parts, dict.fromkeys(words)), *(_key(f"{one} {other}") for one, other in pairwise(words))]
    return np.unique(np.frombuffer(b"".join(keys), dtype="<u8").astype(np.uint64))


@lru_cache(maxsize=100_000)
def _parts(word: str) -> bytes:
    """The keys of a word and of its parts."""
    padded = f"_{word}_"
    parts = {padded[start : start + size] for size in _PARTS for start in range(len(padded) - size + 1)}
    return b"".join(map(_key, [word, *sorted(parts)]))


def _key(gram: str) -> bytes:
    return hashlib.blake2b(gram.encode("utf-8", "surrogatepass"), digest_size=8).digest()


@dataclass(frozen=True)
class WordForest:
    """``raw = mean over trees of the value of the leaf that words and numbers lead to``.

    Args:
        keys: Words, pairs and parts that are looked for, sorted, (K,).
        trees: On whether each occurs, 0 or 1, and then on the numbers, K + D in all.
    """

    keys: Keys
    trees: BoostedTrees

    @property
    def width(self) -> int:
        """Numbers of a text, D."""
        return self.trees.width - len(self.keys)

    @classmethod
    def fit(
        cls,
        texts: Sequence[str],
        numbers: Array,
        targets: Array,
        weights: Array | None = None,
        groups: Groups | None = None,
    ) -> tuple[Self, Array]:
        """Grow trees on training texts of one prompt.

        Args:
            texts: N texts, at least 5.
            numbers: What was counted in each, (N, D).
            targets: Scores, (N,).
            weights: Of the texts, above 0, (N,); by default all 1.
            groups: Whose each text is, (N,), or None.

        Returns:
            The forest, and each training text's prediction by trees that did not see it, (N,), with weights none of its
            group either.

        Example:
            >>> texts = [f"we rinse it {word}" for word in ("first", "with water") for _ in range(30)]
            >>> scores = np.repeat([0.0, 2.0], 30)
            >>> forest, left_out = WordForest.fit(texts, np.zeros((60, 1)), scores)
            >>> np.round(forest.predict(["rinse with water", "first"], np.zeros((2, 1))))
            array([2., 0.])
        """
        forest, model = cls._grow(texts, numbers, targets, weights)
        if weights is None:
            return forest, np.asarray(model.oob_prediction_, dtype=np.float64)

        # Trees are grown on texts that are drawn by their weights: one that weighs much is in nearly all trees.
        def predict(rest: Rows) -> Array:
            inside, outside = np.flatnonzero(rest).tolist(), np.flatnonzero(~rest).tolist()
            grown, _ = cls._grow([texts[row] for row in inside], numbers[inside], targets[inside], weights[inside])
            return grown.predict([texts[row] for row in outside], numbers[outside])

        return forest, by_parts(len(texts), predict, groups)

    @classmethod
    def _grow(
        cls, texts: Sequence[str], numbers: Array, targets: Array, weights: Array | None
    ) -> tuple[Self, RandomForestRegressor]:
        """A forest, and scikit-learn's; out-of-bag predictions are known of texts without weights."""
        from sklearn.ensemble import RandomForestRegressor

        of_texts = [word_keys(text) for text in texts]
        every, occurs_in = np.unique(np.concatenate(of_texts), return_counts=True)
        keys = every[occurs_in >= max(_LEAST_TEXTS, min(_MOST_TEXTS, len(texts) // 100))]
        values = np.concatenate([_presence(of_texts, keys), numbers], axis=1).astype(np.float32)
        model = RandomForestRegressor(oob_score=weights is None, **_SETTINGS)
        # 1 in the mean, so that only the weights' ratios matter.
        model.fit(values, targets, None if weights is None else weights / weights.mean())
        return cls(keys, BoostedTrees.of_forest([tree.tree_ for tree in model.estimators_], values.shape[1])), model

    def predict(self, texts: Sequence[str], numbers: Array) -> Array:
        """Continuous predictions, (N,).

        Args:
            texts: N texts.
            numbers: What was counted in each, (N, D).
        """
        values = np.concatenate([_presence([word_keys(text) for text in texts], self.keys), numbers], axis=1)
        return self.trees.predict(values.astype(np.float32).astype(np.float64))  # as the trees were grown

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Arrays for a safetensors file."""
        return {"keys": self.keys, **self.trees.to_arrays()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """From :meth:`to_arrays`.

        Raises:
            CheckpointError: The arrays are not such.
        """
        keys, trees = arrays["keys"], BoostedTrees.from_arrays(arrays)
        if keys.ndim != 1 or keys.dtype != np.uint64 or (keys[1:] <= keys[:-1]).any() or len(keys) > trees.width:
            raise CheckpointError("the words of a forest do not fit together")
        return cls(keys, trees)


def _presence(of_texts: Sequence[Keys], keys: Keys) -> Array:
    """Whether each key occurs in each text, (N, K) of 0 and 1."""
    return np.array([np.isin(keys, own, assume_unique=True) for own in of_texts], dtype=np.float64).reshape(
        len(of_texts), len(keys)
    )
