"""The estimator in the manner of scikit-learn: its own figures, model selection, and scikit-learn's checks."""

from __future__ import annotations

import pickle
import warnings
from functools import partial

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import estimator_checks
from small_run import small_essays

from aes_dynloss import ConfigError, DataError, EssayScoreRegressor, ScoreRange, finetune

COUNTS = {"linguistic": ["counts"]}
PHONES = [row for row in small_essays() if row["prompt_id"] == "phones"]
TEXTS, SCORES = [row["text"] for row in PHONES], np.array([row["score"] for row in PHONES], dtype=float)


def quick(**parameters) -> EssayScoreRegressor:
    return EssayScoreRegressor(**{"model": COUNTS, **parameters})


@pytest.fixture(scope="module")
def fitted() -> EssayScoreRegressor:
    return quick().fit(TEXTS, SCORES)


def test_it_is_the_model_of_a_run(fitted, tmp_path):
    """What is fitted to all essays scores as the model that `finetune` leaves behind."""
    values = {"model.linguistic": ["counts"], "evaluation.resamples": 100, "evaluation.floors": False}
    overrides = values | {"evaluation.page": False, "evaluation.explained": 0, "data.split.cross_fit": 3}
    table = pd.DataFrame({"text": TEXTS, "score": SCORES})
    run = finetune(table, tmp_path / "run", preset="fast", overrides=overrides)
    others = [row["text"] for row in small_essays() if row["prompt_id"] == "river"]
    one, other = fitted.scorer_.score(others), run.scorer.score(others)
    # A model folder keeps weights in float32.
    np.testing.assert_allclose(fitted.predict(others)[~one.withheld], other.raw[~other.withheld], rtol=1e-6)
    assert one.advisories == other.advisories
    assert any(one.advisories)


def test_predictions(fitted):
    raw = fitted.predict(TEXTS)
    assert (raw.dtype, raw.shape) == (np.float64, SCORES.shape)
    assert fitted.score(TEXTS, SCORES) == r2_score(SCORES, raw)
    assert np.isfinite(fitted.predict(["", "word " * 300, TEXTS[0]])).all()
    points = quick(rounded=True).fit(TEXTS, SCORES).predict(TEXTS)
    assert set(points) <= set(range(1, 7))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).predict(TEXTS), raw)


@pytest.mark.parametrize("form", [np.array, pd.Series, tuple, lambda texts: np.array(texts, dtype=object)])
def test_forms_of_texts(fitted, form):
    again = quick().fit(form(TEXTS), list(SCORES))
    np.testing.assert_array_equal(again.predict(form(TEXTS)), fitted.predict(TEXTS))


def test_parameters():
    regressor = quick(score_range=ScoreRange(0, 6))
    assert clone(regressor).get_params() == regressor.get_params()
    assert regressor.set_params(preset=None, rounded=True).get_params()["preset"] is None
    assert repr(EssayScoreRegressor()) == "EssayScoreRegressor()"


def test_model_selection_with_groups_and_weights():
    groups, weights = np.arange(len(TEXTS)) // 3, np.where(SCORES > 3, 4.0, 1.0)
    options = {"groups": groups, "cv": GroupKFold(3)}
    plain = cross_val_predict(quick(), TEXTS, SCORES, **options)
    weighted = cross_val_predict(quick(), TEXTS, SCORES, params={"sample_weight": weights}, **options)
    assert plain.shape == SCORES.shape
    assert weighted.mean() > plain.mean()
    search = GridSearchCV(quick(), {"model": [COUNTS, {"solver": "ridge"}]}, cv=3, n_jobs=1)
    search.fit(np.array(TEXTS), SCORES)
    assert search.best_params_["model"] in search.param_grid["model"]
    assert search.predict(TEXTS[:2]).shape == (2,)


def test_pipeline(fitted):
    pipeline = make_pipeline(FunctionTransformer(lambda texts: [text.strip() for text in texts]), quick())
    padded = [f"  {text}\n" for text in TEXTS]
    stripped = quick().fit([text.strip() for text in TEXTS], SCORES)
    np.testing.assert_array_equal(
        pipeline.fit(padded, SCORES).predict(padded), stripped.predict([*map(str.strip, TEXTS)])
    )


def test_several_prompts(fitted):
    rows = small_essays()
    table = pd.DataFrame(rows, index=range(7, 67))[["prompt_id", "text"]]
    scores = [row["score"] for row in rows]
    both = quick().fit(table, scores)
    assert both.scorer_.prompts == ["phones", "river"]
    own = [row["prompt_id"] == "phones" for row in rows]
    np.testing.assert_allclose(both.predict(table[own]), fitted.predict(TEXTS), rtol=1e-9)
    with pytest.raises(DataError, match="was not trained on prompt 'hill'"):
        both.predict(table.assign(prompt_id="hill"))


def test_weights(fitted):
    weights = np.ones(len(TEXTS))
    np.testing.assert_allclose(quick().fit(TEXTS, SCORES, 2 * weights).predict(TEXTS), fitted.predict(TEXTS))
    weights[:10] = 0
    without = quick().fit(TEXTS[10:], SCORES[10:], weights[10:])
    np.testing.assert_allclose(quick().fit(TEXTS, SCORES, weights).predict(TEXTS), without.predict(TEXTS))


