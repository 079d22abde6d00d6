"""String kernel over character n-grams, and the linear model that a kernel ridge regression over it is.

The histogram intersection of two texts is the sum over n-grams of the lesser of their counts. It equals the inner
product of binary features "the n-gram occurs at least t times", so a regression over the kernel is a linear model of
these features. An n-gram with its t is known by a 64-bit key; two keys of an essay set collide by chance once in 10^5
sets of a million.

References:
    Cozma, Butnaru and Ionescu 2018, Automated essay scoring with string kernels and word embeddings.
    Ionescu, Popescu and Cahill 2014, Can characters reveal your native language? (the intersection kernel).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from aes_dynloss.errors import CheckpointError
from aes_dynloss.essays.classical.ridge import SMALLEST, Regressions, RidgeFit

Array = NDArray[np.float64]
Keys = NDArray[np.uint64]

LONGEST = 8
# n-grams in more than this share of the texts are multiplied densely: there a matrix product is faster.
_DENSE_SHARE = 0.03
_DENSE_COLUMNS = 4096


def ngram_keys(text: str, longest: int = LONGEST) -> Keys:
    """Keys of "this n-gram occurs at least t times", for n from 1 to ``longest``; sorted, each once.

    Args:
        text: The text; its characters are taken as they are, but for line ends, which are all alike.
        longest: Longest n-gram, in characters.

    Returns:
        One key for each occurrence of an n-gram, (K,): a text of c characters has about ``longest * c``.

    Example:
        >>> len(ngram_keys("abab", longest=2))  # a, a twice, b, b twice, ab, ab twice, ba
        7
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    codes = np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), dtype="<u4").astype(np.uint64) + _ONE
    rolling = np.zeros(len(codes), dtype=np.uint64)
    keys = []
    for size in range(1, min(longest, len(codes)) + 1):
        rolling = rolling[: len(codes) - size + 1] * _MULTIPLIER + codes[size - 1 :]
        keys.append(_mixed(rolling + np.array([size], dtype=np.uint64) * _SECOND))
    if not keys:
        return np.empty(0, dtype=np.uint64)
    grams = np.sort(np.concatenate(keys))
    starts = np.flatnonzero(np.concatenate([[True], grams[1:] != grams[:-1]]))
    repeats = np.diff(np.concatenate([starts, [len(grams)]]))
    times = (np.arange(len(grams)) - np.repeat(starts, repeats)).astype(np.uint64)
    return _once(np.sort(_mixed(grams + times * _MULTIPLIER)))


def _once(ordered: Keys) -> Keys:
    """Sorted keys without repeats; numpy's unique hashes them, which takes several times as long."""
    distinct: Keys = ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])]
    return distinct


_ONE = np.uint64(1)
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_SECOND, _THIRD = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def _mixed(values: Keys) -> Keys:
    """The finaliser of splitmix64: every bit of the input moves half the bits of the key."""
    values = (values ^ (values >> np.uint64(30))) * _SECOND
    values = (values ^ (values >> np.uint64(27))) * _THIRD
    return values ^ (values >> np.uint64(31))


