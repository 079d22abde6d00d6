from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from tiny_encoder import write_tiny_encoder
from tiny_scorer import random_essays, scoring_model, tiny_scorer

from aes_dynloss.errors import CheckpointError, ShapeError
from aes_dynloss.essays.model.encoder_folder import Screening, read_screening, write_screening
from aes_dynloss.essays.model.model_folder import SCREENING
from aes_dynloss.essays.model.ood_distance import (
    NEIGHBOURS,
    OodDistance,
    WithOodDistance,
    essay_vectors,
    fit_ood_distance,
)
from aes_dynloss.essays.model.scorer import EncoderScorer
from aes_dynloss.essays.screening.screen import Screen
from aes_dynloss.essays.screening.training_statistics import learn_distance_threshold
from aes_dynloss.training.prediction import predict

TEXTS = ["The otter swam under the old bridge", "A letter to the head teacher about phones"] * 8


def learned(scorer: EncoderScorer) -> Screening:
    vectors = torch.randn(9, 16, generator=torch.Generator().manual_seed(0))
    prompts = ["letter", "notice"] * 8
    return Screening(
        Screen.fit(TEXTS, prompts, {"letter": None, "notice": "Read it."}),
        OodDistance([vectors, vectors[:0]], [0.5, 1.0]),
    )


class TestDistance:
    def test_it_is_that_of_the_fifth_neighbour(self):
        angles = torch.tensor([0.0, 0.1, 0.2, 0.3, 0.4, 2.0])
        references = torch.stack([torch.cos(angles), torch.sin(angles)], dim=1) * 7
        known = OodDistance([references], [0.01])
        answer = known(torch.tensor([[3.0, 0.0]]), torch.tensor([0]))
        assert answer.tolist() == pytest.approx([(1 - float(torch.cos(torch.tensor(0.4)))) / 0.01], rel=1e-4)

    def test_unknown_prompts_are_nan_and_each_prompt_has_its_own_essays(self):
        known = OodDistance([torch.eye(3), torch.zeros(0, 3), -torch.eye(3)], [1.0, 1.0, 1.0])
        answer = known(torch.eye(3)[[0, 0, 0]], torch.tensor([0, 1, 2]))
        assert torch.isnan(answer).tolist() == [False, True, False]
        assert answer[2] > answer[0] - 1e-6

    def test_what_makes_no_sense_is_refused(self):
        for vectors, thresholds in (
            ([torch.eye(3)], [0.0]),
            ([torch.eye(3), torch.eye(2)], [1.0, 1.0]),
            ([torch.eye(3) * torch.nan], [1.0]),
            ([torch.eye(3).double() * 1e300], [1.0]),
            ([torch.eye(3).to(torch.complex64)], [1.0]),
            ([torch.zeros(2**50, 0)], [1.0]),
            ([torch.eye(3)], [1.0, 1.0]),
        ):
            with pytest.raises(ShapeError, match="Expected finite vectors of one width"):
                OodDistance(vectors, thresholds)


@pytest.mark.parametrize("layers", [1, "all"])
def test_outputs_are_those_of_the_model_itself(layers):
    model = scoring_model(pooled_layers=layers)
    examples = random_essays([5, 30, 9, 12])
    accelerator = Accelerator(cpu=True)
    ood_distance = fit_ood_distance(accelerator, model, random_essays([*range(5, 55)] * 2, seed=1), examples)
    answers = predict(accelerator, WithOodDistance(model, ood_distance), examples)
    alone = predict(accelerator, model, examples)
    assert torch.allclose(answers[:, :-1], alone, atol=1e-6)
    assert torch.isfinite(answers[:, -1]).all()
    assert ood_distance.references[0].shape == (50, 16)


def test_vectors_are_those_of_the_last_layer():
    model = scoring_model(pooled_layers="all")
    features = torch.arange(4.0 * 16).view(1, 64)
    assert torch.equal(essay_vectors(model, features), features[:, 48:])


