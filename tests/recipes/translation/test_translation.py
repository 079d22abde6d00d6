"""The translation recipe on a few made-up pairs: what its runs leave, how they repeat and go on."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from folder_content import content
from recipe_line import TRANSLATION, recipe

from aes_dynloss.configfile import read_mapping

pytestmark = pytest.mark.slow

SMALL = [
    "data.vocabulary=300", "data.teacher_dev=12", "model={width: 8, heads: 2, layers: 1, feed_forward: 8, near: 3}",
    "training.batch_size=12", "training.epochs=2", "training.device=cpu", "training.precision=float32", "beams=2",
]  # fmt: skip
SMOOTHED = "loss.terms={cross_entropy: 0.9, uniform_cross_entropy: 0.1}"
TAUGHT = "teacher={kind: dlf, measure: cross_entropy, episodes: 2, steps: 2, learning_rate: 0.2, keep: last}"
LEFT = {
    ".lock", "config.yaml", "manifest.json", "metrics.jsonl", "report.json", "student.safetensors", "tokenizer.json",
    "translations.txt", "plots/learning_curves.svg", "plots/loss_terms.svg",
}  # fmt: skip
TEACHER = {"teacher/teacher.json", "teacher/teacher.safetensors", "plots/loss_matrix.svg", "teaching.jsonl"}
ALL_LEFT = {"warm": LEFT, "smoothed": LEFT, "taught": LEFT | TEACHER}


def train(source: Path, folder: Path, *words: object) -> Any:
    yaml = TRANSLATION / "multi30k.yaml"
    sets = [f"data.source={source}", *SMALL, *words]
    return recipe("translation.py", yaml, *sets, "--output-dir", folder, folder=TRANSLATION)


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What is set in each of the runs, of which all but the first start from it."""
    start = f"start={tmp_path_factory.getbasetemp() / 'warm'}"
    return {"warm": [], "smoothed": [start, SMOOTHED], "taught": [start, TAUGHT]}


@pytest.fixture(scope="module")
def straight(
    tmp_path_factory: pytest.TempPathFactory, source: Path, words: dict[str, list[str]]
) -> dict[str, tuple[Path, Any]]:
    """Runs that nothing interrupted."""
    folder = tmp_path_factory.getbasetemp()
    return {name: (folder / name, train(source, folder / name, *sets)) for name, sets in words.items()}


@pytest.mark.parametrize("name", ALL_LEFT)
def test_what_a_run_leaves(straight: Any, name: str) -> None:
    folder, outcome = straight[name]
    assert outcome.code == 0, outcome.err
    assert content(folder).keys() == ALL_LEFT[name]
    report = read_mapping(folder / "report.json")
    assert list(report["test"]) == ["bleu", "bleu_greedy", "accuracy", "log_likelihood"]
    assert outcome.out == "".join(f"{measure} {value:.4f}\n" for measure, value in report["test"].items())
    assert report["sacrebleu"].startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert (report["steps"], report["taught"] is None) == (6, name != "taught")
    manifest = read_mapping(folder / "manifest.json")
    assert manifest["pairs"] == {"train": 36, "dev": 10, "test": 6, "teacher_dev": 12}
    assert str(TRANSLATION.parents[1]) not in (folder / "manifest.json").read_text()
    assert len((folder / "translations.txt").read_text(encoding="utf-8").splitlines()) == 6


