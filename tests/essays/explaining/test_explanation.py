"""Explanations: faithful to what the model does, exact where they say so, and slices of the essay."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from explained_scorers import SCORERS, TEXT, classical, with_kernel
from small_screen import small_screen
from tiny_encoder import write_tiny_encoder
from tiny_scorer import tiny_scorer

from aes_dynloss.errors import DataError
from aes_dynloss.essays.data.readers import UnscoredEssay
from aes_dynloss.essays.explaining.explanation import ALWAYS_EXACT, explain_essays
from aes_dynloss.essays.explaining.feature_parts import feature_parts
from aes_dynloss.essays.explaining.occlusion import left_out, sentence_values
from aes_dynloss.essays.explaining.reading import Reading
from aes_dynloss.essays.explaining.sentences import sentence_spans
from aes_dynloss.essays.features.linguistic import ALL_GROUPS, GROUPS
from aes_dynloss.essays.features.own_features import register_feature
from aes_dynloss.essays.scoring.score import score_essays
from aes_dynloss.essays.screening.kinds import Policy


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return write_tiny_encoder(tmp_path_factory.mktemp("explained") / "encoder")


@pytest.mark.parametrize("name", SCORERS)
def test_feature_parts_sum_to_the_score(encoder, name):
    scorer = SCORERS[name](encoder)
    for prompt in scorer.prompts:
        parts = feature_parts(scorer, Reading(TEXT), prompt)
        raw = scorer.score([TEXT], [prompt]).raw[0]
        assert parts.baseline + sum(parts.groups.values()) == pytest.approx(raw, abs=2e-5)
        assert len(parts.groups) == len(set(parts.groups))
    if name == "linear":
        assert set(parts.groups) == {"encoder", "length", *GROUPS}


@pytest.mark.parametrize("kernel", [True, False])
def test_feature_parts_of_counts_sum_to_the_score(kernel):
    scorer = classical(kernel=kernel)
    parts = feature_parts(scorer, Reading(TEXT), "a")
    assert parts.baseline + sum(parts.groups.values()) == pytest.approx(scorer.score([TEXT]).raw[0], abs=1e-9)
    assert parts.groups["n-grams"] != 0


@pytest.mark.parametrize(("own", "columns"), [(3, 0), (4, 0), (3, 1), (60, 2)])
def test_a_hidden_layer_over_many_groups_of_ones_own(encoder, own_parts, own, columns):
    """All choices of groups are looked at: where these would be too many, one's own are taken together."""
    names = [f"own_{'abcdefghij'[number % 10]}{number}" for number in range(own)]
    for number, name in enumerate(names):
        register_feature(name)(lambda text, number=number: float(len(text) % (number + 2)))
    of_essay = {f"column_{number}": 1.5 for number in range(columns)}
    seen = {"linguistic": ["all", *names], "own_features": [*of_essay], "log_length": True}
    scorer = tiny_scorer(encoder, hidden=4, **seen)
    parts = feature_parts(scorer, Reading(TEXT, of_essay or None), "letter")
    raw = scorer.score([TEXT], ["letter"], features=[of_essay] if columns else None).raw[0]
    assert parts.baseline + sum(parts.groups.values()) == pytest.approx(raw, abs=2e-5)
    mine = names if own == 3 and not columns else ["own features and columns"]
    assert [*parts.groups] == ["encoder", "length", *ALL_GROUPS, *mine]
    assert all(parts.groups[name] != 0 for name in mine)


@pytest.mark.parametrize("config", [{"head": "softmax"}, {"link": "sigmoid"}])
def test_heads_without_averages_have_no_parts(encoder, config):
    assert feature_parts(tiny_scorer(encoder, **config), Reading(TEXT), "letter") is None


@pytest.mark.parametrize("name", SCORERS)
def test_the_whole_essay_and_what_needs_no_reading_are_exact(encoder, name):
    """One reading gives the whole essay its score; and the empty essay's counts."""
    scorer, spans = SCORERS[name](encoder), sentence_spans(TEXT)
    values = sentence_values(scorer, Reading(TEXT), ["letter"], spans)
    raw = scorer.score([TEXT], ["letter"]).raw
    np.testing.assert_allclose(values(np.ones((1, 4), dtype=bool))[0], raw, atol=2e-5)
    anew = sentence_values(scorer, Reading(TEXT), ["letter"], spans, exact=True)
    choice = np.array([[True, False, True, False]])
    text = "".join(spans[place].of(TEXT) for place in (0, 2))
    np.testing.assert_allclose(anew(choice)[0], scorer.score([text], ["letter"]).raw, atol=1e-6)


