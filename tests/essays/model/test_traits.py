"""Several scores of one essay: read once, learned together, and each as if the others were not there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from datasets import Dataset
from feature_caches import counted
from tiny_scorer import scoring_model, tiny_scorer

from aes_dynloss.essays.classical import strings
from aes_dynloss.essays.classical.strings import string_values
from aes_dynloss.essays.classical.text_regression import TextRegression
from aes_dynloss.essays.data.essay_table import EssayTable, Prompt
from aes_dynloss.essays.finetune.encoder_run import trait_weights
from aes_dynloss.essays.finetune.warm_start import WarmStart
from aes_dynloss.essays.model import classical_scorer
from aes_dynloss.essays.model.activations import frozen_part_computed
from aes_dynloss.essays.model.classical_scorer import ClassicalScorer
from aes_dynloss.essays.model.examples import EssayExamples, essay_numbers, scored_examples
from aes_dynloss.essays.model.model_config import ModelConfig
from aes_dynloss.essays.model.prompt_scales import PromptScale, measure_scales
from aes_dynloss.essays.model.scorer import EncoderScorer
from aes_dynloss.essays.model.scoring_model import ScoringModel
from aes_dynloss.tables.score_range import ScoreRange
from aes_dynloss.teaching.losses.dynamic_loss import Mixture
from aes_dynloss.teaching.student import Elements
from aes_dynloss.training.batching import Subset, epoch_steps, members, packed, share_of, total_steps
from aes_dynloss.training.config import TrainingConfig
from aes_dynloss.training.episodes import _halves

TRAITS = ("content", "style")
PROMPTS = [Prompt(f"{prompt}/{trait}", ScoreRange(1, 6), trait=trait) for prompt in "ab" for trait in TRAITS]
TEXTS = ["one two three four", "five six", "seven " * 30, "eight nine ten", "eleven", "twelve one two"]


def scales() -> list[PromptScale]:
    return [
        PromptScale(prompt, 0.4 + 0.05 * number, 0.2 + 0.02 * number, (1 / 6,) * 6, 2.0, 0.7)
        for number, prompt in enumerate(PROMPTS)
    ]


def table(masked: frozenset[tuple[int, str]] = frozenset()) -> EssayTable:
    """Essays of two prompts in turn with two scores each, but those that are masked."""
    rows = [
        {
            "essay_id": str(number),
            "prompt_id": f"{'ab'[number % 2]}/{trait}",
            "text": text,
            "score": 1.0 + (number + place) % 6,
        }
        for number, text in enumerate(TEXTS)
        for place, trait in enumerate(TRAITS)
        if (number, trait) not in masked
    ]
    return EssayTable(Dataset.from_list(rows), {prompt.id: prompt for prompt in PROMPTS})


@pytest.fixture(scope="module")
def scorer(encoder) -> EncoderScorer:
    made = tiny_scorer(encoder)
    made.model = ScoringModel(made.model.encoder, made.model.config, scales())
    with torch.no_grad():
        made.model.head.answer.weight.normal_(generator=torch.Generator().manual_seed(1))
    made.model.eval()
    return made


def examples(scorer: EncoderScorer, essays: EssayTable) -> EssayExamples:
    return scored_examples([essays], PROMPTS, scorer.chunker, 0)


def test_an_essay_is_read_once_for_all_its_scores(scorer):
    made = examples(scorer, table())
    assert made.units.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert made.sequences[1::2].tolist() == [0] * 6
    together, alone = made.batch(range(12)), replace(made, units=None).batch(range(12))
    assert len(together.inputs["input_ids"]) == len(alone.inputs["input_ids"]) / 2
    with torch.no_grad():
        torch.testing.assert_close(scorer.model(**together.inputs), scorer.model(**alone.inputs))
    assert together.groups.tolist() == alone.groups.tolist()


def test_scores_are_those_of_each_trait_by_itself(scorer):
    prompts = ["a", "b", "a"]
    found = scorer.score(TEXTS[:3], prompts)
    for trait in TRAITS:
        own = scorer.score(TEXTS[:3], [f"{prompt}/{trait}" for prompt in prompts])
        np.testing.assert_allclose(found[trait].raw, own.raw, rtol=1e-5)
    assert list(found.to_frame()) == [f"{trait}{end}" for trait in TRAITS for end in ("", "_raw", "_certainty")]
    assert np.isnan(found.raw).all()
    with counted(scorer.model) as seen:
        scorer.score(TEXTS[:3], prompts)
    assert sum(seen) == sum(len(essay.chunks) for essay in scorer.chunker(TEXTS[:3]))


def test_steps_and_packs_keep_essays_together(scorer):
    made = examples(scorer, table(frozenset({(1, "style")})))
    assert [rows.tolist() for rows in members(made)][:2] == [[0, 1], [2]]
    steps = epoch_steps(made, 2, seed=3, epoch=0)
    assert [len(set(made.units[step].tolist())) for step in steps] == [2, 2, 2]
    assert sorted(np.concatenate(steps).tolist()) == list(range(11))
    assert total_steps(made, TrainingConfig(epochs=4, batch_size=2)) == 12
    assert len(epoch_steps(Subset(made, np.arange(3)), 1, seed=0, epoch=0)) == 2
    for pack in packed(np.arange(11), made, 1, None):
        assert all(np.isin(np.flatnonzero(made.units == unit), pack).all() for unit in made.units[pack])
    shares = [share_of(np.arange(11), made, rank, 2) for rank in (0, 1)]
    assert sorted(np.concatenate(shares).tolist()) == list(range(11))
    assert not set(made.units[shares[0]].tolist()) & set(made.units[shares[1]].tolist())


MASKED = frozenset({(0, "style"), (3, "content"), (4, "style")})


@pytest.mark.parametrize("terms", [["mse"], ["huber", "mae"], ["one_minus_qwk"], ["ranking", "stde"]])
def test_a_masked_score_is_as_if_it_were_not_there(scorer, terms):
    """Loss and gradient of both traits are the weighted mean of those of each trait's own essays."""
    made = examples(scorer, table(MASKED))
    weights = trait_weights(PROMPTS, made.groups, made.groups, {"style": 2.0})
    made = replace(made, weights=weights)
    loss, coefficients = Mixture(terms, standardise=True), torch.ones(len(terms))

    def value_and_gradient(rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        batch = made.batch(rows.tolist())
        elements = scorer.model.elements(scorer.model(**batch.inputs), batch.targets, batch.groups)
        losses = loss(coefficients, elements)
        value = losses if losses.ndim == 0 else elements.by_example(losses).sum()
        (gradient,) = torch.autograd.grad(value, scorer.model.head.answer.weight)
        return value.detach(), gradient

    is_style = np.array([PROMPTS[group].trait == "style" for group in made.groups])
    whole, parts = (
        value_and_gradient(np.arange(len(made))),
        [value_and_gradient(np.flatnonzero(is_style == flag)) for flag in (False, True)],
    )
    over_batch = loss.over_batch
    shares = [weights[is_style == flag].sum() / weights.sum() if over_batch else 1.0 for flag in (False, True)]
    for number in (0, 1):
        expected = sum(share * part[number] for share, part in zip(shares, parts, strict=True))
        torch.testing.assert_close(whole[number], expected, rtol=1e-4, atol=1e-6)
    assert weights[is_style].sum() == pytest.approx(2 * weights[~is_style].sum())


def test_scales_are_those_of_the_scores_that_are_there():
    masked = frozenset({(0, "style")})
    without, whole = table(masked), table()
    kept = [
        row
        for row, key in enumerate(zip(whole.essay_ids, whole.values("prompt_id"), strict=True))
        if (int(key[0]), key[1][2:]) not in masked
    ]
    number = {prompt.id: place for place, prompt in enumerate(PROMPTS)}

    def measured(essays: EssayTable) -> list[PromptScale]:
        groups = np.array([number[scale] for scale in essays.values("prompt_id")])
        return measure_scales(PROMPTS, groups, essays.scores, np.ones(len(essays)))

    assert measured(without) == measured(whole.select(kept))


def test_a_head_for_each_trait_is_shared_by_prompts():
    model = scoring_model(scales=scales(), prompts="shared")
    assert model.head.head_count == 2
    with torch.no_grad():
        model.head.answer.bias.copy_(torch.tensor([1.0, 2.0]))
    outputs = model.head(torch.zeros(4, model.head.answer.in_features), torch.arange(4))
    assert outputs[:, 0].tolist() == [1.0, 2.0, 1.0, 2.0]


def test_weights_of_traits():
    groups = np.array([0, 0, 0, 1, 2, 3])
    weights = trait_weights(PROMPTS, groups, groups, {"content": 0.0})
    assert weights.tolist() == [0, 0, 0, 3, 0, 3]
    assert trait_weights(PROMPTS, groups, np.array([0, 1]), {}).tolist() == [1.0] * 6


def test_an_essay_is_counted_once_for_all_its_scores(monkeypatch):
    texts = [f"{text} and so on" for text in TEXTS]
    answered = [prompt.id for prompt in PROMPTS if prompt.prompt_id == "a"]
    models = {
        name: TextRegression.fit(texts, ln_words(texts), np.arange(6.0) + shift)[0]
        for shift, name in enumerate(answered)
    }
    config = ModelConfig(kind="strings", linguistic=False)
    scorer = ClassicalScorer(config, [one for one in scales() if one.prompt.id in models], models)
    alone = [scorer.score(texts, [name] * len(texts)).raw for name in answered]
    keys, numbers = [], []

    def recording(module, name, calls):
        whole = getattr(module, name)
        monkeypatch.setattr(module, name, lambda one, *more: (calls.append(one), whole(one, *more))[1])

    recording(strings, "ngram_keys", keys)
    recording(classical_scorer, "ngram_keys", keys)
    recording(classical_scorer, "essay_numbers", numbers)
    both = scorer.score([*texts, texts[0]], ["a"] * (len(texts) + 1))
    assert keys == texts
    assert numbers == [texts]
    for trait, expected in zip(TRAITS, alone, strict=True):
        np.testing.assert_allclose(both[trait].raw, [*expected, expected[0]], rtol=1e-12)
    keys.clear()
    by_scale = {name: model.strings for name, model in models.items()}
    values = string_values(by_scale, [text for text in texts for _ in answered], answered * len(texts))
    assert keys == ["", *texts]
    apart = [by_scale[name].predict([text])[0] for text in texts for name in answered]
    np.testing.assert_allclose(values, apart, rtol=1e-6)


def ln_words(texts):
    return np.log1p([len(text.split()) for text in texts])[:, None]


def test_essays_that_differ_in_a_column_are_two():
    numbers = np.array([[1.0], [1.0], [2.0]])
    prompts = {prompt.id: prompt for prompt in PROMPTS}
    assert essay_numbers(["x"] * 3, ["a/content", "a/style", "a/content"], prompts, numbers).tolist() == [0, 0, 1]
    assert essay_numbers(["x"], ["p"], {"p": Prompt("p", ScoreRange(1, 6))}, numbers[:1]) is None


def test_a_trait_that_counts_nothing_has_no_statistic():
    half, numbers = torch.full((4,), 0.5), torch.tensor([0, 0, 1, 1])
    elements = Elements(
        half, torch.rand(4), numbers, half, half, weights=torch.tensor([[1.0], [1], [0], [0]]), parts=numbers
    )
    assert torch.isfinite(Mixture(["one_minus_qwk"])(torch.ones(1), elements))


@pytest.mark.parametrize("pooled", [1, "all"])
def test_token_states_are_those_of_their_essays(encoder, tmp_path, accelerator, pooled):
    """Rows of one essay in an order that is not that of its states."""
    config = {"frozen_layers": 1, "features_cache": str(tmp_path / "cache"), "pooled_layers": pooled}
    made = tiny_scorer(encoder)
    made.model = ScoringModel(made.model.encoder, made.model.config.model_copy(update=config), scales())
    essays = examples(made, table())
    with frozen_part_computed(accelerator, made.model, essays, np.arange(4), tmp_path) as ready:
        plain = replace(ready, units=None)
        for row, essay in enumerate(ready.essays):
            assert len(ready.states[row]) == sum(map(len, essay.chunks))
        together, alone = ready.batch(range(12)), plain.batch(range(12))
        with torch.no_grad():
            torch.testing.assert_close(made.model(**together.inputs), made.model(**alone.inputs))
            whole = essays.batch(range(12))
            states = made.model(**together.inputs)
    with torch.no_grad():
        torch.testing.assert_close(made.model(**whole.inputs), states, rtol=1e-2, atol=1e-2)


def test_a_teacher_s_halves_share_no_essay(scorer):
    made = examples(scorer, table(MASKED))
    first, second = _halves(made)
    assert sorted([*first, *second]) == list(range(len(made)))
    assert not set(made.units[first].tolist()) & set(made.units[second].tolist())
    assert [half.tolist() for half in _halves(replace(made, units=None))] == [[0, 2, 4, 6, 8], [1, 3, 5, 7]]


def test_a_warm_start_finds_heads_by_trait(tmp_path):
    old, new = (scoring_model(scales=own, prompts="shared") for own in (scales(), scales()[1::-1]))
    with torch.no_grad():
        old.head.answer.bias.copy_(torch.tensor([1.0, 2.0]))
    start = WarmStart(old, None, "", tmp_path)
    start.copy_weights_to(new)
    assert new.head.answer.bias.tolist() == [2.0, 1.0]
    found = start.scales(scales()[1::-1])
    assert [scale.mean for scale in found] == [scales()[1].mean, scales()[0].mean]
