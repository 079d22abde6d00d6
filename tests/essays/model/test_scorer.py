"""The scorer that users hold: essays in, scores out, whatever the batches."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from tiny_encoder import WORDS
from tiny_scorer import TWO_PROMPTS, scoring_model, tiny_scorer

from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.essays.model import scorer as scorer_module
from aes_dynloss.essays.model.encoder_folder import Screening
from aes_dynloss.essays.model.encoders import load_tokenizer
from aes_dynloss.essays.model.ood_distance import OodDistance
from aes_dynloss.essays.model.prompt_scales import Postprocessing
from aes_dynloss.essays.model.protocol import check_prompts
from aes_dynloss.essays.model.scorer import EncoderScorer
from aes_dynloss.essays.screening.screen import Screen
from aes_dynloss.measures.calibration import RescalingLine

TEXTS = ["the teacher and the otter", "", "a bridge is not a school. " * 20, "phones 42", "one lesson"]
PROMPT_IDS = ["letter", "notice", "notice", "letter", "notice"]


@pytest.fixture(scope="module")
def scorer(encoder: Path) -> EncoderScorer:
    return tiny_scorer(encoder)


CONFIGS = [
    {},
    {"pooling": "attention", "head": "ordinal"},
    {"pooling": "cls", "head": "softmax", "prompts": "embedding"},
    {"link": "sigmoid", "window": 9},
]


@pytest.mark.parametrize("config", CONFIGS)
def test_an_essay_alone_and_in_any_company(encoder: Path, config: dict[str, object]) -> None:
    made = tiny_scorer(encoder, **config)
    together = made.score(TEXTS, PROMPT_IDS)
    for number, (text, prompt) in enumerate(zip(TEXTS, PROMPT_IDS, strict=True)):
        alone = made.score([text], [prompt])
        assert alone.raw[0] == pytest.approx(together.raw[number], abs=1e-5)
        assert alone.score[0] == together.score[number]
    generator = np.random.default_rng(0)
    texts = [" ".join(generator.choice(WORDS, generator.integers(0, 90))) for _ in range(30)]
    prompts = [PROMPT_IDS[number % 5] for number in range(30)]
    expected = made.score(texts, prompts)
    order = generator.permutation(30)
    shuffled = made.score([texts[i] for i in order], [prompts[i] for i in order], tokens=64)
    np.testing.assert_allclose(shuffled.raw, expected.raw[order], atol=1e-5)
    np.testing.assert_array_equal(shuffled.tokens, expected.tokens[order])
    assert np.std(expected.raw) > 0.05


def test_a_head_of_cached_vectors_is_taken_to_the_device(encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing is left to encode nobody else has moved it there."""
    made, seen = tiny_scorer(encoder), []

    def predict(accelerator: Accelerator, model: torch.nn.Module, _: object) -> None:
        seen.append((accelerator.device, {parameter.device for parameter in model.parameters()}))

    monkeypatch.setattr(scorer_module, "predict", predict)
    made.accelerator = SimpleNamespace(device=torch.device("meta"))
    made.outputs(None, None)
    assert seen == [(torch.device("meta"), {torch.device("meta")})]


def test_raw_is_on_the_scale_of_the_prompt(encoder: Path) -> None:
    made = tiny_scorer(encoder, log_length=False)
    with torch.no_grad():
        made.model.head.answer.weight.zero_()
        made.model.head.answer.bias.copy_(torch.tensor([1.0, -1.0]))
    scores = made.score(["the", "the"], ["letter", "notice"])
    units = [scale.mean + sign * scale.sd for scale, sign in zip(TWO_PROMPTS, (1, -1), strict=True)]
    np.testing.assert_allclose(scores.raw, [1 + 5 * units[0], 2 * units[1]], rtol=1e-6)
    np.testing.assert_array_equal(scores.score, [5, 0])  # 4.75, .1


def test_scores_are_score_points_and_follow_the_postprocessing(encoder: Path) -> None:
    made = tiny_scorer(encoder)
    plain = made.score(TEXTS, PROMPT_IDS)
    for number, prompt in enumerate(PROMPT_IDS):
        score_range = made.prompts[prompt].range
        assert score_range.is_score_point(plain.score[number])
        assert plain.score[number] == score_range.to_point(plain.raw[number])
    points = made.postprocessing.points(
        made.prompts, [list(made.prompts)[number] for number in (0, 1, 1, 0)], np.array([2.6, 0.7, 1.3, 9.0])
    )
    np.testing.assert_array_equal(points, [3, 0.5, 1.5, 6])
    made.postprocessing = Postprocessing("rescale", {"letter": RescalingLine(0.001, 3.0)})
    rescaled = made.score(TEXTS, PROMPT_IDS)
    np.testing.assert_array_equal(rescaled.raw, plain.raw)
    letters = np.array(PROMPT_IDS) == "letter"
    assert (rescaled.score[letters] == 3).all()
    np.testing.assert_array_equal(rescaled.score[~letters], plain.score[~letters])


def test_tokens_and_cap(encoder: Path) -> None:
    text = " ".join(["the"] * 50)
    free = tiny_scorer(encoder).score([text, ""], ["letter", "letter"])
    assert free.tokens.tolist() == [50, 0]
    assert free.dropped_tokens.tolist() == [0, 0]
    capped = tiny_scorer(encoder, max_tokens=12, log_length=False)
    scores = capped.score([text, "the"], ["letter", "letter"])
    assert scores.tokens.tolist() == [50, 1]
    assert scores.dropped_tokens.tolist() == [38, 0]
    short = capped.score([" ".join(["the"] * 12)], ["letter"])
    assert short.raw[0] == pytest.approx(scores.raw[0], abs=1e-5)


