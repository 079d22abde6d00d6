from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.metrics import cohen_kappa_score
from small_run import report_of, tune, write_small_run

from aes_dynloss.errors import CheckpointError, ConfigError, DataError
from aes_dynloss.essays import floors
from aes_dynloss.essays.data.data_config import DataConfig
from aes_dynloss.essays.data.readers import read_essays
from aes_dynloss.essays.data.splits import split_essays
from aes_dynloss.essays.features.linguistic import essay_numbers
from aes_dynloss.essays.floors import (
    FLOORS,
    RIDGE_ALPHAS,
    essay_floors,
    floor_figures,
    kept_floors,
    measure_floors,
    predict_floors,
)
from aes_dynloss.reports.measure_list import floor_title
from aes_dynloss.tables.score_range import ScoreRange

RANGES = {"a": ScoreRange(1, 6), "b": ScoreRange(0, 3)}
GOOD, BAD, FILLER = (
    "lucid argument",
    "dunno stuff",
    ["the", "essay", "says", "that", "people", "read", "books", "daily"],
)


def test_each_floor_has_a_name_for_readers():
    titles = [floor_title(name) for name in FLOORS]
    assert len(set(titles)) == len(FLOORS)
    assert not [title for title in titles if "_" in title]
    assert floor_title("of_my_own") == "of_my_own"


def essays(n, seed):
    """Essays whose length and words both tell the score, with noise."""
    random = np.random.default_rng(seed)
    rows = []
    for prompt, score_range in RANGES.items():
        for _ in range(n):
            score = float(random.choice(score_range.points))
            share = float(score_range.to_unit(score))
            words = list(random.choice(FILLER, int(20 + 60 * share + random.integers(0, 30))))
            words += [GOOD if random.random() < share else BAD for _ in range(4)]
            rows.append((prompt, " ".join(words), score))
    return pd.DataFrame(rows, columns=["prompt_id", "text", "reference"])


TRAIN, DEV, TEST = essays(60, 1), essays(30, 2), essays(40, 3)
FOUND = measure_floors(TRAIN, DEV, TEST, RANGES)


def kappa(human, raw, score_range):
    score = np.floor(np.clip(raw, score_range.low, score_range.high) + 0.5).astype(int)
    return cohen_kappa_score(human.astype(int), score, labels=score_range.points.astype(int), weights="quadratic")


def one_prompt(prompt):
    return [part[part["prompt_id"] == prompt] for part in (TRAIN, DEV, TEST)]


def length_predictions(prompt):
    def features(part):
        words = part["text"].str.split().str.len().to_numpy()
        return np.column_stack([words, np.log(words + 1)])

    train, dev, test = one_prompt(prompt)
    model = LinearRegression().fit(features(train), train["reference"])
    return model.predict(features(dev)), model.predict(features(test))


def test_every_floor_has_every_prompt_and_its_mean():
    names = ["mean_score", "length", "length_rescaled", "tfidf_ridge", "tfidf_ridge_rescaled"]
    names += ["words_and_ngrams", "words_and_ngrams_rescaled"]
    assert list(FOUND) == names == list(FLOORS)
    for floor in FOUND.values():
        assert list(floor["prompts"]) == ["a", "b"]
        assert floor["mean"] == pytest.approx(np.mean(list(floor["prompts"].values())))


def test_mean_score_is_worth_nothing():
    assert FOUND["mean_score"]["mean"] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("prompt", RANGES)
def test_length_is_plain_least_squares(prompt):
    _, _, test = one_prompt(prompt)
    _, raw = length_predictions(prompt)
    assert FOUND["length"]["prompts"][prompt] == pytest.approx(kappa(test["reference"], raw, RANGES[prompt]))
    assert FOUND["length"]["prompts"][prompt] > 0.3