GOLDEN = {
    "warm": [4.12537, 7.69365, 6.09518, 3.89146, 7.67466, 6.21448],
    "smoothed": [4.09722, 7.68092, 6.05631, 3.87701, 7.66529, 6.18395],
    "taught": [0.40289, 0.75717, 0.59749, 0.37961, 0.75401, 0.61099],
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_losses(straight: Any, name: str) -> None:
    lines = lines_of(straight[name][0] / "metrics.jsonl")
    assert [line["loss"] for line in lines if "loss" in line] == pytest.approx(GOLDEN[name], abs=1e-4)


def test_golden_episodes(straight: Any) -> None:
    lines = lines_of(straight["taught"][0] / "teaching.jsonl")
    assert [line["measure"] for line in lines] == pytest.approx([5.97568, 5.9745], abs=1e-4)
    assert [line["hypergradient_norm"] for line in lines] == pytest.approx([0.00043221, 0.0029516], rel=1e-2)


def test_the_teacher_moved_what_it_could(straight: Any) -> None:
    """Two signed steps of 0.2 and 0.18 move a coefficient by at most 0.38, beyond the noise it began with."""
    taught = read_mapping(straight["taught"][0] / "report.json")["taught"]
    assert list(taught) == ["gold", "near", "any", "bias"]
    for name, values in taught.items():
        assert len(values) == 4
        moved = [abs(value - (name == "gold")) for value in values]
        assert max(moved) < 0.42
        assert max(moved) > 0.1


class Stopped(Exception):
    """Stands for whatever ends a run."""


@pytest.fixture
def looks(modules: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Counts looks at dev and test, and ends a run before one of them."""

    class Looks:
        count, last, predict = 0, math.inf, staticmethod(modules.translation.predict)

        def __call__(self, *given: Any, **how: Any) -> Any:
            self.count += 1
            if self.count == self.last:
                raise Stopped
            return self.predict(*given, **how)

    counted = Looks()
    monkeypatch.setattr("aes_dynloss.predict", counted)
    return counted


@pytest.mark.parametrize(("name", "last"), [("warm", 2), ("smoothed", 2), ("taught", 2), ("taught", 4)])
def test_stopped_and_resumed(
    tmp_path: Path, straight: Any, source: Path, words: dict[str, list[str]], looks: Any, name: str, last: int
) -> None:
    folder, outcome = straight[name]
    looks.last = last
    with pytest.raises(Stopped):
        train(source, tmp_path / "run", *words[name])
    assert not (tmp_path / "run" / "report.json").exists()
    looks.last = math.inf
    resumed = train(source, tmp_path / "run", *words[name], "--resume")
    assert (resumed.code, resumed.out) == (0, outcome.out)
    found, expected = content(tmp_path / "run"), content(folder)
    assert found.keys() == expected.keys()
    dated = {"report.json", "manifest.json"}
    assert [name for name in expected if found[name] != expected[name] and name not in dated] == []


def test_a_frozen_teacher_steers_as_it_did(tmp_path: Path, straight: Any, source: Path) -> None:
    sets = [f"start={straight['warm'][0]}", f"teacher.from={straight['taught'][0] / 'teacher'}"]
    outcome = train(source, tmp_path, *sets)
    assert outcome.code == 0, outcome.err
    assert outcome.out == straight["taught"][1].out
    assert content(tmp_path)["metrics.jsonl"] == content(straight["taught"][0])["metrics.jsonl"]


REFUSED = {
    "a loss for scores": (["loss.terms={mse: 1.0}"], "loss.terms: mse does not fit a vocabulary; take one of"),
    "a loss over classes": (["loss.terms={label_smoothing: 1.0}"], "label_smoothing does not fit a vocabulary"),
    "a measure for scores": (["start=runs", "teacher={kind: dlf}"], "teacher.measure: one_minus_qwk does not fit"),
    "another teacher": (["start=runs", "teacher={kind: mwn}"], "only the kind dlf, or from: DIR, fits a vocabulary"),
    "a loss beside a teacher": (
        ["start=runs", TAUGHT, SMOOTHED],
        "a teacher brings its own loss; leave the section loss",
    ),
    "no start": ([TAUGHT], "near tokens are those of an embedding that has learned; name an earlier run in start"),
    "few bins": (["start=runs", TAUGHT, "teacher.bins=5"], "teacher.bins is 5, expected at least 6"),
    "nowhere to start": (["start=nowhere"], r"start: .*tokenizer.json cannot be read: .*Name the folder of a complete"),
    "no pairs": (["data.source=nowhere"], "data.source: .*nowhere"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(tmp_path: Path, source: Path, name: str) -> None:
    sets, message = REFUSED[name]
    one_message(train(source, tmp_path / "run", *sets), message)
    assert not (tmp_path / "run").exists()


def test_a_start_of_another_size_is_refused(tmp_path: Path, straight: Any, source: Path) -> None:
    outcome = train(source, tmp_path / "run", f"start={straight['warm'][0]}", "model.width=12")
    one_message(outcome, r"start: .*student.safetensors does not fit: .*the same section model")


def one_message(outcome: Any, message: str) -> None:
    """Exit code 2, nothing on standard output, and one message."""
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.count("Error: ") == 1
    assert "Traceback" not in outcome.err
    with pytest.raises(ValueError, match=message):
        raise ValueError(outcome.error)


def test_near_tokens_are_those_of_the_start(modules: Any, straight: Any, source: Path) -> None:
    """And its weights and tokens are the run's."""
    own = modules.translation
    values = read_mapping(straight["taught"][0] / "config.yaml")
    student, tokenizer, _ = own.build(own.TranslationConfig.model_validate(values))
    weights = own.load_file(straight["warm"][0] / "student.safetensors")
    assert content(straight["warm"][0])["tokenizer.json"].decode() == tokenizer.to_str()
    assert all(bool((tensor == weights[name]).all()) for name, tensor in student.state_dict().items())
    near = modules.token_classes.near_tokens(weights["embedding.weight"], student.counts, 3)
    assert near.tolist() == student.near.tolist()
