"""The tests of explanations: they pass what is faithful, and fail what is not."""

from __future__ import annotations

import json

import numpy as np
import pytest
from command_line import command
from explained_scorers import SCORERS, TEXT, TEXTS, classical, with_kernel
from small_run import write_rows
from tiny_encoder import write_tiny_encoder
from tiny_scorer import tiny_scorer

from aes_dynloss.essays.data.readers import UnscoredEssay
from aes_dynloss.essays.explaining import check as module
from aes_dynloss.essays.explaining.check import check_scorer, check_table, curve_areas, other_marks
from aes_dynloss.essays.explaining.explanation import sentence_contributions
from aes_dynloss.essays.explaining.reading import Reading
from aes_dynloss.essays.explaining.sanity import BABBLE, Planted, best_sentence, plant, randomised
from aes_dynloss.essays.explaining.sentences import sentence_spans
from aes_dynloss.reports.table import text_table

WORDS = ["the otter swims", "phones ring all day", "a bridge is long", "we like tea, jam, cake", "nobody came home"]


def essays(count=8):
    random = np.random.default_rng(1)
    found = []
    for number in range(count):
        chosen = random.permutation(WORDS)[: 3 + number % 3]
        found.append(UnscoredEssay(str(number), "a", " ".join(f"{one.capitalize()}." for one in chosen)))
    return found


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return write_tiny_encoder(tmp_path_factory.mktemp("checked") / "encoder")


def test_areas_of_curves_by_hand():
    """A game whose value is the sum of what sentences add: 3, 1 and 0."""
    adds = np.array([3.0, 1.0, 0.0])

    def values(there):
        return (there @ adds)[:, None]

    deletion, insertion = curve_areas(values, np.array([0, 1, 2]))
    assert deletion == pytest.approx((1 + 0 + 0) / 3)
    assert insertion == pytest.approx((3 + 4 + 4) / 3)
    assert curve_areas(values, np.array([2, 1, 0])) == (pytest.approx((4 + 3 + 0) / 3), pytest.approx((0 + 1 + 4) / 3))


def test_other_marks_change_marks_alone():
    text = 'He said "no".\r\nI can\'t.'
    assert other_marks(text) == "He said \u201dno\u201d.\nI can\u2019t."


def test_a_faithful_explanation_passes_and_its_opposite_fails(monkeypatch):
    monkeypatch.setattr(module, "SMALLEST_SD", 1e-6)  # the model hardly tells these essays apart
    scorer = classical()
    found = check_scorer(scorer, essays())
    prompt = found.prompts["a"]
    assert prompt.essays == 8
    for method in prompt.methods.values():
        assert method.deletion_beats_random.share > 0.8
        assert method.insertion_beats_random.share > 0.8
        assert (method.shapley_rank, method.shapley_essays) == (pytest.approx(1), 8)
    assert prompt.stable_rank is None  # no essay has a mark to change

    def turned(*args, **kwargs):
        parts, last = sentence_contributions(*args, **kwargs)
        return -parts, last

    monkeypatch.setattr(module, "sentence_contributions", turned)
    prompt = check_scorer(scorer, essays()).prompts["a"]
    for method in prompt.methods.values():
        assert max(method.deletion_beats_random.share, method.deletion_of_all.share) < 0.2
        assert method.shapley_rank == pytest.approx(-1)


def test_stability_is_of_essays_that_have_marks_to_change(monkeypatch):
    marked = [one._replace(text=f'{one.text} I can\'t "see" it.') for one in essays(2)]
    prompt = check_scorer(classical(), [*marked, *essays(3)]).prompts["a"]
    found = []
    plain = module.mean_known
    monkeypatch.setattr(module, "mean_known", lambda values: found.append(list(values)) or plain(values))
    assert check_scorer(classical(), [*marked, *essays(3)]).prompts["a"].stable_rank == prompt.stable_rank
    assert any(np.isnan(values).tolist() == [False, False, True, True, True] for values in found)