@pytest.mark.parametrize("prompt", RANGES)
def test_length_rescaled_has_the_moments_of_dev(prompt):
    _, dev, test = one_prompt(prompt)
    dev_raw, raw = length_predictions(prompt)
    rescaled = (raw - dev_raw.mean()) / dev_raw.std() * dev["reference"].std(ddof=0) + dev["reference"].mean()
    assert FOUND["length_rescaled"]["prompts"][prompt] == pytest.approx(
        kappa(test["reference"], rescaled, RANGES[prompt])
    )


def ridge_kappas(prompt, dev):
    """Kappa of dev and of test for each alpha, by dense algebra."""
    train, _, test = one_prompt(prompt)
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True).fit(train["text"])
    dense = [vectorizer.transform(part["text"]).toarray() for part in (train, dev, test)]
    of_dev, of_test = {}, {}
    for alpha in RIDGE_ALPHAS:
        model = Ridge(alpha=alpha, solver="cholesky").fit(dense[0], train["reference"])
        of_dev[alpha] = kappa(dev["reference"], model.predict(dense[1]), RANGES[prompt])
        of_test[alpha] = kappa(test["reference"], model.predict(dense[2]), RANGES[prompt])
    return of_dev, of_test


@pytest.mark.parametrize("prompt", RANGES)
def test_tfidf_ridge_takes_the_alpha_that_dev_prefers(prompt):
    of_dev, of_test = ridge_kappas(prompt, one_prompt(prompt)[1])
    best = max(RIDGE_ALPHAS, key=lambda alpha: of_dev[alpha])
    assert len({round(value, 6) for value in of_test.values()}) > 1
    assert FOUND["tfidf_ridge"]["prompts"][prompt] == pytest.approx(of_test[best], abs=1e-9)


@pytest.mark.parametrize("prompt", RANGES)
def test_tfidf_ridge_rescaled_has_the_moments_of_dev(prompt):
    train, dev, test = one_prompt(prompt)
    of_dev, _ = ridge_kappas(prompt, dev)
    alpha = max(RIDGE_ALPHAS, key=lambda alpha: of_dev[alpha])
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True).fit(train["text"])
    model = Ridge(alpha=alpha, solver="cholesky").fit(vectorizer.transform(train["text"]).toarray(), train["reference"])
    dev_raw, raw = (model.predict(vectorizer.transform(part["text"]).toarray()) for part in (dev, test))
    rescaled = (raw - dev_raw.mean()) / dev_raw.std() * dev["reference"].std(ddof=0) + dev["reference"].mean()
    expected = kappa(test["reference"], rescaled, RANGES[prompt])
    assert FOUND["tfidf_ridge_rescaled"]["prompts"][prompt] == pytest.approx(expected, abs=1e-9)
    assert FOUND["tfidf_ridge_rescaled"]["mean"] != pytest.approx(FOUND["tfidf_ridge"]["mean"], abs=1e-3)


def test_of_equal_alphas_the_strongest_penalty_is_taken():
    dev = one_prompt("b")[1].head(1).assign(reference=0.0)
    far_off = dev.assign(reference=3.0, text=BAD)
    for few in (dev, far_off):
        of_dev, of_test = ridge_kappas("b", few)
        ties = [alpha for alpha in RIDGE_ALPHAS if of_dev[alpha] == max(of_dev.values())]
        assert len({of_test[alpha] for alpha in ties}) > 1
        test = TEST[TEST["prompt_id"] == "b"]
        found = measure_floors(TRAIN, few, test, RANGES, names=("tfidf_ridge",))["tfidf_ridge"]["mean"]
        assert found == pytest.approx(of_test[ties[0]], abs=1e-9)