@dataclass(frozen=True)
class StringFeatures:
    """The keys of N texts as a table.

    Args:
        keys: Different keys, (K,).
        column: Place in ``keys`` of each key of each text, the texts one after the other, (sum of sizes,).
        sizes: Keys of each text, (N,).
    """

    keys: Keys
    column: NDArray[np.int64]
    sizes: NDArray[np.int64]

    @classmethod
    def of(cls, texts: Sequence[str], longest: int = LONGEST) -> StringFeatures:
        """Features of texts."""
        of_texts = [ngram_keys(text, longest) for text in texts]
        sizes = np.array([len(keys) for keys in of_texts], dtype=np.int64)
        # By hashing: sorting takes three times as long.
        column, keys = pd.factorize(np.concatenate(of_texts or [np.empty(0, np.uint64)]))
        return cls(keys, column, sizes)

    @property
    def row(self) -> NDArray[np.int64]:
        """Text of each entry of ``column``."""
        return np.repeat(np.arange(len(self.sizes)), self.sizes)

    def kernel(self) -> Array:
        """Normalised histogram intersection of all pairs, (N, N): 1 of a text with itself, 0 with an empty one."""
        count, row = len(self.sizes), self.row
        texts = np.bincount(self.column, minlength=len(self.keys))
        common = texts > _DENSE_SHARE * count
        shared = np.zeros((count, count), dtype=np.float64)
        number = np.cumsum(common) - 1
        entries = common[self.column]
        dense_column, dense_row = number[self.column[entries]], row[entries]
        for start in range(0, int(common.sum()), _DENSE_COLUMNS):
            within = (dense_column >= start) & (dense_column < start + _DENSE_COLUMNS)
            block = np.zeros((count, _DENSE_COLUMNS), dtype=np.float32)
            block[dense_row[within], dense_column[within] - start] = 1
            shared += block @ block.T
        rare = ~common & (texts > 1)
        number = np.cumsum(rare) - 1
        entries = rare[self.column]
        ones = np.ones(int(entries.sum()), dtype=np.float32)
        table = sparse.csr_matrix((ones, (row[entries], number[self.column[entries]])), shape=(count, int(rare.sum())))
        shared += (table @ table.T).toarray()
        np.fill_diagonal(shared, self.sizes)
        norms = np.sqrt(np.maximum(self.sizes, 1))
        normalised: Array = shared / np.outer(norms, norms)
        return normalised


# Of the string kernel beside another one, to choose from.
SHARES = (0.0, 1 / 3, 1 / 2, 2 / 3)


@dataclass(frozen=True)
class MixedFit:
    """A regression over a weighted mean of a kernel and the string kernel.

    Args:
        fit: Its leave-one-out predictions, intercept and penalty.
        share: Weight of the string kernel, chosen by leave-one-out error.
        of_kernel: Coefficients of the training texts for the other kernel, (N,).
        of_strings: The same for the string kernel.
    """

    fit: RidgeFit
    share: float
    of_kernel: Array
    of_strings: Array


def fit_mixed(kernel: Array, strings: Array, targets: Array, weights: Array | None = None) -> MixedFit:
    """Fit a kernel ridge regression over ``(1 - s) kernel / a + s strings / b``, with a and b their centred traces.

    Args:
        kernel: Of the N training texts, (N, N).
        strings: Their string kernel, (N, N).
        targets: (N,).
        weights: Of the texts, above 0, (N,); by default all 1.
    """
    return fit_mixed_all(kernel, strings, [targets], weights)[0]


def fit_mixed_all(
    kernel: Array, strings: Array, targets: Sequence[Array], weights: Array | None = None
) -> list[MixedFit]:
    """The same for several targets of the same texts, each with a share and a penalty of its own."""
    traces = [float(np.trace(each) / len(each) - each.mean()) for each in (kernel, strings)]
    sizes = [trace if trace > SMALLEST else 1.0 for trace in traces]
    fits: list[dict[float, RidgeFit]] = [{} for _ in targets]
    for share in SHARES:
        mixed = Regressions.on_kernel((1 - share) / sizes[0] * kernel + share / sizes[1] * strings, weights)
        for own, target in zip(fits, targets, strict=True):
            own[share] = mixed.fit(target)
    best = [min(own.items(), key=lambda item: item[1].error) for own in fits]
    return [
        MixedFit(fit, share, fit.coefficients * (1 - share) / sizes[0], fit.coefficients * share / sizes[1])
        for share, fit in best
    ]


