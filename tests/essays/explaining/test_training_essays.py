"""What is put beside an essay: training essays near to it, the spread of features, the next score point."""

from __future__ import annotations

import json

import numpy as np
import pytest
from accelerate import Accelerator
from command_line import command
from essay_files import write_rows
from safetensors.numpy import load_file
from scipy.stats import percentileofscore
from small_run import read_rows, small_essays, tune
from tiny_scorer import sign, values_of

from aes_dynloss.errors import CheckpointError
from aes_dynloss.essays.data.readers import UnscoredEssay
from aes_dynloss.essays.ensembles.ensemble import open_scorer
from aes_dynloss.essays.explaining.explanation import explain_essays
from aes_dynloss.essays.explaining.neighbours import neighbours
from aes_dynloss.essays.explaining.next_point import feature_function, feature_values, next_point
from aes_dynloss.essays.explaining.reading import Reading
from aes_dynloss.essays.model.prompt_scales import Postprocessing
from aes_dynloss.essays.model.training_essays import FeatureSpread, TrainingEssays
from aes_dynloss.measures.calibration import RescalingLine

# Essays whose score goes by their length, so many that their vectors are kept.
PER_PROMPT = 80
ENCODER = [
    "model.linguistic=[counts, punctuation]",
    "model.log_length=true",
    "model.frozen_layers=all",
    "model.solver=kernel_ridge",
]
KINDS = {
    "encoder": ENCODER,
    "trained": ["model.linguistic=[counts, punctuation]", "training.epochs=1"],
    "strings": ["model={kind: strings, linguistic: [counts, punctuation]}"],
    "boosting": ["model={kind: boosting}"],
}


def essays():
    found = []
    for number, row in enumerate(small_essays(PER_PROMPT)):
        score = 1 + number % 4
        found.append(row | {"score": score, "text": row["text"][: 45 * score]})
    return found


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_rows(tmp_path_factory.mktemp("source") / "essays.jsonl", essays())


@pytest.fixture(scope="module")
def runs(run_yaml, source, tmp_path_factory):
    class Runs(dict):
        def __missing__(self, kind):
            folder = tmp_path_factory.mktemp(kind) / "run"
            outcome = tune(run_yaml, folder, f"data.source={source}", *KINDS[kind])
            assert outcome.code == 0, outcome.err
            self[kind] = folder
            return folder

    return Runs()


def opened(folder):
    return open_scorer(folder / "model", Accelerator(cpu=True))


class TestFeatureSpread:
    def test_percentiles_are_those_of_scipy(self):
        random = np.random.default_rng(0)
        values = np.column_stack([random.normal(size=600), random.integers(0, 3, 600), random.exponential(size=600)])
        spread = FeatureSpread.of(values, random.integers(1, 4, 600).astype(float))
        for essay in values[:20]:
            expected = [
                percentileofscore(column, value, kind="mean") for column, value in zip(values.T, essay, strict=False)
            ]
            np.testing.assert_allclose(spread.percentiles(essay), expected, atol=3.5)

    def test_a_score_point_has_its_own_and_few_essays_say_nothing(self):
        values = np.arange(60.0)[:, None]
        scores = np.repeat([1.0, 2.0, 3.0], [40, 15, 5])
        spread = FeatureSpread.of(values, scores)
        assert spread.points.tolist() == [1, 2]
        assert spread.percentiles([47.0], 2.0) == pytest.approx([50])
        assert spread.percentiles([47.0], 1.0) == pytest.approx([100])
        assert np.isnan(spread.percentiles([47.0], 3.0)).all()
        assert spread.percentile(0, 29.5) == pytest.approx(50)


@pytest.mark.parametrize("kind", KINDS)
def test_the_folder_keeps_the_spread_of_training_essays(runs, kind):
    scorer, folder = opened(runs[kind]), runs[kind]
    held_out = {row["essay_id"] for part in ("dev", "test") for row in read_rows(folder / f"predictions_{part}.csv")}
    train = [row for row in essays() if row["essay_id"] not in held_out]
    for prompt in scorer.prompts:
        texts = [row["text"] for row in train if row["prompt_id"] == prompt]
        functions = [feature_function(scorer, Reading(text), prompt) for text in texts]
        values = np.array([function.values for function in functions])
        ends = functions[0].spread.quantiles[0]
        np.testing.assert_allclose(ends[:, [0, 10, 20]], np.quantile(values, [0, 0.5, 1], axis=0).T, rtol=1e-5)
        assert functions[0].names == scorer.training.names


@pytest.mark.parametrize("kind", KINDS)
def test_a_function_of_features_is_the_scorer(runs, kind):
    scorer = opened(runs[kind])
    first, second = (row["text"] for row in essays()[:2])
    function = feature_function(scorer, Reading(first), "phones")
    own = scorer.score([first], ["phones"]).raw[0]
    assert function.raw(function.values[None])[0] == pytest.approx(own, abs=1e-4)
    if kind != "trained":  # an epoch teaches little
        assert function.raw(feature_function(scorer, Reading(second), "phones").values[None])[0] != pytest.approx(
            own, abs=1e-3
        )


