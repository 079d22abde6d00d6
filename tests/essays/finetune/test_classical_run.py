"""Scorers without an encoder: whole runs, what they leave behind, how they score without torch, what is refused."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from command_line import command
from facts import facts
from small_run import RANGES, check_scores, read_rows, report_of, small_essays, tune, write_rows
from tiny_scorer import sign, values_of

from aes_dynloss.errors import CheckpointError
from aes_dynloss.essays.data.readers import UnscoredEssay
from aes_dynloss.essays.ensembles.ensemble import EssayEnsemble, needs_torch, open_scorer
from aes_dynloss.essays.model.classical_scorer import ClassicalScorer
from aes_dynloss.essays.model.scorer import EncoderScorer
from aes_dynloss.essays.scoring.score import Adviser
from aes_dynloss.essays.screening.kinds import Policy

KINDS = {
    "strings": {"kind": "strings"},
    "strings, linear, no features": {"kind": "strings", "solver": "ridge", "linguistic": False},
    "boosting": {"kind": "boosting", "linguistic": ["counts", "diversity", "spelling"]},
    "forest": {"kind": "forest", "linguistic": False},
}


def write_config(folder: Path, essays: Path, **model: object) -> Path:
    path = folder / "classical.yaml"
    values = {
        "data": {"source": str(essays), "prompts": RANGES},
        "model": {"postprocessing": "rescale", **model},
        "evaluation": {"resamples": 100, "floors": False, "page": False},
    }
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def essays(tmp_path_factory) -> Path:
    return write_rows(tmp_path_factory.mktemp("essays") / "essays.jsonl", small_essays())


@pytest.fixture(scope="module")
def runs(tmp_path_factory, essays) -> dict[str, Path]:
    """A finished run of each kind."""
    folders = {}
    for name, model in KINDS.items():
        folder = tmp_path_factory.mktemp("run")
        outcome = tune(write_config(folder, essays, **model), folder / "run")
        assert outcome.code == 0, outcome.err
        folders[name] = folder / "run"
    return folders


@pytest.mark.parametrize("name", KINDS)
def test_runs_fit_together(runs, essays, name, tmp_path):
    """The folder's model gives the scores of the predictions, and the left-out predictions set their spread."""
    folder = runs[name]
    for part in ("test", "dev"):
        check_scores(folder, essays, part)
    rows = read_rows(folder / "predictions_oof.csv")
    held_out = {row["essay_id"] for part in ("dev", "test") for row in read_rows(folder / f"predictions_{part}.csv")}
    assert len(rows) == 36
    assert not held_out & {row["essay_id"] for row in rows}
    config = json.loads((folder / "model" / "config.json").read_text(encoding="utf-8"))
    raw, human = (
        np.array([float(row[key]) for row in rows if row["prompt_id"] == "river"]) for key in ("raw", "reference")
    )
    line = config["postprocessing"]["prompts"]["river"]
    assert (line["slope"] * raw + line["intercept"]).mean() == pytest.approx(human.mean())
    assert (line["slope"] * raw).std() == pytest.approx(human.std())
    assert report_of(folder)["mean"]["qwk"] is not None
    assert "encoder" not in config["model"]


@pytest.mark.parametrize("name", KINDS)
def test_it_goes_on_and_is_known_to_be_complete(runs, essays, name, tmp_path):
    before = (runs[name] / "report.json").read_bytes()
    assert tune(write_config(tmp_path, essays, **KINDS[name]), runs[name], "--resume").code == 0
    assert (runs[name] / "report.json").read_bytes() == before
    (runs[name] / "predictions_oof.csv").rename(tmp_path / "away.csv")
    outcome = tune(write_config(tmp_path, essays, **KINDS[name]), runs[name], "--resume")
    (tmp_path / "away.csv").rename(runs[name] / "predictions_oof.csv")
    assert outcome.code == 2
    assert "predictions_oof.csv" in outcome.err


def test_a_run_of_an_earlier_version_is_gone_on_with(runs, essays, tmp_path):
    """Keys that the configuration has got since have their defaults, those of data too."""
    shutil.copytree(runs["strings"], tmp_path / "run")
    path = tmp_path / "run" / "config.yaml"
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    del values["data"]["kind"]
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    config = write_config(tmp_path, essays, kind="strings")
    assert tune(config, tmp_path / "run", "--resume").code == 0
    outcome = tune(config, tmp_path / "run", "--resume", "data.kind=answers")
    assert (outcome.code, "data.kind was 'essays', now 'answers'" in outcome.error) == (2, True)