@dataclass(frozen=True)
class StringModel:
    """Linear model of n-gram features: ``f(text) = sum of the weights of its keys / sqrt(number of its keys)``.

    Args:
        keys: Sorted, (K,).
        weights: (K,) float32.
        longest: Longest n-gram.
    """

    keys: Keys
    weights: NDArray[np.float32]
    longest: int = LONGEST

    @classmethod
    def flatten(
        cls, features: StringFeatures, dual: Array, least_texts: int = 2, longest: int = LONGEST
    ) -> StringModel:
        """The linear model that kernel coefficients are.

        Args:
            features: Of the N training texts.
            dual: Coefficients of the texts, (N,).
            least_texts: Training texts that must have a key for it to be kept; 1 reproduces the kernel exactly.
            longest: Longest n-gram of the features.
        """
        each = dual / np.sqrt(np.maximum(features.sizes, 1))
        weights = np.bincount(features.column, weights=each[features.row], minlength=len(features.keys))
        texts = np.bincount(features.column, minlength=len(features.keys))
        kept = np.flatnonzero((texts >= least_texts) & (weights != 0))
        kept = kept[np.argsort(features.keys[kept])]
        return cls(features.keys[kept], weights[kept].astype(np.float32), longest)

    @classmethod
    def from_arrays(cls, keys: NDArray[Any], weights: NDArray[Any]) -> StringModel:
        """A model whose arrays were stored.

        Raises:
            CheckpointError: They do not fit together.
        """
        fits = keys.shape == weights.shape == (len(keys),) and keys.dtype == np.uint64
        if not fits or (keys[1:] <= keys[:-1]).any() or not np.isfinite(weights).all():
            raise CheckpointError("the n-grams do not fit together")
        return cls(keys, weights.astype(np.float32))

    def predict(self, texts: Sequence[str]) -> Array:
        """Values of texts, without an intercept, (N,)."""
        return np.array([self.value(ngram_keys(text, self.longest)) for text in texts], dtype=np.float64)

    def value(self, keys: Keys) -> float:
        """The value of a text.

        Args:
            keys: What :func:`ngram_keys` says of it with this model's ``longest``.
        """
        if not len(keys) or not len(self.keys):
            return 0.0
        position = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        known = self.keys[position] == keys
        return float(self.weights[position[known]].sum(dtype=np.float64) / np.sqrt(len(keys)))


def string_values(
    models: Mapping[str, StringModel], texts: Sequence[str], prompt_ids: Sequence[str]
) -> NDArray[np.float32]:
    """What each prompt's linear model of n-grams says of essays, (N,).

    Args:
        models: By prompt.
        texts: N essays.
        prompt_ids: The prompt of each.
    """
    values = np.empty(len(texts), dtype=np.float32)
    counted, keys = ("", LONGEST), ngram_keys("")
    for place, (text, prompt) in enumerate(zip(texts, prompt_ids, strict=True)):
        model = models[prompt]
        if (text, model.longest) != counted:  # else another trait of the essay before
            counted, keys = (text, model.longest), ngram_keys(text, model.longest)
        values[place] = model.value(keys)
    return values


def strings_to_arrays(models: Mapping[str, StringModel]) -> dict[str, NDArray[Any]]:
    """Arrays for a safetensors file, by prompt."""
    arrays: dict[str, NDArray[Any]] = {}
    for prompt, model in models.items():
        arrays |= {f"keys.{prompt}": model.keys, f"weights.{prompt}": model.weights}
    return arrays


def strings_from_arrays(arrays: Mapping[str, NDArray[Any]]) -> dict[str, StringModel]:
    """From :func:`strings_to_arrays`.

    Raises:
        CheckpointError: The arrays are not such.
    """
    models = {}
    prompts = {name.partition(".")[2] for name in arrays}
    if set(arrays) != {f"{part}.{prompt}" for part in ("keys", "weights") for prompt in prompts}:
        raise CheckpointError("the n-grams lack keys or weights")
    for prompt in sorted(prompts):
        models[prompt] = StringModel.from_arrays(arrays[f"keys.{prompt}"], arrays[f"weights.{prompt}"])
    return models
