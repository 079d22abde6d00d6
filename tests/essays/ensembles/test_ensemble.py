"""Ensembles in memory: the mean of their members, for the prompts that all know."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from small_screen import small_screen
from tiny_scorer import TWO_PROMPTS, tiny_scorer

from aes_dynloss.errors import CheckpointError, ConfigError, DataError
from aes_dynloss.essays.data.essay_table import Prompt
from aes_dynloss.essays.data.readers import UnscoredEssay
from aes_dynloss.essays.ensembles.ensemble import EssayEnsemble
from aes_dynloss.essays.model.encoder_folder import Screening
from aes_dynloss.essays.model.encoders import load_encoder, load_tokenizer
from aes_dynloss.essays.model.model_config import ModelConfig
from aes_dynloss.essays.model.ood_distance import OodDistance
from aes_dynloss.essays.model.prompt_scales import Postprocessing, PromptScale
from aes_dynloss.essays.model.scorer import EncoderScorer
from aes_dynloss.essays.model.scoring_model import ScoringModel
from aes_dynloss.essays.scoring.score import score_essays
from aes_dynloss.measures.calibration import CutPoints, RescalingLine
from aes_dynloss.tables.score_range import ScoreRange

TEXTS = ["the teacher and the otter", "", "a bridge is not a school. " * 20, "phones 42", "one lesson"]
PROMPT_IDS = ["notice", "letter", "notice", "letter", "letter"]
LETTERS = np.array(PROMPT_IDS) == "letter"
LETTER, NOTICE = TWO_PROMPTS
POEM = PromptScale(Prompt("poem", ScoreRange(0, 3)), 0.5, 0.2, (0.25,) * 4, 2.5, 1.0)


@pytest.fixture(scope="module")
def models(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three models of different kinds, each with a rule of its own, which must play no part."""
    folder = tmp_path_factory.mktemp("models")
    made = [
        tiny_scorer(encoder),
        tiny_scorer(encoder, pooling="attention", head="ordinal", max_tokens=24),
        tiny_scorer(encoder, link="sigmoid", window=12, hidden=3),
    ]
    for number, scorer in enumerate(made):
        scorer.postprocessing = Postprocessing("rescale", {"letter": RescalingLine(0.001, number + 1.0)})
        scorer.save_pretrained(folder / str(number))
    return [folder / str(number) for number in range(3)]


def model_for(encoder: Path, folder: Path, *scales: PromptScale) -> Path:
    """A model folder for some prompts."""
    model = ScoringModel(load_encoder(str(encoder)), ModelConfig(encoder=str(encoder)), scales).eval()
    EncoderScorer(model, load_tokenizer(str(encoder))).save_pretrained(folder)
    return folder


def with_range(scale: PromptScale, score_range: ScoreRange) -> PromptScale:
    shares = (1 / score_range.count,) * score_range.count
    return replace(scale, prompt=replace(scale.prompt, range=score_range), shares=shares)


def test_raw_is_the_mean_of_the_members_raw(models: list[Path]) -> None:
    scores = EssayEnsemble.from_members(models).score(TEXTS, PROMPT_IDS)
    raw = [EncoderScorer.from_pretrained(model).score(TEXTS, PROMPT_IDS).raw for model in models]
    np.testing.assert_allclose(scores.raw, (raw[0] + raw[1] + raw[2]) / 3, rtol=0, atol=1e-6)
    assert np.std(raw, axis=0).min() > 0.01
    for place, prompt in enumerate(
        PROMPT_IDS
    ):  # without a rule of its own the ensemble rounds, whatever the members do
        score_range = {"letter": LETTER, "notice": NOTICE}[prompt].prompt.range
        assert scores.score[place] == score_range.to_point(scores.raw[place])


def test_postprocessing_goes_by_the_prompt(models: list[Path]) -> None:
    ensemble = EssayEnsemble.from_members(models)
    plain = ensemble.score(TEXTS, PROMPT_IDS)
    ensemble.postprocessing = Postprocessing(
        "rescale", {"letter": RescalingLine(0.001, 4.0), "notice": RescalingLine(0.001, 1.5)}
    )
    scores = ensemble.score(TEXTS, PROMPT_IDS)
    np.testing.assert_array_equal(scores.raw, plain.raw)
    np.testing.assert_array_equal(scores.score, np.where(LETTERS, 4.0, 1.5))
    ensemble.postprocessing = Postprocessing("cut_points", {"letter": CutPoints(LETTER.prompt.range, (-99.0,) * 5)})
    scores = ensemble.score(TEXTS, PROMPT_IDS)
    np.testing.assert_array_equal(scores.score, np.where(LETTERS, 6.0, plain.score))