def test_short_answers_are_told_from_essays(essays, tmp_path):
    """By the screen in the model folder, and on its card."""
    for kind, told in (("answers", True), ("essays", False)):
        run = tmp_path / kind
        assert tune(write_config(tmp_path, essays, kind="forest"), run, f"data.kind={kind}").code == 0
        scorer = open_scorer(run / "model")
        assert scorer.screen.texts == kind
        assert ("scores short answers" in (run / "model" / "README.md").read_text(encoding="utf-8")) == told
        adviser = Adviser(scorer, Policy(off_topic="withhold"))
        assert adviser.policy.too_short == ("off" if told else "advise")
        assert adviser.policy.off_topic == "withhold"
        twice = [UnscoredEssay(f"{number}", "river", "We cross the old bridge. " * 20) for number in range(2)]
        assert [one is not None for one in adviser.duplicates(twice, ["river"] * 2)] == [False, not told]


def test_two_runs_are_the_same(essays, tmp_path):
    config = write_config(tmp_path, essays, kind="boosting")
    for name in ("one", "other"):
        assert tune(config, tmp_path / name).code == 0
    one, other = ((tmp_path / name / "predictions_test.csv").read_bytes() for name in ("one", "other"))
    assert one == other


LOADED = """
import sys
from aes_dynloss.cli.main import main
sys.argv = ["aes-dynloss", "score", *sys.argv[1:]]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print(sorted({"torch", "accelerate", "transformers", "sklearn"} & set(sys.modules)))
"""


def test_score_needs_no_torch(runs, essays, tmp_path):
    """Neither for a model, nor for an ensemble of such; an encoder does."""
    both = tmp_path / "both"
    assert command("ensemble", runs["strings"], runs["boosting"], "-o", both).code == 0
    for model in (runs["strings"] / "model", runs["boosting"] / "model", runs["forest"] / "model", both):
        assert not needs_torch(model)
        words = [str(model), str(essays), "--output", str(tmp_path / "scores.csv"), "--force"]
        done = subprocess.run([sys.executable, "-c", LOADED, *words], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "[]"
        assert len(read_rows(tmp_path / "scores.csv")) == 60


def test_an_ensemble_with_an_encoder(runs, run_yaml, essays, tmp_path):
    """Members of all kinds: raw is the mean of theirs."""
    assert tune(run_yaml, tmp_path / "encoder").code == 0
    folders = [tmp_path / "encoder", runs["strings"], runs["boosting"]]
    outcome = command("ensemble", *folders, "-o", tmp_path / "all", "--postprocessing", "rescale")
    assert outcome.code == 0, outcome.err
    assert needs_torch(tmp_path / "all")
    ensemble = open_scorer(tmp_path / "all")
    texts, prompts = zip(*[(row["text"], row["prompt_id"]) for row in small_essays(4)], strict=True)
    members = [open_scorer(folder / "model").score(texts, prompts).raw for folder in folders]
    assert [type(member.scorer) for member in ensemble.members] == [EncoderScorer, ClassicalScorer, ClassicalScorer]
    np.testing.assert_allclose(ensemble.score(texts, prompts).raw, np.mean(members, axis=0), rtol=1e-6)


def test_bf16_is_of_encoders(runs, essays):
    outcome = command("score", runs["strings"] / "model", essays, "--output", "-", "--precision", "bf16")
    assert outcome.code == 2
    assert "no encoder" in outcome.err


def test_each_class_opens_its_own_kind(runs, run_yaml, tmp_path):
    with pytest.raises(CheckpointError, match="of kind strings"):
        EncoderScorer.from_pretrained(runs["strings"] / "model")
    assert tune(run_yaml, tmp_path / "encoder", "training.epochs=1").code == 0
    with pytest.raises(CheckpointError, match="an encoder"):
        ClassicalScorer.from_pretrained(tmp_path / "encoder" / "model")
    outcome = tune(run_yaml, tmp_path / "next", f"model.start_from={runs['strings']}")
    assert outcome.code == 2
    assert "of kind strings" in outcome.err


@pytest.mark.parametrize("name", ["model.safetensors", "screening.safetensors"])
def test_a_damaged_folder_is_refused(runs, essays, name, tmp_path):
    """By its digest; and where that was made to fit, by what the arrays are."""
    scorer = ClassicalScorer.from_pretrained(runs["boosting"] / "model")
    scorer.save_pretrained(tmp_path / "model")
    path = tmp_path / "model" / name
    path.write_bytes(path.read_bytes()[:-7])
    outcome = command("score", tmp_path / "model", essays, "--output", "-")
    assert outcome.code == 2
    assert name in outcome.err


@pytest.mark.parametrize("name", ["strings", "boosting"])
def test_a_folder_of_other_numbers_is_refused(runs, essays, name, tmp_path):
    """Such as one of a version that counts fewer features."""
    shutil.copytree(runs[name] / "model", tmp_path / "model")
    values = values_of(tmp_path / "model")
    values["model"]["linguistic"] = ["counts"]
    sign(tmp_path / "model", values)
    outcome = command("score", tmp_path / "model", essays, "--output", "-")
    assert outcome.code == 2
    assert "this version of aes-dynloss counts 7" in outcome.err


def test_an_ensemble_touched_by_a_file_browser(runs, essays, tmp_path):
    """Names that begin with a dot are nowhere read."""
    assert command("ensemble", runs["strings"], runs["boosting"], "-o", tmp_path / "both").code == 0
    (tmp_path / "both" / "members" / ".DS_Store").write_text("x", encoding="utf-8")
    outcome = command("score", tmp_path / "both", essays, "-o", tmp_path / "scores.csv")
    assert outcome.code == 0, outcome.err


@pytest.mark.parametrize("name", KINDS)
def test_line_ends_are_alike(runs, name):
    scorer = open_scorer(runs[name] / "model")
    text = "We walk to school.\n\nThe river is near, and the bridge is old.\n"
    texts = [text, text.replace("\n", "\r\n"), text.replace("\n", "\r")]
    assert np.ptp(scorer.score(texts, ["river"] * 3).raw) < 1e-9


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"kind": "strings", "encoder": "somewhere"}, "no use for encoder"),
        ({"kind": "strings", "solver": "sgd"}, "needs solver ridge or kernel_ridge"),
        ({"kind": "strings", "strings": False}, "strings true"),
        ({"kind": "boosting", "linguistic": False}, "needs linguistic features"),
        ({"kind": "boosting", "solver": "ridge"}, "has no solver"),
        ({"kind": "forest", "strings": True}, "kind forest has no solver and no strings"),
        ({"kind": "trees"}, "'encoder', 'strings', 'boosting', 'forest' or 'transfer'"),
    ],
)
def test_what_makes_no_sense_is_refused(essays, tmp_path, model, message):
    outcome = tune(write_config(tmp_path, essays, **model), tmp_path / "run")
    assert outcome.code == 2
    assert message in outcome.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("key", ["loss.terms={mae: 1.0}", "data.augmentation={share: 0.2}"])