def test_sentences_that_are_alike_are_left_out(monkeypatch):
    monkeypatch.setattr(module, "SMALLEST_SD", 100)
    prompt = check_scorer(classical(), essays()).prompts["a"]
    assert prompt.alike == 1
    for method in prompt.methods.values():
        assert (method.deletion_beats_random.n, method.deletion_beats_random.share) == (0, None)
        assert (method.insertion_beats_random.n, method.insertion_beats_random.share) == (0, None)
        assert (method.deletion_of_all.n, method.insertion_of_all.n) == (8, 8)
        assert min(method.deletion_of_all.share, method.insertion_of_all.share) > 0.8


@pytest.mark.parametrize("name", SCORERS)
@pytest.mark.parametrize("part", ["head", "encoder"])
def test_a_random_part_changes_scores_and_not_the_scorer(encoder, name, part):
    scorer = SCORERS[name](encoder)
    before = scorer.score([TEXT], ["letter"]).raw
    other = randomised(scorer, part)
    assert other.score([TEXT], ["letter"]).raw != pytest.approx(before, abs=1e-6)
    assert scorer.score([TEXT], ["letter"]).raw == before


def test_what_has_no_such_part():
    scorer = classical()
    assert randomised(scorer, "encoder") is None
    assert randomised(scorer, "head").score([TEXT], ["a"]).raw != pytest.approx(scorer.score([TEXT], ["a"]).raw)


class TestPlanted:
    def test_what_rescoring_shows(self, encoder):
        scorer = with_kernel(encoder)
        essay = Reading("The otter is big. I see the bridge!\r\nIt is a lesson.")
        planted = plant(scorer, essay, "letter", BABBLE)
        text = essay.text.replace("I see", f"{BABBLE} I see")
        raw = scorer.score([text, essay.text], ["letter"] * 2).raw
        assert planted.shown == pytest.approx(raw[0] - raw[1], abs=1e-5)
        spans = sentence_spans(text)
        parts, last = sentence_contributions(scorer, Reading(text), ["letter"], spans, exact=False)
        assert planted.left_out == pytest.approx(last[1, 0], abs=1e-5)
        assert planted.contribution == pytest.approx(parts[1, 0], abs=1e-5)

    @pytest.mark.parametrize(("left_out", "agrees"), [(0.1, True), (-0.1, False), (0.0, False)])
    def test_agreement_is_that_of_signs(self, left_out, agrees):
        assert Planted(0.2, left_out, -1.0).agrees == agrees

    def test_a_sentence_that_does_not_stand_alone(self, encoder):
        essay = Reading("The otter is big. I see the bridge.")
        assert plant(tiny_scorer(encoder), essay, "letter", "no full stop") is None

    def test_the_best_sentence(self):
        assert best_sentence(["A. A longer one here.", "Best is this. No."], [1, 2]) == "Best is this."
        assert best_sentence([], []) == ""


def test_the_command_and_its_table(encoder, tmp_path):
    with_kernel(encoder).save_pretrained(tmp_path / "model")
    rows = [{"essay_id": str(n), "prompt_id": "letter", "text": one.text} for n, one in enumerate(essays(4))]
    write_rows(tmp_path / "essays.csv", rows)
    words = ("explain", tmp_path / "model", tmp_path / "essays.csv", "-o", tmp_path / "out", "--check", "--most", "3")
    outcome = command(*words)
    assert outcome.code == 0, outcome.err
    found = json.loads((tmp_path / "out" / "check.json").read_text())
    prompt = found["prompts"]["letter"]
    assert (found["most"], prompt["essays"]) == (3, 3)
    assert set(prompt["random_ranks"]) == {"head", "encoder"}
    assert set(prompt["planted"]) == {"of a top essay", "babble"}
    assert "letter, estimate" in outcome.out
    assert command(*words).code == 2  # it is there already


def test_a_table_without_some_parts():
    lines = text_table(check_table(check_scorer(classical(), [UnscoredEssay("1", "a", text) for text in TEXTS[:3]])))
    assert len(lines) == 3


def test_what_an_explanation_costs():
    """In scorings, of essays of about twenty sentences."""
    long = " ".join(f"{one.capitalize()} and more." for one in [*WORDS * 4])
    found = check_scorer(classical(), [UnscoredEssay(str(number), "a", long) for number in range(2)], most=2)
    scorings = found.prompts["a"].scorings
    assert set(scorings) == {"estimate", "exact"}
    assert min(scorings.values()) > 1
    assert check_scorer(classical(), essays(2)).prompts["a"].scorings == {}