def test_no_essays(scorer: EncoderScorer) -> None:
    scores = scorer.score([], [])
    for name in ("raw", "score", "tokens", "dropped_tokens"):
        assert getattr(scores, name).shape == (0,)


def test_empty_text_is_scored(scorer: EncoderScorer) -> None:
    scores = scorer.score(["", " \n\t"], ["letter", "letter"])
    assert np.isfinite(scores.raw).all()
    assert scores.raw[0] == pytest.approx(scores.raw[1], abs=1e-6)
    assert scores.tokens.tolist() == [0, 0]


def test_refusals(scorer: EncoderScorer) -> None:
    with pytest.raises(DataError, match=r"not trained on prompt 'poem'; it knows letter, notice\. Map the ids"):
        scorer.score(["a", "b", "c"], ["letter", "poem", "ode"])
    with pytest.raises(DataError, match=r"one prompt id an essay, found 2 essays and 1 ids"):
        scorer.score(["a", "b"], ["letter"])
    check_prompts(["notice", "letter", "notice"], scorer.prompts)


@pytest.mark.parametrize("kind", ["none", "cut_points"])
def test_nan_is_not_a_score(encoder: Path, kind: str) -> None:
    made = tiny_scorer(encoder)
    if kind == "cut_points":
        made.postprocessing = _cut_points()
    with torch.no_grad():
        made.model.head.answer.bias.fill_(torch.nan)
    with pytest.raises(DataError, match="A prediction that is NaN has no score point"):
        made.score(["the"], ["notice"])


def _cut_points() -> Postprocessing:
    from aes_dynloss.measures.calibration import CutPoints

    return Postprocessing("cut_points", {"notice": CutPoints(TWO_PROMPTS[1].prompt.range, (0.1, 0.2, 0.3, 1.4))})


def test_prompts(scorer: EncoderScorer) -> None:
    assert scorer.prompts == {scale.prompt.id: scale.prompt for scale in TWO_PROMPTS}
    assert list(scorer.prompts) == ["letter", "notice"]


def test_model_is_left_as_it_was(encoder: Path) -> None:
    made = tiny_scorer(encoder, dropout=0.5)
    made.model.train()
    first, second = made.score(TEXTS, PROMPT_IDS), made.score(TEXTS, PROMPT_IDS)
    np.testing.assert_array_equal(first.raw, second.raw)  # without dropout
    assert made.model.training
    assert not torch.is_inference_mode_enabled()


def _screened(encoder: Path) -> EncoderScorer:
    """A scorer with dropout that also measures how far essays are from those of training."""
    made = tiny_scorer(encoder)
    for part in made.model.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.5
    made.screening = Screening(Screen.fit(TEXTS, PROMPT_IDS, {}), OodDistance([torch.ones(8, 16)] * 2, [1.0, 1.0]))
    return made


@pytest.mark.parametrize("training", [False, True])
def test_a_model_that_measures_distances_is_left_as_it_was_too(encoder: Path, training: bool) -> None:
    made = _screened(encoder)
    made.model.train(training)
    made.model.head.eval()
    modes = [part.training for part in made.model.modules()]
    made.score(TEXTS, PROMPT_IDS)
    assert [part.training for part in made.model.modules()] == modes


def test_two_threads_that_score_with_one_model_do_not_disturb_each_other(encoder: Path) -> None:
    made, entered, other_is_done = _screened(encoder), Event(), Event()
    expected = made.score(TEXTS, PROMPT_IDS)

    def first_waits(*_: Any) -> None:
        if not entered.is_set():
            entered.set()
            assert other_is_done.wait(60)

    made.model.encoder.register_forward_pre_hook(first_waits)
    with ThreadPoolExecutor() as threads:
        first = threads.submit(made.score, TEXTS, PROMPT_IDS)
        assert entered.wait(60)
        second = made.score(TEXTS, PROMPT_IDS)
        other_is_done.set()
    for found in (first.result(), second):
        np.testing.assert_array_equal(found.raw, expected.raw)
        np.testing.assert_array_equal(found.ood_distance, expected.ood_distance)


def test_progress(scorer: EncoderScorer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    scorer.score(["the"], ["letter"])
    assert capsys.readouterr() == ("", "")
    scorer.score(["the"], ["letter"], progress="scoring")
    out, err = capsys.readouterr()
    assert out == ""
    assert "scoring" in err


def test_window_longer_than_the_encoder_reads(encoder: Path) -> None:
    assert tiny_scorer(encoder, window=32).score(["the " * 40], ["letter"]).tokens.tolist() == [40]
    with pytest.raises(ConfigError, match=r"model\.window is 33, but the encoder has positions for 32 tokens\. Lower"):
        tiny_scorer(encoder, window=33)


def test_bf16_scores_are_close(encoder: Path) -> None:
    texts = [" ".join(["one"] * 9 + [word]) for word in WORDS[:10]]
    accelerator = Accelerator(cpu=True)
    made = EncoderScorer(scoring_model("bert"), load_tokenizer(str(encoder)), accelerator=accelerator)
    expected = made.score(texts, ["letter"] * 10).raw
    accelerator.state._mixed_precision, accelerator.native_amp = "bf16", True
    try:
        raw = made.score(texts, ["letter"] * 10).raw
    finally:
        accelerator.state._mixed_precision = "no"
    assert not np.array_equal(raw, expected)
    np.testing.assert_allclose(raw, expected, atol=0.1)
