"""`EssayScorer`: forms of input, what it gives back, what it refuses."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest
from advised_scorer import PROMPTS, write_advised
from command_line import command
from essay_files import write_rows
from explained_scorers import TEXTS as OF_ONE_PROMPT
from explained_scorers import classical
from small_screen import made_up

from aes_dynloss import CheckpointError, ConfigError, DataError, EssayScorer
from aes_dynloss.essays.explaining.explanation import Explanation
from aes_dynloss.essays.screening.kinds import KINDS, Policy

BRIDGE, PHONES = PROMPTS
RANDOM = np.random.default_rng(4)
TEXTS = [made_up(PROMPTS[number % 2], RANDOM, 90 + 10 * number) for number in range(6)]
ANSWERED = [PROMPTS[number % 2] for number in range(6)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_advised(tmp_path_factory.mktemp("scorer"), "ordinal")


@pytest.fixture(scope="module")
def scorer(folder) -> EssayScorer:
    return EssayScorer.from_pretrained(folder, cpu=True)


@pytest.fixture(scope="module")
def one_prompt() -> EssayScorer:
    return EssayScorer(classical())


def test_what_it_is(scorer):
    assert repr(scorer) == "EssayScorer(prompts: bridge, phones)"
    assert scorer.prompts == [BRIDGE, PHONES]


FORMS = {
    "list": lambda: (TEXTS, ANSWERED),
    "Series": lambda: (pd.Series(TEXTS), pd.Series(ANSWERED)),
    "array": lambda: (np.array(TEXTS), np.array(ANSWERED)),
    "generator": lambda: ((text for text in TEXTS), tuple(ANSWERED)),
    "DataFrame": lambda: (pd.DataFrame({"text": TEXTS, "prompt_id": ANSWERED}), None),
    "DataFrame and prompts": lambda: (pd.DataFrame({"answer": TEXTS}), ANSWERED),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_essays(scorer, form):
    plain = scorer.score(TEXTS, ANSWERED)
    essays, prompt_ids = FORMS[form]()
    scores = scorer.score(essays, prompt_ids)
    assert scores.columns == plain.columns
    assert (scores.essay_ids, scores.prompt_ids) == (["1", "2", "3", "4", "5", "6"], ANSWERED)


def test_one_prompt_needs_no_ids(scorer, one_prompt):
    raw = one_prompt.score(OF_ONE_PROMPT).raw
    np.testing.assert_array_equal(raw, one_prompt.score(OF_ONE_PROMPT, "a").raw)
    np.testing.assert_array_equal(raw, one_prompt.model.score(OF_ONE_PROMPT).raw)
    assert scorer.score(TEXTS, PHONES).prompt_ids == [PHONES] * 6


def test_result(scorer):
    scores = scorer.score([*TEXTS, "", TEXTS[0]], [*ANSWERED, BRIDGE, BRIDGE], probabilities=True)
    assert len(scores) == 8
    assert repr(scores) == f"EssayScores(8 essays, {scores.withheld.sum()} without a score)"
    assert scores.withheld[6]
    assert np.isnan([scores.raw[6], scores.score[6], scores.low[6], scores.high[6], scores.certainty[6]]).all()
    given = ~scores.withheld
    assert given[:6].any()
    assert (scores.low <= scores.score)[given].all()
    assert (scores.score <= scores.high)[given].all()
    assert sum(scores.probabilities[0].values()) == pytest.approx(1)
    assert scores.advisories[6] == ["empty"]
    assert scores.reasons[6] == ["The essay has no words."]
    assert "duplicate" in scores.advisories[7]
    assert "same text as essay 1" in " ".join(scores.reasons[7])
    with pytest.raises(KeyError, match="There is no trait 'style'; essays have one score"):
        scores["style"]
    assert "<table" in scores._repr_html_()


def test_frame_has_the_rows_labels(scorer, folder, tmp_path):
    table = pd.DataFrame({"text": TEXTS, "prompt_id": ANSWERED}, index=[f"row {n}" for n in range(6)])
    frame = scorer.score(table, probabilities=True).to_frame()
    assert list(frame.index) == list(table.index)
    assert list(scorer.score(TEXTS, ANSWERED).to_frame().index) == list(range(6))
    assert list(scorer.score(table["text"], ANSWERED).to_frame().index) == list(table.index)
    write_rows(tmp_path / "essays.jsonl", table.to_dict("records"))
    words = ["--probabilities", "-o", tmp_path / "scores.parquet"]
    assert command("score", folder, tmp_path / "essays.jsonl", *words).code == 0
    expected = pd.read_parquet(tmp_path / "scores.parquet")
    assert list(frame) == list(expected)
    assert frame["raw"].tolist() == expected["raw"].tolist()
    assert [str(kind) for kind in frame[["raw", "low", "certainty", "withheld"]].dtypes] == ["float64"] * 3 + ["bool"]


def test_nothing_to_score(scorer):
    for none in ([], pd.Series([], dtype=object)):
        scores = scorer.score(none, [])
        assert len(scores) == 0
        assert repr(scores) == "EssayScores(0 essays)"
        assert scores.raw.shape == (0,)
        assert "score" in scores.to_frame()


def test_policy_and_coverage(scorer):
    texts, hostile = [*TEXTS, TEXTS[1]], PHONES
    off = scorer.score(texts, hostile, policy=dict.fromkeys(KINDS, "off"))
    assert not off.withheld.any()
    assert off.advisories == [[]] * 7
    for policy in ({"duplicate": "withhold"}, Policy(duplicate="withhold")):
        assert scorer.score(texts, hostile, policy=policy).withheld[6]
    wide, narrow = (scorer.score(TEXTS, ANSWERED, coverage=coverage) for coverage in (0.95, 0.5))
    assert np.nanmean(wide.high - wide.low) > np.nanmean(narrow.high - narrow.low)


def test_named_columns(scorer):
    table = pd.DataFrame({"a": TEXTS, "b": ANSWERED, "c": range(10, 16)})
    scores = scorer.score(table, columns={"text": "a", "prompt_id": "b", "essay_id": "c"})
    assert (scores.essay_ids, scores.prompt_ids) == ([str(number) for number in range(10, 16)], ANSWERED)


@pytest.mark.parametrize("prompt_ids", [ANSWERED[::-1], PHONES])
def test_prompts_are_given_once(scorer, prompt_ids):
    table = pd.DataFrame({"text": TEXTS, "task": ANSWERED})
    with pytest.raises(DataError, match=r"has a column 'task', and .* Give one of the two"):
        scorer.score(table, prompt_ids, columns={"prompt_id": "task"})


def test_features_beside_the_text():
    model = classical()
    model.config = model.config.model_copy(update={"own_features": ["age"]})
    asked = {}

    def score(texts, prompt_ids=None, *, features=None, **_):
        asked["features"] = features
        return classical().score(texts, prompt_ids)

    model.score = score
    scorer, expected = EssayScorer(model), [{"age": 14.0}, {"age": 15.5}]
    for essays, features in (
        (pd.DataFrame({"text": OF_ONE_PROMPT[:2], "age": [14, 15.5]}), None),
        (OF_ONE_PROMPT[:2], expected),
        (OF_ONE_PROMPT[:2], pd.DataFrame(expected)),
    ):
        scorer.score(essays, features=features)
        assert asked["features"] == expected
    with pytest.raises(DataError, match="Expected features of 2 essays, found those of 1"):
        scorer.score(OF_ONE_PROMPT[:2], features=expected[:1])
    for essays, name in ((OF_ONE_PROMPT[:2], "text"), (pd.DataFrame({"text": OF_ONE_PROMPT[:2], "age": 3}), "age")):
        with pytest.raises(DataError, match=f"features names {name}, which the essays have already"):
            scorer.score(essays, features=[{name: 5}] * 2)
    with pytest.raises(DataError, match="The model was trained with this column beside the text"):
        scorer.score(OF_ONE_PROMPT[:2])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((TEXTS[0], PHONES), DataError, r"Expected a list of essays, found one text\. Put it in a list"),
        ((TEXTS,), DataError, "names no prompt, and the model knows bridge, phones"),
        ((TEXTS, ["hill"] * 6), DataError, "was not trained on prompt 'hill'"),
        ((TEXTS, ANSWERED[1:]), DataError, "found 6 essays and 5 ids"),
        (([TEXTS[0], 7], PHONES), DataError, r"the DataFrame.*text is 7; expected text"),
        ((["half \ud800 a pair"], PHONES), DataError, "surrogate"),
        ((pd.DataFrame({"n": [1, 2]}), PHONES), DataError, "which column holds the essays"),
        ((pd.DataFrame({"text": TEXTS, "prompt_id": ANSWERED}), ANSWERED), DataError, "Give one of the two"),
        ((pd.DataFrame({"text": TEXTS, "prompt_id": ANSWERED}), PHONES), DataError, "Give one of the two"),
    ],
)
def test_refusals(scorer, arguments, error, message):
    with pytest.raises(error, match=message):
        scorer.score(*arguments)


def test_refused_options(scorer, tmp_path):
    with pytest.raises(ConfigError, match="policy of advisories"):
        scorer.score(TEXTS, ANSWERED, policy={"spelling": "off"})
    with pytest.raises(ConfigError, match="overage"):
        scorer.score(TEXTS, ANSWERED, coverage=2)
    with pytest.raises(ConfigError, match="The choice of columns"):
        scorer.score(pd.DataFrame({"essay": TEXTS}), ANSWERED, columns={"essay": "essay"})
    with pytest.raises(CheckpointError, match="no model folder"):
        EssayScorer.from_pretrained(tmp_path / "none")


@pytest.mark.parametrize("change", ["replaced", "removed"])
def test_it_saves_the_model_that_scores(tmp_path, change):
    folder = tmp_path / "model"
    classical().save_pretrained(folder)
    scorer = EssayScorer.from_pretrained(folder)
    scorer.save_pretrained(tmp_path / "copy")
    assert (tmp_path / "copy/config.json").read_bytes() == (folder / "config.json").read_bytes()
    if change == "replaced":
        classical(kernel=False).save_pretrained(folder)
    else:
        shutil.rmtree(folder)
    for save in (scorer.save_pretrained, scorer.push_to_hub):
        with pytest.raises(CheckpointError, match=r"is not what was opened: .* Open it again"):
            save(str(tmp_path / "other"))
    assert not (tmp_path / "other").exists()


def test_explanations(one_prompt):
    (one, _) = one_prompt.explain(OF_ONE_PROMPT[:2], nearest=False)
    assert isinstance(one, Explanation)
    assert one.scores[0].raw == pytest.approx(one_prompt.score(OF_ONE_PROMPT[:1]).raw[0])
    assert len(one.scores[0].contributions) == len(one.sentences)
    again, _ = one_prompt.explain(pd.DataFrame({"text": OF_ONE_PROMPT[:2]}), nearest=False)
    assert again.to_dict()["scores"] == one.to_dict()["scores"]
    assert one_prompt.explain([""], "a", policy={"empty": "advise"})[0].withheld is False
    assert one_prompt.explain([""], "a")[0].withheld is True
