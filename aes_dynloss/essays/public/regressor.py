"""An estimator in the manner of scikit-learn: texts in, scores out."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import numpy as np
import pandas as pd
from datasets import Dataset
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted, column_or_1d

from aes_dynloss.configfile import validate
from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.essays.data.essay_table import EssayTable, Prompt
from aes_dynloss.essays.finetune.config import FinetuneConfig
from aes_dynloss.essays.finetune.fitting import fit_to_all
from aes_dynloss.essays.public.scorer import Essays, EssayScorer, essay_frame
from aes_dynloss.essays.screening.kinds import KINDS
from aes_dynloss.tables.cells import CellError, id_value, text_value
from aes_dynloss.tables.score_range import ONE_PROMPT, STEPS, ScoreRange, infer_range
from aes_dynloss.training.accelerator import plain_accelerator

logger = logging.getLogger(__name__)

_SCORES_EVERY_ESSAY: Any = dict.fromkeys(KINDS, "off")
# Score points where human scores are multiples of no usual step.
_FINE = 100


class EssayScoreRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """Scores of essays as a regression: for ``cross_val_predict``, ``GridSearchCV`` and ``Pipeline``.

    It is fitted to all essays that it is given, without a run's folder, figures and report: those are of
    :func:`aes_dynloss.finetune`.

    Args:
        preset: ``fast``, ``balanced`` or ``best``, see the README; None: as ``model`` says.
        model: Keys of a configuration's section ``model`` that go before the preset's, such as ``{"solver": "ridge"}``.
        score_range: The score points; None for those seen, or in prompts whose scores are on no usual grid, 101 points
            from the lowest to the highest.
        rounded: Whether :meth:`predict` gives score points instead of continuous predictions.

    Attributes:
        scorer_: An :class:`EssayScorer` of what was fitted, for intervals, advisories and explanations.

    Example:
        >>> import numpy as np
        >>> texts = [f"My dog is {'very ' * count}big." for count in range(12)]
        >>> regressor = EssayScoreRegressor(model={"linguistic": ["counts"]}).fit(texts, np.arange(12) // 3)
        >>> regressor.predict(["My dog is very very very big."]).round()
        array([1.])
    """

    def __init__(
        self,
        preset: str | None = "fast",
        *,
        model: Mapping[str, Any] | None = None,
        score_range: ScoreRange | None = None,
        rounded: bool = False,
    ) -> None:
        self.preset = preset
        self.model = model
        self.score_range = score_range
        self.rounded = rounded

    def fit(self, X: Essays, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:  # noqa: N803 - scikit-learn's
        """Fit to scored essays.

        Args:
            X: N texts; or a DataFrame with the column ``text``, and ``prompt_id`` if they answer several prompts, each
                of which is fitted for itself.
            y: Human scores, (N,).
            sample_weight: What each essay counts, (N,), at least 0; by default all 1.

        Raises:
            ConfigError: The parameters are none of a scorer with an exact solver, or ask for columns beside the text.
            DataError: An essay is no text, a prompt no id, a score or weight no number, or there are too few.
        """
        if (self.model or {}).get("own_features"):
            raise ConfigError(
                f"{type(self).__name__} is fitted to texts alone, but model has own_features. Leave them out, or use "
                "aes_dynloss.finetune, which takes them from data.columns.features."
            )
        table = _essays(X)
        table["score"] = _numbers(y, "y", len(table))
        if sample_weight is not None:
            weights = _numbers(sample_weight, "sample_weight", len(table))
            if (weights < 0).any() or not weights.any():
                raise DataError("sample_weight: expected weights of at least 0, and not all zero. Correct them.")
            table = table.assign(weight=weights)[weights > 0]
        values = {
            "preset": self.preset,
            "data": {"source": type(self).__name__},
            "model": dict(self.model or {}),
        }
        config = validate(FinetuneConfig, values, type(self).__name__)
        prompts = {str(name): self._prompt(str(name), rows) for name, rows in table.groupby("prompt_id", sort=False)}
        essays = EssayTable(Dataset.from_pandas(table, preserve_index=False), prompts)
        with TemporaryDirectory() as folder:
            self.scorer_ = EssayScorer(fit_to_all(plain_accelerator(), config, essays, Path(folder)))
        return self

    def predict(self, X: Essays) -> NDArray[np.float64]:  # noqa: N803 - scikit-learn's
        """Predictions on the original scale, (N,).

        Args:
            X: As :meth:`fit` takes it.

        Raises:
            DataError: An essay is no text, or of a prompt that was not fitted.
        """
        check_is_fitted(self)
        scores = self.scorer_.score(_essays(X), policy=_SCORES_EVERY_ESSAY)
        return scores.score if self.rounded else scores.raw

    def _prompt(self, name: str, essays: pd.DataFrame) -> Prompt:
        """A prompt with its score points."""
        if self.score_range is not None:
            return Prompt(name, self.score_range)
        scores = essays["score"].to_numpy()
        try:
            return Prompt(name, infer_range([scores], f"prompt {name}", STEPS))
        except DataError:
            low, high = float(scores.min()), float(scores.max())
            return Prompt(name, ScoreRange(low, high, (high - low) / _FINE))

    def __sklearn_tags__(self) -> Any:  # noqa: ANN401 - scikit-learn is untyped
        """That it takes texts."""
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array, tags.input_tags.two_d_array, tags.input_tags.string = True, False, True
        return tags


def _essays(X: Essays) -> pd.DataFrame:  # noqa: N803 - scikit-learn's
    """Texts with numbers as ids, and the prompt of each."""
    table = essay_frame(X)
    if "text" not in table:
        raise DataError(f"X has the columns {', '.join(map(str, table))}; expected text, and perhaps prompt_id.")
    try:
        texts = [text_value({"text": text}, "text", blank="") for text in table["text"]]
        prompts: str | list[str] = ONE_PROMPT
        if "prompt_id" in table:
            prompts = [id_value({"prompt_id": prompt}, "prompt_id") for prompt in table["prompt_id"]]
    except CellError as error:
        raise DataError(f"X: {error}") from None
    ids = [str(number) for number in range(1, len(table) + 1)]
    return pd.DataFrame({"essay_id": ids, "prompt_id": prompts, "text": pd.Series(texts, dtype=object)})


def _numbers(values: ArrayLike | None, name: str, count: int) -> NDArray[np.float64]:
    """Finite numbers, one an essay."""
    if values is None:
        raise DataError(f"The regressor requires y to be passed, but the target {name} is None. Give human scores.")
    try:
        numbers = np.asarray(column_or_1d(values, warn=True), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name}: expected {count} finite numbers, one an essay: {error}. Correct them.") from None
    if numbers.shape != (count,) or not np.isfinite(numbers).all():
        found = f"{len(numbers)}" if numbers.shape != (count,) else "NaN or infinity among them"
        raise DataError(f"{name}: expected {count} finite numbers, one an essay, found {found}. Correct them.")
    return numbers