def test_scores_on_no_grid():
    scores = SCORES / 3 + np.linspace(0, 0.01, len(SCORES))
    regressor = quick().fit(TEXTS, scores)
    assert abs(regressor.predict(TEXTS) - scores).mean() < 0.5


def of_prompts(prompt_ids) -> pd.DataFrame:
    return pd.DataFrame({"text": TEXTS, "prompt_id": prompt_ids})


@pytest.mark.parametrize(
    ("parameters", "arguments", "error", "message"),
    [
        ({}, (TEXTS[0], SCORES), DataError, "found one text"),
        ({}, (TEXTS, SCORES[1:]), DataError, "y: expected 30 finite numbers, one an essay, found 29"),
        ({}, (TEXTS, SCORES * np.nan), DataError, "found NaN or infinity among them"),
        ({}, (TEXTS, ["good"] * 30), DataError, "y: expected 30 finite numbers, one an essay: could not convert"),
        ({}, (TEXTS, np.ones((30, 2))), DataError, "y: expected 30 finite numbers, one an essay: y should be a 1d"),
        ({}, (TEXTS, None), DataError, "requires y to be passed"),
        ({}, ([*TEXTS[1:], 7], SCORES), DataError, "X: text is 7; expected text"),
        ({}, (pd.DataFrame({"essay": TEXTS}), SCORES), DataError, "X has the columns essay; expected text"),
        ({}, (of_prompts(["1", np.nan] * 15), SCORES), DataError, "X: prompt_id is empty"),
        ({}, (of_prompts([1, None] * 15), SCORES), DataError, r"X: prompt_id is 1\.0; expected text or a whole number"),
        ({}, (TEXTS[:2], SCORES[:2]), DataError, "needs at least 3"),
        ({}, (TEXTS, SCORES, -SCORES), DataError, "sample_weight"),
        ({"preset": "quick"}, (TEXTS, SCORES), ConfigError, "preset"),
        ({"model": {"own_features": ["age"]}}, (TEXTS, SCORES), ConfigError, "is fitted to texts alone, but model has"),
        ({"model": {"solvers": 1}}, (TEXTS, SCORES), ConfigError, "solvers"),
        ({"preset": None, "model": {}}, (TEXTS, SCORES), ConfigError, "solver sgd needs dev essays"),
    ],
)
def test_refusals(parameters, arguments, error, message):
    with pytest.raises(error, match=message):
        quick(**parameters).fit(*arguments)


class OfNumbers(EssayScoreRegressor):
    """Takes the tables of numbers that scikit-learn's checks bring, each row as a text of words."""

    def fit(self, X, y, sample_weight=None):
        return super().fit(written(X), y, sample_weight)

    def predict(self, X):
        return super().predict(written(X))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array, tags.input_tags.two_d_array, tags.input_tags.string = False, True, False
        return tags


def written(table) -> list[str]:
    return [
        " ".join(f"{'abcdefgh'[k % 8]}{round(float(one) * 10)}" for k, one in enumerate(row))
        for row in np.asarray(table)
    ]


_NO_NUMBERS = "X is text, which has no columns of numbers to count, to look through for NaN, or to be sparse"
NOT_OF_TEXT = {
    "check_n_features_in_after_fitting": _NO_NUMBERS,
    "check_n_features_in": _NO_NUMBERS,
    "check_estimators_nan_inf": _NO_NUMBERS,
    "check_estimator_sparse_tag": _NO_NUMBERS,
    "check_estimator_sparse_array": _NO_NUMBERS,
    "check_estimator_sparse_matrix": _NO_NUMBERS,
    "check_estimators_empty_data_messages": "a row without features is an essay without words, which has a score",
    "check_fit1d": "texts are one-dimensional",
    "check_fit2d_predict1d": "texts are one-dimensional",
    "check_fit2d_1sample": "the message says in other words that one essay is too few",
    "check_sample_weight_equivalence_on_dense_data": "the penalty is chosen by leave-one-out, in which an essay that "
    "is given twice predicts itself",
}


def _named(value: object) -> str:
    """The same in all processes: a partial function's repr has its address."""
    if not isinstance(value, partial):
        return type(value).__name__
    return " ".join([value.func.__name__, *(f"{name}={one}" for name, one in value.keywords.items())])


if hasattr(estimator_checks, "estimator_checks_generator"):  # scikit-learn 1.6
    _made = estimator_checks.estimator_checks_generator(
        OfNumbers(model=COUNTS), expected_failed_checks=NOT_OF_TEXT, mark="xfail"
    )
    checks = pytest.mark.parametrize(("estimator", "check"), list(_made), ids=_named)
else:
    checks = pytest.mark.skip("scikit-learn before 1.6 has other checks")


@checks
@pytest.mark.filterwarnings("ignore")
def test_checks_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.mark.skipif(not hasattr(estimator_checks, "estimator_checks_generator"), reason="scikit-learn before 1.6")
def test_checks_that_need_no_numbers():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Can't test estimator")
        estimator_checks.check_estimator(quick())