def test_a_run_fits_its_floors_on_train_alone(tmp_path):
    frames = {"train": TRAIN, "dev": DEV, "test": TEST}
    rows = pd.concat([frame.assign(part=name) for name, frame in frames.items()], ignore_index=True)
    rows = rows.rename(columns={"reference": "score"}).assign(essay_id=rows.index.map("essay {}".format))
    rows.to_csv(tmp_path / "essays.csv", index=False)
    prompts = {prompt: {"low": each.low, "high": each.high} for prompt, each in RANGES.items()}
    values = {"source": str(tmp_path / "essays.csv"), "prompts": prompts, "split": {"column": "part"}}
    config = DataConfig.model_validate(values)
    parts = split_essays(read_essays(config), config.split).tables()
    found = essay_floors(parts, RANGES)
    assert floor_figures(found) == FOUND
    ids = {essay for essay, part in zip(rows["essay_id"], rows["part"], strict=True) if part == "test"}
    assert all(set(table["essay_id"]) == ids for table in found.values())
    assert list(found["length"]) == ["essay_id", "prompt_id", "reference", "raw", "score"]


@pytest.mark.parametrize("prompt", RANGES)
def test_raw_is_kept_before_it_is_rescaled(prompt):
    _, raw = length_predictions(prompt)
    found = predict_floors(TRAIN, DEV, TEST, RANGES, names=("length", "length_rescaled"))
    tables = {name: table[table["prompt_id"] == prompt] for name, table in found.items()}
    for table in tables.values():
        np.testing.assert_allclose(table["raw"], raw)
        assert RANGES[prompt].is_score_point(table["score"]).all()
    np.testing.assert_array_equal(tables["length"]["score"], RANGES[prompt].to_point(raw))
    assert tables["length_rescaled"]["score"].std() > tables["length"]["score"].std()


def test_test_scores_do_not_leak_into_the_predictions():
    swapped = TEST.assign(reference=TEST["reference"].to_numpy()[::-1].copy())
    found = measure_floors(TRAIN, DEV, swapped[swapped["prompt_id"] == "b"], RANGES, names=("length_rescaled",))
    assert found["length_rescaled"]["mean"] < FOUND["length_rescaled"]["prompts"]["b"]


def test_an_empty_essay_has_length_zero():
    blank = TEST.assign(text="")
    assert measure_floors(TRAIN, DEV, blank, RANGES, names=("length",))["length"]["mean"] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"train": TRAIN.drop(columns="text")},
            "need the columns prompt_id, text, reference; the train essays lack text",
        ),
        ({"dev": DEV.iloc[:0]}, "need dev essays, found none"),
        ({"train": TRAIN[TRAIN["prompt_id"] == "a"]}, "prompt b has no train essays"),
        ({"dev": DEV[DEV["prompt_id"] == "a"]}, "prompt b has no dev essays"),
        ({"test": TEST.assign(reference=np.nan)}, "a human score for every one of the test essays"),
        ({"ranges": {"a": ScoreRange(1, 6)}}, "need the score range of prompt b; none is given"),
        ({"train": TRAIN.assign(text="a ?")}, "no word of two letters or more in the train texts"),
    ],
)
def test_essays_that_cannot_be_used(change, message):
    parts = {"train": TRAIN, "dev": DEV, "test": TEST, "ranges": RANGES, **change}
    with pytest.raises(DataError, match=message):
        measure_floors(**parts)


def test_an_unknown_floor():
    with pytest.raises(ConfigError, match="Unknown floor 'lenght'; known are mean_score, length, length_rescaled"):
        measure_floors(TRAIN, DEV, TEST, RANGES, names=("lenght",))


def test_two_train_essays_of_a_prompt_still_have_floors():
    """Too few to leave one out: words and n-grams say no more than the mean."""
    few = pd.concat([one_prompt("a")[0].head(2), one_prompt("b")[0]])
    found = measure_floors(few, DEV, TEST, RANGES, ("words_and_ngrams",))
    assert found["words_and_ngrams"]["prompts"]["a"] == pytest.approx(0)
    assert found["words_and_ngrams"]["prompts"]["b"] > 0.3