@pytest.mark.parametrize("number", range(3))
def test_one_model_twice_scores_as_that_model(models: list[Path], number: int) -> None:
    twice = EssayEnsemble.from_members([models[number]] * 2)
    one = EncoderScorer.from_pretrained(models[number])
    twice.postprocessing = one.postprocessing
    found, expected = twice.score(TEXTS, PROMPT_IDS), one.score(TEXTS, PROMPT_IDS)
    np.testing.assert_allclose(found.raw, expected.raw, rtol=0, atol=1e-6)
    for name in ("score", "tokens", "dropped_tokens"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    assert (twice.prompts, twice.capped) == (one.prompts, one.capped)


def test_the_order_of_the_members_does_not_matter(models: list[Path]) -> None:
    forth = EssayEnsemble.from_members(models).score(TEXTS, PROMPT_IDS)
    back = EssayEnsemble.from_members([models[2], models[0], models[1]]).score(TEXTS, PROMPT_IDS)
    np.testing.assert_allclose(back.raw, forth.raw, rtol=0, atol=1e-12)
    for name in ("score", "tokens", "dropped_tokens"):
        np.testing.assert_array_equal(getattr(back, name), getattr(forth, name))


def test_an_essay_alone_and_in_any_company(models: list[Path]) -> None:
    ensemble = EssayEnsemble.from_members(models)
    together = ensemble.score(TEXTS, PROMPT_IDS)
    order = [3, 0, 4, 2, 1]
    shuffled = ensemble.score([TEXTS[i] for i in order], [PROMPT_IDS[i] for i in order], tokens=64)
    np.testing.assert_allclose(shuffled.raw, together.raw[order], atol=1e-5)
    for place, (text, prompt) in enumerate(zip(TEXTS, PROMPT_IDS, strict=True)):
        assert ensemble.score([text], [prompt]).raw[0] == pytest.approx(together.raw[place], abs=1e-5)


def test_no_essays(models: list[Path]) -> None:
    scores = EssayEnsemble.from_members(models).score([], [])
    for name in ("raw", "score", "tokens", "dropped_tokens"):
        assert getattr(scores, name).shape == (0,)


def test_a_cap_is_reported_if_any_member_has_one(models: list[Path]) -> None:
    capped, free = EssayEnsemble.from_members(models), EssayEnsemble.from_members([models[0], models[2]])
    assert (capped.capped, free.capped) == (True, False)
    text = " ".join(["the"] * 50)
    scores = capped.score([text, "the"], ["letter", "letter"])
    assert scores.tokens.tolist() == [50, 1]
    assert scores.dropped_tokens.tolist() == [26, 0]
    essays = [UnscoredEssay("a", "letter", text)]
    (window,) = score_essays(capped, essays)
    assert window.columns["dropped_tokens"] == [26]
    (window,) = score_essays(free, essays)
    assert "dropped_tokens" not in window.columns


class TestPrompts:
    def test_those_that_all_know_on_one_range(self, encoder: Path, tmp_path: Path) -> None:
        both = model_for(encoder, tmp_path / "both", LETTER, NOTICE, POEM)
        other = model_for(encoder, tmp_path / "other", with_range(POEM, ScoreRange(0, 4)), NOTICE)
        ensemble = EssayEnsemble.from_members([both, other])
        assert ensemble.prompts == {"notice": NOTICE.prompt}
        assert ensemble.notes == [
            "The ensemble cannot score prompts that not all members know alike: letter (known to 1 of 2 members), "
            "poem (its range is 0 to 3 and 0 to 4)."
        ]
        assert list(EssayEnsemble.from_members([other, both]).prompts) == ["notice"]
        for prompt in ("letter", "poem", "ode"):
            with pytest.raises(DataError, match=rf"not trained on prompt '{prompt}'; it knows notice\."):
                ensemble.score(["a", "b"], ["notice", prompt])
        # The numbers of the prompt differ between the members.
        raw = [EncoderScorer.from_pretrained(model).score(TEXTS, ["notice"] * 5).raw for model in (both, other)]
        np.testing.assert_allclose(ensemble.score(TEXTS, ["notice"] * 5).raw, np.mean(raw, axis=0), atol=1e-6)

    def test_an_essay_without_one_answers_the_only_one(self, encoder: Path, tmp_path: Path) -> None:
        both, poem = (
            model_for(encoder, tmp_path / "both", LETTER, POEM),
            model_for(encoder, tmp_path / "poem", POEM),
        )
        (window,) = score_essays(EssayEnsemble.from_members([both, poem]), [UnscoredEssay("a", None, "the otter")])
        assert window.columns["prompt_id"] == ["poem"]
        for folder in (poem, both):
            scorer = (
                EssayEnsemble.from_members([folder, poem]) if folder == both else EncoderScorer.from_pretrained(poem)
            )
            expected = scorer.score(TEXTS, ["poem"] * len(TEXTS))
            np.testing.assert_array_equal(scorer.score(TEXTS).raw, expected.raw)
        with pytest.raises(DataError, match=r"knows the prompts letter, poem\. Say by prompt_ids which one each"):
            EncoderScorer.from_pretrained(both).score(TEXTS)

    def test_none(self, encoder: Path, tmp_path: Path) -> None:
        models = [model_for(encoder, tmp_path / name, scale) for name, scale in (("a", LETTER), ("b", NOTICE))]
        words = r"No prompt is known to all members on one score range: letter \(known to 1 of 2 members\), notice \("
        with pytest.raises(ConfigError, match=words):
            EssayEnsemble.from_members(models)

    def test_texts(self, encoder: Path, tmp_path: Path) -> None:
        """Nobody need store a prompt's text, but two texts may be two prompts."""
        texts = (None, "Write a poem.", "Write an ode.")
        scales = [replace(POEM, prompt=replace(POEM.prompt, text=text)) for text in texts]
        models = [model_for(encoder, tmp_path / str(number), scale) for number, scale in enumerate(scales)]
        known = EssayEnsemble.from_members(models[:2])
        assert (known.prompts["poem"].text, known.notes) == ("Write a poem.", [])
        assert EssayEnsemble.from_members(models).notes == [
            "The members hold different texts of prompt poem. Look whether it is the same prompt."
        ]


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_members(models: list[Path], count: int) -> None:
    with pytest.raises(ConfigError, match=rf"needs two members or more, found {count}\. Name another run"):
        EssayEnsemble.from_members(models[:count])


def test_members_share_an_accelerator(models: list[Path]) -> None:
    accelerator = Accelerator(cpu=True)
    for given, count in ((accelerator, 1), (None, 0)):
        found = {member.scorer.accelerator for member in EssayEnsemble.from_members(models, accelerator=given).members}
        assert len(found) == 1
        assert len(found & {accelerator}) == count


def test_refusals(models: list[Path], tmp_path: Path) -> None:
    ensemble = EssayEnsemble.from_members(models)
    with pytest.raises(DataError, match=r"one prompt id an essay, found 2 essays and 1 ids"):
        ensemble.score(["a", "b"], ["letter"])
    with pytest.raises(CheckpointError, match=r"There is no model folder .*none"):
        EssayEnsemble.from_members([models[0], tmp_path / "none"])
    with torch.no_grad():
        ensemble.members[1].scorer.model.head.answer.bias.fill_(torch.nan)
    with pytest.raises(DataError, match="A prediction that is NaN has no score point"):
        ensemble.score(["the"], ["notice"])


def test_scores_come_in_the_order_of_the_essays(models: list[Path]) -> None:
    ensemble = EssayEnsemble.from_members(models)
    essays = [
        UnscoredEssay(f"e{place}", prompt, text)
        for place, (text, prompt) in enumerate(zip(TEXTS, PROMPT_IDS, strict=True))
    ]
    windows = list(score_essays(ensemble, essays, window=2))
    columns = {name: [value for window in windows for value in window.columns[name]] for name in windows[0].columns}
    assert columns["essay_id"] == [essay.essay_id for essay in essays]
    assert columns["prompt_id"] == PROMPT_IDS
    expected = ensemble.score(TEXTS, PROMPT_IDS)
    np.testing.assert_allclose(columns["raw"], expected.raw, atol=1e-5)
    assert columns["score"] == expected.score.tolist()


def test_progress(models: list[Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    ensemble = EssayEnsemble.from_members(models)
    ensemble.score(["the"], ["letter"])
    assert capsys.readouterr() == ("", "")
    ensemble.score(["the"], ["letter"], progress="scoring")
    out, err = capsys.readouterr()
    assert out == ""
    for number in (1, 2, 3):
        assert f"scoring, member {number} of 3" in err


def test_members_that_know_nothing_of_training_essays_do_not_count(encoder, models):
    ensemble = EssayEnsemble.from_members(models)
    assert np.isnan(ensemble.score(TEXTS, PROMPT_IDS).ood_distance).all()
    for member, size in zip(ensemble.members, (6, 0), strict=False):
        vectors = [torch.randn(6, 16), torch.randn(size, 16)]
        member.scorer.screening = Screening(small_screen(), OodDistance(vectors, [1.0, 2.0]))
    each = [member.scorer.score(TEXTS, PROMPT_IDS).ood_distance for member in ensemble.members[:2]]
    both = ensemble.score(TEXTS, PROMPT_IDS).ood_distance
    np.testing.assert_allclose(both[LETTERS], (each[0] + each[1])[LETTERS] / 2)
    np.testing.assert_allclose(both[~LETTERS], each[0][~LETTERS])
    assert np.isfinite(both).all()