def test_an_encoder_without_attention_needs_one_reading(encoder):
    """Where tokens do not see each other, leaving tokens out of what was read is reading anew."""
    scorer = tiny_scorer(encoder, log_length=True)
    with torch.no_grad():
        for name, parameter in scorer.model.encoder.named_parameters():
            if "attention.output.dense" in name or "position_embeddings" in name:
                parameter.zero_()
    spans = sentence_spans(TEXT)
    once, anew = (sentence_values(scorer, Reading(TEXT), ["notice"], spans, exact=exact) for exact in (False, True))
    np.testing.assert_allclose(left_out(once, 4)[1], left_out(anew, 4)[1], atol=1e-4)
    assert np.abs(left_out(anew, 4)[1]).max() > 1e-2


def test_what_a_cap_cuts_off_adds_nothing(encoder):
    scorer = tiny_scorer(encoder, max_tokens=8, log_length=False)
    effects = left_out(sentence_values(scorer, Reading(TEXT), ["letter"], sentence_spans(TEXT)), 4)[1][:, 0]
    assert effects[0] != 0
    np.testing.assert_allclose(effects[2:], 0, atol=1e-6)


@pytest.mark.parametrize("exact", [False, True])
def test_lines_hold_slices_and_sums(encoder, exact):
    scorer = with_kernel(encoder)
    hostile = "\U0001f642 <b>Hi</b>.\r\n\r\n e\u0301t\u202eeh. no end"
    essays = [
        UnscoredEssay("1", "letter", f"{TEXT} " * 4),
        UnscoredEssay("2", "notice", hostile),
        UnscoredEssay("3", "letter", ""),
    ]
    found = list(explain_essays(scorer, essays, exact=exact))
    assert [one.essay_id for one in found] == ["1", "2", "3"]
    assert len(found[0].sentences) > ALWAYS_EXACT
    for one, essay in zip(found, essays, strict=True):
        line = json.loads(json.dumps(one.to_dict()))
        assert line["method"] == ("exact" if exact or len(one.sentences) <= ALWAYS_EXACT else "estimate")
        assert "".join(essay.text[span["start"] : span["end"]] for span in line["sentences"]) == essay.text
        assert all(span["text"] == essay.text[span["start"] : span["end"]] for span in line["sentences"])
        (score,) = line["scores"]
        assert score["raw"] == pytest.approx(scorer.score([essay.text], [essay.prompt_id]).raw[0], abs=1e-6)
        nothing = np.zeros((1, len(one.sentences)), dtype=bool)
        # Of the fewest sentences all choices are read anew, that of none too.
        values = sentence_values(
            scorer, Reading(essay.text), [essay.prompt_id], one.sentences, exact=len(one.sentences) <= 4
        )
        empty = values(nothing)[0, 0]
        if one.sentences:
            assert sum(score["contributions"]) == pytest.approx(score["raw"] - empty, abs=1e-4)
    assert found[2].withheld
    assert found[2].advisories
    assert found[2].scores[0].contributions == []


def test_only_what_is_asked_for_is_explained(encoder):
    scorer = tiny_scorer(encoder)
    with pytest.raises(DataError, match="The model has no trait 'style'; it knows one score"):
        list(explain_essays(scorer, [UnscoredEssay("1", "letter", TEXT)], traits=["style"]))
    with pytest.raises(DataError, match="not trained on prompt 'poem'"):
        list(explain_essays(scorer, [UnscoredEssay("1", "poem", TEXT)]))


@pytest.mark.parametrize(("texts", "withheld"), [("essays", True), ("answers", False)])
def test_short_answers_are_withheld_as_their_scores_are(texts, withheld):
    scorer = classical()
    scorer.screen = replace(small_screen(), texts=texts)
    essay = UnscoredEssay("1", "a", "xqzt wrkp blgf " * 30)
    (scored,) = score_essays(scorer, [essay], policy=Policy(), progress=None, warn=False)
    (explained,) = explain_essays(scorer, [essay])
    assert "gibberish" in scored.columns["advisories"][0]
    assert (scored.columns["withheld"], explained.withheld) == ([withheld], withheld)