@pytest.mark.parametrize("kind", KINDS)
def test_the_next_point_is_just_above_its_border(runs, kind):
    scorer, found = opened(runs[kind]), 0
    for row in essays()[::7]:
        prompt, text = row["prompt_id"], row["text"]
        scores = scorer.score([text], [prompt])
        raw, score = float(scores.raw[0]), float(scores.score[0])
        function = feature_function(scorer, Reading(text), prompt)
        point = next_point(scorer, prompt, raw, score, function)
        if point is None:
            assert score == scorer.prompts[prompt].range.high
            continue
        ends = np.array([raw + 1.0001 * point.distance, raw + 0.999 * point.distance])
        assert scorer.postprocessing.points(scorer.prompts, [prompt] * 2, ends).tolist() == [point.score, score]
        lengths = [move.length() for move in point.moves]
        assert lengths == sorted(lengths)
        assert len(lengths) <= 3
        for move in point.moves:
            changed = function.values.copy()
            changed[function.names.index(move.name)] = move.needed
            moved = function.raw(changed[None])
            assert scorer.postprocessing.points(scorer.prompts, [prompt], moved)[0] >= point.score
            ends = function.spread.quantiles[0][function.names.index(move.name)]
            assert ends[1] <= move.needed <= ends[-2]
            found += 1
    assert found or kind == "trained"


@pytest.mark.parametrize(("slope", "reach"), [(1.0, 0.3), (0.01, 30.0), (1e-9, None)])
def test_a_border_far_above_is_found(runs, slope, reach):
    """The border is reached where slope * reach = 0.3."""
    scorer = opened(runs["strings"])
    low = scorer.prompts["phones"].range.low
    scorer.postprocessing = Postprocessing("rescale", {"phones": RescalingLine(slope, low + 0.2 - 2.0 * slope)})
    point = next_point(scorer, "phones", 2.0, low, None)
    assert (None if point is None else point.distance) == (None if reach is None else pytest.approx(reach))


def test_own_columns_move_the_score_as_told(run_yaml, tmp_path):
    """What is told of a user's own column can be had by giving that number."""
    rows = [row | {"pages": number % 7} for number, row in enumerate(essays())]
    for row in rows:
        row["score"] = 1 if row["pages"] < 3 else 4
    source = write_rows(tmp_path / "essays.jsonl", rows)
    words = [
        f"data.source={source}",
        "data.columns.features=[pages]",
        "model={kind: boosting, linguistic: false, own_features: [pages]}",
    ]
    outcome = tune(run_yaml, tmp_path / "run", *words)
    assert outcome.code == 0, outcome.err
    scorer, text = opened(tmp_path / "run"), rows[0]["text"]
    scores = scorer.score([text], ["phones"], features=[{"pages": 1}])
    function = feature_function(scorer, Reading(text, {"pages": 1}), "phones")
    point = next_point(scorer, "phones", float(scores.raw[0]), float(scores.score[0]), function)
    (move,) = point.moves
    assert (move.name, move.value) == ("pages", 1)
    assert scorer.score([text], ["phones"], features=[{"pages": move.needed}]).score[0] >= point.score


class TestNeighbours:
    def test_a_training_essay_is_nearest_to_itself(self, runs):
        scorer = opened(runs["encoder"])
        texts = {row["essay_id"]: row for row in essays()}
        for prompt, ids in scorer.training.ids.items():
            for name, score in list(zip(ids, scorer.training.scores[prompt], strict=True))[:3]:
                assert score == texts[name]["score"]
                first, *others = neighbours(scorer, Reading(texts[name]["text"]), prompt)
                assert (first.essay_id, first.score) == (name, score)
                assert first.similarity == pytest.approx(1, abs=1e-3)
                assert len(others) == 2
                assert first.similarity >= others[0].similarity >= others[1].similarity

    @pytest.mark.parametrize("kind", ["strings", "boosting"])
    def test_none_without_an_encoder(self, runs, kind):
        assert neighbours(opened(runs[kind]), Reading("A text."), "phones") == []

    def test_a_folder_without_ids(self, run_yaml, source, tmp_path):
        assert (
            tune(run_yaml, tmp_path / "run", *ENCODER, f"data.source={source}", "evaluation.keep_ids=false").code == 0
        )
        found = neighbours(opened(tmp_path / "run"), Reading(essays()[0]["text"]), "phones")
        assert [one.essay_id for one in found] == [None] * 3
        stored = b"".join(
            array.tobytes() for array in load_file(tmp_path / "run/model/training_essays.safetensors").values()
        )
        assert not any(row["essay_id"].encode() in stored for row in essays())

    def test_left_out_on_request(self, runs):
        essay = UnscoredEssay("1", "phones", essays()[0]["text"])
        (asked,), (not_asked,) = (
            list(explain_essays(opened(runs["encoder"]), [essay], nearest=nearest)) for nearest in (True, False)
        )
        assert len(asked.scores[0].neighbours) == 3
        assert not_asked.scores[0].neighbours == []
        assert json.loads(json.dumps(asked.to_dict()))["scores"][0]["neighbours"][0].keys() == {
            "essay_id", "score", "similarity",
        }  # fmt: skip