def test_words_and_ngrams_are_rescaled_by_predictions_left_out_of_train():
    """Dev has no part in it: no essay is spent."""
    names = ("words_and_ngrams_rescaled",)
    other = DEV.assign(reference=lambda dev: RANGES["a"].low + 0 * dev["reference"])
    assert measure_floors(TRAIN, DEV, TEST, RANGES, names) == measure_floors(TRAIN, other, TEST, RANGES, names)


def two_traits(part):
    """Prompt a with two scores an essay, the second the first upside down; and prompt b."""
    one = part[part["prompt_id"] == "a"]
    other = one.assign(prompt_id="a/other", reference=RANGES["a"].low + RANGES["a"].high - one["reference"])
    return pd.concat([one, other, part[part["prompt_id"] == "b"]], ignore_index=True)


def test_traits_of_the_same_essays_are_fitted_together_and_predicted_as_each_alone(monkeypatch):
    ranges = {**RANGES, "a/other": RANGES["a"]}
    parts = [two_traits(part) for part in (TRAIN, DEV, TEST)]
    alone = [predict_floors(*(part[part["prompt_id"] == prompt] for part in parts), ranges) for prompt in ranges]
    counted = []

    def count(texts, *rest):
        counted.append(len(texts))
        return essay_numbers(texts, *rest)

    monkeypatch.setattr(floors, "essay_numbers", count)
    together = predict_floors(*parts, ranges)
    assert counted == [60, 40] * 2
    for name, table in together.items():
        expected = pd.concat([one[name] for one in alone]).set_index("prompt_id").loc[["a", "a/other", "b"]]
        found = table.set_index("prompt_id")
        np.testing.assert_allclose(found["raw"], expected["raw"], atol=1e-9)
        assert found["score"].tolist() == expected["score"].tolist()


MADE_OF = {"data": {"sha256": "1"}, "split": "2"}


class TestCache:
    def figures(self):
        return {name: {"prompts": {"a": 0.5}, "mean": 0.5} for name in FLOORS}

    def never(self, *_):
        raise RuntimeError("fitted again")

    def test_what_is_kept_is_not_fitted_again(self, tmp_path):
        first = kept_floors(tmp_path / "new", MADE_OF, self.figures)
        assert first == kept_floors(tmp_path / "new", MADE_OF, self.never) == self.figures()

    @pytest.mark.parametrize("other", [{"data": {"sha256": "3"}}, {"split": "3"}])
    def test_other_essays_or_splits_are_fitted(self, tmp_path, other):
        kept_floors(tmp_path, MADE_OF, self.figures)
        with pytest.raises(RuntimeError, match="fitted again"):
            kept_floors(tmp_path, MADE_OF | other, self.never)

    @pytest.mark.parametrize("content", ["", "{}", "[1]", '{"made_of": 3, "figures": {}}'])
    def test_a_damaged_file_is_fitted_again(self, tmp_path, content):
        kept_floors(tmp_path, MADE_OF, self.figures)
        next(tmp_path.glob("*.json")).write_text(content)
        assert kept_floors(tmp_path, MADE_OF, self.figures) == self.figures()
        assert kept_floors(tmp_path, MADE_OF, self.never) == self.figures()

    def test_a_folder_that_cannot_be_written(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(CheckpointError, match=r"evaluation\.floors_cache"):
            kept_floors(tmp_path / "file", MADE_OF, self.figures)

    def test_a_run_keeps_them(self, tmp_path, monkeypatch):
        """Of the same essays and splits, whatever the model."""
        write_small_run(tmp_path)
        words = ["evaluation.floors=true", f"evaluation.floors_cache={tmp_path / 'floors'}", "training.epochs=1"]
        assert tune(tmp_path / "run.yaml", tmp_path / "one", *words).code == 0
        monkeypatch.setattr("aes_dynloss.essays.finetune.run.essay_floors", self.never)
        assert tune(tmp_path / "run.yaml", tmp_path / "other", *words, "model.log_length=false").code == 0
        one, other = (report_of(tmp_path / name)["floors"] for name in ("one", "other"))
        assert one == other