def test_training_essays_are_near_and_few_dev_essays_are_beyond():
    model = scoring_model()
    accelerator = Accelerator(cpu=True)
    train, dev = random_essays([12] * 400, seed=1), random_essays([12] * 200, seed=2)
    ood_distance = fit_ood_distance(accelerator, model, train, dev)
    assert [len(vectors) for vectors in ood_distance.references] == [200, 200]
    ood_distance = predict(accelerator, WithOodDistance(model, ood_distance), dev)[:, -1]
    assert float((ood_distance > 1).float().mean()) <= 0.02
    assert float(ood_distance.median()) > 0.05


def test_no_training_essay_is_among_its_own_neighbours():
    model = scoring_model()
    accelerator = Accelerator(cpu=True)
    train, dev = random_essays([*range(5, 65)] * 2, seed=1), random_essays([12] * 2, seed=2)
    ood_distance = fit_ood_distance(accelerator, model, train, dev)
    multiples = predict(accelerator, WithOodDistance(model, ood_distance), dev)[:, -1].numpy()
    for number, references in enumerate(ood_distance.references):
        threshold = float(ood_distance.thresholds[number])
        cosines = (references @ references.T).numpy()
        others = [1 - np.sort(np.delete(row, place))[-NEIGHBOURS] for place, row in enumerate(cosines)]
        distances = np.array([*multiples[dev.groups == number] * threshold, *others])
        assert threshold == pytest.approx(learn_distance_threshold(distances), rel=1e-4)


def test_too_few_essays_tell_nothing():
    model = scoring_model()
    ood_distance = fit_ood_distance(Accelerator(cpu=True), model, random_essays([12] * 40), random_essays([12] * 30))
    assert [len(vectors) for vectors in ood_distance.references] == [0, 0]


class TestFile:
    def test_it_comes_back(self, tmp_path):
        scorer = tiny_scorer(write_tiny_encoder(tmp_path / "encoder"))
        scorer.screening = learned(scorer)
        scorer.save_pretrained(tmp_path / "model")
        again = EncoderScorer.from_pretrained(tmp_path / "model")
        prompts = ["letter"] * 8 + ["notice"] * 8
        first, second = scorer.score(TEXTS, prompts), again.score(TEXTS, prompts)
        assert np.array_equal(first.raw, second.raw)
        assert np.isfinite(second.ood_distance[:8]).all()
        assert np.isnan(second.ood_distance[8:]).all()
        assert second.ood_distance[:8] == pytest.approx(first.ood_distance[:8], rel=5e-3)  # vectors are stored in half
        assert again.screen.examine(TEXTS, prompts) == scorer.screen.examine(TEXTS, prompts)
        path = tmp_path / "model" / SCREENING
        path.write_bytes(path.read_bytes()[:-7])
        with pytest.raises(CheckpointError, match="is not what was written"):
            EncoderScorer.from_pretrained(tmp_path / "model")

    def test_no_text_can_be_read_from_it(self, tmp_path):
        scorer = tiny_scorer(write_tiny_encoder(tmp_path / "encoder"))
        write_screening(learned(scorer), tmp_path / SCREENING)
        stored = (tmp_path / SCREENING).read_bytes().lower()
        assert not [word for word in ("otter", "bridge", "phones", "teacher") if word.encode() in stored]

    def test_random_damage_is_refused_or_harmless(self, tmp_path):
        scorer = tiny_scorer(write_tiny_encoder(tmp_path / "encoder"))
        write_screening(learned(scorer), tmp_path / SCREENING)
        whole = (tmp_path / SCREENING).read_bytes()
        generator = np.random.default_rng(0)
        for _ in range(150):
            damaged = bytearray(whole)
            for place in generator.integers(0, min(len(whole), 4000), 3):
                damaged[place] = generator.integers(0, 256)
            (tmp_path / SCREENING).write_bytes(bytes(damaged))
            with suppress(CheckpointError):
                read_screening(tmp_path / SCREENING).text.examine(["The otter"], ["letter"])