def test_a_folder_of_an_earlier_version(runs, tmp_path):
    """Without the file nothing is put beside an essay, and all else is as before."""
    scorer = opened(runs["encoder"])
    folder = tmp_path / "model"
    scorer.training = None
    scorer.save_pretrained(folder)
    assert not (folder / "training_essays.safetensors").exists()
    earlier = open_scorer(folder, Accelerator(cpu=True))
    text = essays()[0]["text"]
    function = feature_function(earlier, Reading(text), "phones")
    assert neighbours(earlier, Reading(text), "phones") == []
    assert function.spread is None
    assert all(np.isnan(value.percentile) for value in feature_values(function, 3.0))


def test_scores_of_a_scorer_that_learned_other_ones(run_yaml, source, tmp_path):
    """Human scores are those that were given, not what training made of them."""
    rows = [row | {"rater": "ab"[number % 2]} for number, row in enumerate(essays())]
    rated = write_rows(tmp_path / "rated.jsonl", rows)
    trusted = tmp_path / "trusted.txt"
    trusted.write_text("".join(f"{row['essay_id']}\n" for row in rows[::3]))
    words = [f"data.source={rated}", f"data.trusted={trusted}", "data.columns.rater=rater", *ENCODER]
    words.append("data.untrusted=standardise")
    outcome = tune(run_yaml, tmp_path / "run", *words)
    assert outcome.code == 0, outcome.err
    training = opened(tmp_path / "run").training
    assert {float(score) for scores in training.scores.values() for score in scores} <= {1.0, 2.0, 3.0, 4.0}
    assert {float(point) for one in training.spreads.values() for point in one.points} <= {1.0, 2.0, 3.0, 4.0}


@pytest.mark.parametrize("name", ["ids", "scores.0", "quantiles.0"])
def test_a_damaged_file(runs, tmp_path, name):
    import shutil

    from safetensors.numpy import save_file

    folder = tmp_path / "model"
    shutil.copytree(runs["encoder"] / "model", folder)
    path = folder / "training_essays.safetensors"
    arrays = load_file(path)
    arrays[f"training.{name}"] = arrays[f"training.{name}"][:-1]
    save_file(arrays, path)
    sign(folder, values_of(folder))
    with pytest.raises(CheckpointError, match=r"training_essays\.safetensors is damaged"):
        open_scorer(folder, Accelerator(cpu=True))


def test_arrays_round_trip():
    """Tied fractions are found again, too."""
    spread = FeatureSpread.of(np.repeat([0.1, 0.2], 20)[:, None], np.repeat([1.0, 2.0], 20))
    kept = TrainingEssays({"b": ["é", "2"]}, {"b": np.array([1.0, 2.5])}, ["words"], {"a": spread})
    read = TrainingEssays.from_arrays(kept.to_arrays(["a", "b"]), ["a", "b"], ["words"])
    assert read.ids == kept.ids
    assert read.scores["b"].tolist() == [1, 2.5]
    for value in (0.1, 0.2):
        assert read.spreads["a"].percentiles([value]) == spread.percentiles([value])
    np.testing.assert_array_equal(read.spreads["a"].quantiles, spread.quantiles)


def test_the_command_and_its_page(runs, tmp_path):
    rows = [{key: row[key] for key in ("essay_id", "prompt_id", "text")} for row in essays()[:2]]
    source = write_rows(tmp_path / "essays.jsonl", rows)
    assert command("explain", runs["encoder"], source, "-o", tmp_path / "why").code == 0
    lines = [json.loads(line) for line in (tmp_path / "why/explanations.jsonl").read_text().splitlines()]
    for line in lines:
        (score,) = line["scores"]
        assert len(score["neighbours"]) == 3
        assert score["next_point"]["distance"] > 0
        assert len(score["values"]) == 23
    page = (tmp_path / "why/essays/00001.html").read_text()
    assert "Nearest training essays" in page
    assert "more in the raw prediction would give the score" in page
    assert command("explain", runs["encoder"], source, "-o", tmp_path / "none", "--no-neighbours").code == 0
    assert "Nearest training essays" not in (tmp_path / "none/essays/00001.html").read_text()