def test_training_by_batches_is_refused(essays, tmp_path, key):
    outcome = tune(write_config(tmp_path, essays, kind="strings"), tmp_path / "run", key)
    assert outcome.code == 2
    assert "model.kind strings" in outcome.err


def test_no_weights_are_chosen_on_dev(essays, tmp_path):
    words = "data.split.fractions={train: 0.6, dev: 0.4, test: 0}"
    assert tune(write_config(tmp_path, essays, kind="boosting"), tmp_path / "run", words).code == 0
    assert "There is no test split: these figures are those of dev." in report_of(tmp_path / "run")["notes"]


@pytest.mark.parametrize("kind", ["boosting", "forest"])
def test_train_essays_are_predicted_without_their_writers_others(tmp_path, kind):
    """Another score of one essay changes out-of-fold predictions of other writers alone."""
    weighted = {} if kind == "boosting" else {"weight": 1.0}  # a forest without weights predicts out of its bags
    rows = [row | {"writer": f"w{number % 7}", **weighted} for number, row in enumerate(small_essays())]
    writers = {row["essay_id"]: row["writer"] for row in rows if row["prompt_id"] == "river"}
    words = ["data.split.group=writer", *(["data.columns.weight=weight"] if weighted else [])]
    found = []
    for name in ("before", "after"):
        config = write_config(tmp_path, write_rows(tmp_path / "essays.jsonl", rows), kind=kind, linguistic=["counts"])
        assert tune(config, tmp_path / name, *words).code == 0
        read = read_rows(tmp_path / name / "predictions_oof.csv")
        found.append({row["essay_id"]: row["raw"] for row in read if row["prompt_id"] == "river"})
        changed = next(iter(found[0]))
        rows = [row | {"score": 4 - row["score"]} if row["essay_id"] == changed else row for row in rows]
    same = {essay: found[0][essay] == found[1][essay] for essay in found[0]}
    assert found[0].keys() == found[1].keys()
    own = [essay for essay in same if writers[essay] == writers[changed]]
    assert len(own) > 1
    assert all(same[essay] for essay in own)
    assert not all(same.values())


def test_too_few_essays(tmp_path):
    rows = write_rows(tmp_path / "essays.jsonl", [row for row in small_essays(9) if row["prompt_id"] == "river"])
    words = "data.split.fractions={train: 0.4, dev: 0.3, test: 0.3}"
    outcome = tune(
        write_config(tmp_path, rows, kind="boosting"),
        tmp_path / "run",
        words,
        "data.prompts={river: {low: 0, high: 4}}",
    )
    assert outcome.code == 2
    assert outcome.err.count("\n") < 5
    assert re.search(facts("river", "boosting", "5"), outcome.err)


def test_ensembles_keep_their_members_kind(runs, tmp_path):
    ensemble = EssayEnsemble.from_members([runs["strings"] / "model", runs["boosting"] / "model"])
    ensemble.save_pretrained(tmp_path / "both")
    again = EssayEnsemble.from_pretrained(tmp_path / "both")
    assert [member.scorer.config.kind for member in again.members] == ["strings", "boosting"]
