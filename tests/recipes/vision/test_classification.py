"""The classification recipe on a few digits: what its runs leave, how they repeat and go on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from folder_content import content
from recipe_line import VISION, recipe

from aes_dynloss.configfile import read_mapping
from aes_dynloss.training import hardware

pytestmark = pytest.mark.slow

DIGITS = VISION / "digits.yaml"
SHORT = ["data.most=64", "model.width=4", "training.epochs=2", "training.device=cpu", "training.precision=float32"]
TEACHERS = {
    "plain": [],
    "dlf": [
        "teacher={kind: dlf, measure: smooth_error, episodes: 2, steps: 3, optimizer: adam, learning_rate: 0.01}",
        "teacher.decay=1.0",
        "teacher.keep=last",
    ],
    "dln": [
        "teacher.kind=dln",
        "teacher.measure=cross_entropy",
        "teacher.window=2",
        "teacher.silent_start=false",
        "teacher.step_size=0.01",
    ],
    "glc": ["teacher={kind: glc}", "data.teacher_dev_fraction=0", "data.trusted=16", "data.labels=zero40"],
}
LEFT = {
    ".lock", "config.yaml", "manifest.json", "metrics.jsonl", "predictions.png", "report.json", "student.safetensors",
    "plots/learning_curves.svg",
    "plots/loss_terms.svg",
}  # fmt: skip
TAUGHT = {"teacher/teacher.json", "teacher/teacher.safetensors"}
ALL_LEFT = {
    "plain": LEFT,
    "dlf": LEFT | TAUGHT | {"plots/loss_matrix.svg", "teaching.jsonl"},
    "dln": LEFT | TAUGHT | {"plots/loss_network.svg"},
    "glc": LEFT | TAUGHT | {"plots/loss_matrix.svg"},
}
IMAGES = {kind: {"train": 46, "teacher_dev": 8, "dev": 10, "test": 599} for kind in TEACHERS}
IMAGES["glc"] = {"train": 56, "teacher_dev": 16, "dev": 8, "test": 599}


def train(kind: str, folder: Path, *words: object) -> Any:
    return recipe("classification.py", DIGITS, *SHORT, *TEACHERS[kind], *words, "--output-dir", folder)


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Any]]:
    """Runs that nothing interrupted."""
    folder = tmp_path_factory.mktemp("straight")
    return {kind: (folder / kind, train(kind, folder / kind)) for kind in TEACHERS}


@pytest.mark.parametrize("kind", TEACHERS)
def test_what_a_run_leaves(straight: Any, kind: str) -> None:
    folder, outcome = straight[kind]
    assert outcome.code == 0, outcome.err
    assert content(folder).keys() == ALL_LEFT[kind]
    report = json.loads((folder / "report.json").read_text())
    assert report["test"].keys() == {"accuracy", "log_likelihood"}
    assert report["steps"] == 4
    assert outcome.out == "".join(f"{name} {value:.4f}\n" for name, value in report["test"].items())
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["images"] == IMAGES[kind]
    assert (manifest["machine"]["device"], manifest["precision"]) == ("cpu", "float32")
    assert str(VISION.parents[1]) not in (folder / "manifest.json").read_text()
    assert [line["step"] for line in lines_of(folder / "metrics.jsonl") if "loss" in line] == [1, 2, 3, 4]
    assert len([line for line in lines_of(folder / "metrics.jsonl") if "dev" in line]) == 2


GOLDEN = {
    "plain": [2.35308, 2.56827, 2.29893, 2.37886],
    "dlf": [0.11951, 0.15178, 0.11848, 0.13999],
    "dln": [2.12334, 2.34529, 2.07614, 2.16467],
    "glc": [1.99118, 2.0089, 1.91953, 2.09995],
}


@pytest.mark.parametrize("kind", TEACHERS)
def test_golden_losses(straight: Any, kind: str) -> None:
    lines = lines_of(straight[kind][0] / "metrics.jsonl")
    assert [line["loss"] for line in lines if "loss" in line] == pytest.approx(GOLDEN[kind], abs=1e-4)


def test_golden_episodes(straight: Any) -> None:
    lines = lines_of(straight["dlf"][0] / "teaching.jsonl")
    assert [line["step"] for line in lines] == [1, 2]
    assert [line["measure"] for line in lines] == pytest.approx([0.87394, 0.87386], abs=1e-4)
    assert [line["hypergradient_norm"] for line in lines] == pytest.approx([0.0014917, 0.0014408], rel=1e-2)


def test_golden_windows(straight: Any) -> None:
    lines = [line["teacher"] for line in lines_of(straight["dln"][0] / "metrics.jsonl") if "teacher" in line]
    assert [line["measure_before"] for line in lines] == pytest.approx([2.32086, 2.26371], abs=1e-4)
    assert [line["measure_after"] for line in lines] == pytest.approx([2.32114, 2.2639], abs=1e-4)
    assert [line["hypergradient_norm"] for line in lines] == pytest.approx([0.043096, 0.014287], rel=1e-2)


class Stopped(Exception):
    """Stands for whatever ends a run."""


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Counts looks at dev and test, and ends a run before one of them."""
    monkeypatch.syspath_prepend(str(VISION))
    import vision_run

    class Looks:
        count, last, predict = 0, 0, staticmethod(vision_run.predict)

        def __call__(self, *given: Any, **how: Any) -> Any:
            self.count += 1
            if self.count == self.last:
                raise Stopped
            return self.predict(*given, **how)

    found = Looks()
    monkeypatch.setattr(vision_run, "predict", found)
    return found


# Looks: two in each of dlf's episodes, one after each epoch (of glc's first student too), one at test. A look that was
# done is not done again.
@pytest.mark.parametrize(
    ("kind", "last", "left"),
    [("plain", 2, 2), ("dlf", 4, 5), ("dlf", 6, 2), ("dln", 2, 2), ("dln", 3, 1), ("glc", 2, 4), ("glc", 4, 2)],
)
def test_stopped_and_resumed(tmp_path: Path, straight: Any, looks: Any, kind: str, last: int, left: int) -> None:
    folder, outcome = straight[kind]
    looks.last = last
    with pytest.raises(Stopped):
        train(kind, tmp_path / "run")
    assert not (tmp_path / "run" / "report.json").exists()
    resumed = train(kind, tmp_path / "run", "--resume")
    assert (resumed.code, resumed.out) == (0, outcome.out)
    assert looks.count == last + left
    found, expected = content(tmp_path / "run"), content(folder)
    assert found.keys() == expected.keys()
    dated = {"report.json", "manifest.json"}
    assert [name for name in expected if found[name] != expected[name] and name not in dated] == []
    reports = [json.loads(files["report.json"]) for files in (found, expected)]
    assert reports[0] == reports[1] | {"seconds": None}


def test_it_goes_on_in_the_precision_that_it_began_in(tmp_path, straight, looks, monkeypatch) -> None:
    """Whatever the processor has on which it is resumed."""
    auto, looks.last = "training.precision=auto", 2
    monkeypatch.setattr(hardware, "cpu_has_bf16", lambda: False)
    refused = train("plain", tmp_path / "run", "training.precision=bf16")
    assert refused.code == 2
    assert "6 to 67 times slower" in refused.error
    with pytest.raises(Stopped):
        train("plain", tmp_path / "run", auto)
    monkeypatch.setattr(hardware, "cpu_has_bf16", lambda: True)
    resumed = train("plain", tmp_path / "run", auto, "--resume")
    assert (resumed.code, resumed.out) == (0, straight["plain"][1].out)
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["precision"] == "float32"


def test_a_frozen_teacher_steers_as_it_did(tmp_path: Path, straight: Any) -> None:
    """The student of the run that taught it saw the same answers, whatever its episodes drew."""
    outcome = train("plain", tmp_path, f"teacher.from={straight['dlf'][0] / 'teacher'}")
    assert outcome.code == 0, outcome.err
    assert outcome.out == straight["dlf"][1].out
    assert content(tmp_path)["metrics.jsonl"] == content(straight["dlf"][0])["metrics.jsonl"]


def test_a_complete_run_says_its_report_again(straight: Any) -> None:
    folder, first = straight["plain"]
    before = content(folder)
    again = train("plain", folder, "--resume")
    assert (again.code, again.out) == (0, first.out)
    assert "is complete; nothing is left to do" in again.err
    refused = train("plain", folder)
    assert (refused.code, refused.out) == (2, "")
    assert "already holds a run" in refused.error
    assert "training.seed was 0, now 3" in train("plain", folder, "training.seed=3", "--resume").error
    assert content(folder) == before


def test_force_replaces_a_run_and_nothing_else(tmp_path: Path, straight: Any) -> None:
    """What another kind of run left goes; a file that is not the run's stays."""
    shutil.copytree(straight["dlf"][0], tmp_path / "run")
    (tmp_path / "run" / "notes.txt").write_text("mine")
    outcome = train("plain", tmp_path / "run", "--force")
    assert (outcome.code, outcome.out) == (0, straight["plain"][1].out)
    assert content(tmp_path / "run").keys() == ALL_LEFT["plain"] | {"notes.txt"}
    assert content(tmp_path / "run")["metrics.jsonl"] == content(straight["plain"][0])["metrics.jsonl"]


def test_force_replaces_a_first_student_too(tmp_path: Path, straight: Any, looks: Any) -> None:
    """The run that takes its place goes on from a student of its own."""
    for last, words in ((2, ["data.seed=1"]), (3, ["--force"])):
        looks.last = last
        with pytest.raises(Stopped):
            train("glc", tmp_path / "run", *words)
    assert not (tmp_path / "run" / "first_stage" / "checkpoint.pt").exists()
    assert train("glc", tmp_path / "run", "--resume").out == straight["glc"][1].out


@pytest.mark.parametrize("kind", TEACHERS)
def test_print_config(tmp_path: Path, straight: Any, kind: str) -> None:
    """It is what a run keeps, and read again it is itself; nothing is run for it."""
    outcome = train(kind, tmp_path / "never", "--print-config")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == (straight[kind][0] / "config.yaml").read_text()
    (tmp_path / "again.yaml").write_text(outcome.out)
    assert recipe("classification.py", tmp_path / "again.yaml", "--print-config").out == outcome.out
    assert list(tmp_path.iterdir()) == [tmp_path / "again.yaml"]
    assert read_mapping(tmp_path / "again.yaml")["data"]["most"] == 64


REFUSED = {
    "unknown key": (["training.epoch=1"], "training.epoch: there is no such key; did you mean epochs"),
    "a loss for scores": (["loss.terms={mse: 1.0}"], "loss: mse is for scores, and these students answer classes"),
    "a measure for scores": (
        ["teacher.kind=dlf", "teacher.measure=one_minus_qwk"],
        "teacher.measure: one_minus_qwk is for scores",
    ),
    "kind is no word": (["teacher={kind: [dlf]}"], "teacher"),
    "averaging": (["training.averaging=0.9"], "training.averaging averages weights, not the statistics of batch norm"),
    "teacher and loss": ([*TEACHERS["dlf"], "loss.terms={focal: 1.0}"], "a teacher brings its own loss"),
    "no teacher_dev": (
        [*SHORT, *TEACHERS["dln"], "data.teacher_dev_fraction=0"],
        "A teacher learns on examples that it is given, and there are none",
    ),
    "ran away": (
        [*SHORT, "training.learning_rate=1000", "training.head_learning_rate=1000"],
        "The student's outputs are no longer finite numbers: it ran away in training. Lower training.learning_rate",
    ),
    "no dev": ([*SHORT, "data.dev_fraction=0.001"], "none is left for dev. Set data"),
    "no source": ([*SHORT, "data.source=nowhere"], "data.source: .*nowhere"),
    "no weights": ([*SHORT, "model.weights=nowhere.safetensors"], "model.weights: nowhere.safetensors cannot be read"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(tmp_path: Path, name: str) -> None:
    words, message = REFUSED[name]
    outcome = recipe("classification.py", DIGITS, *words, "--output-dir", tmp_path / "run")
    one_message(outcome, message)
    assert not (tmp_path / "run" / "report.json").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([DIGITS], "--output-dir is missing"),
        ([DIGITS, "-o", "run", "--resume", "--force"], "--resume and --force exclude each other"),
        (["nowhere.yaml", "-o", "run"], "There is no file nowhere.yaml"),
    ],
)
def test_words_that_make_no_run(words: list[object], message: str) -> None:
    one_message(recipe("classification.py", *words), message)


def one_message(outcome: Any, message: str) -> None:
    """Exit code 2, nothing on standard output, and one message."""
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.count("Error: ") == 1
    assert "Traceback" not in outcome.err
    with pytest.raises(ValueError, match=message):
        raise ValueError(outcome.error)


@pytest.mark.parametrize(("kind", "measure"), [("dlf", "expected_error"), ("dln", "cross_entropy")])
def test_a_teacher_lowers_what_its_paper_lowers(kind, measure):
    shown = recipe("classification.py", VISION / "digits.yaml", f"teacher.kind={kind}", "--print-config")
    assert f"measure: {measure}" in shown.out


def test_a_wrong_path_leaves_no_run_behind(tmp_path):
    words = [VISION / "digits.yaml", *SHORT, "-o", tmp_path / "run"]
    assert recipe("classification.py", *words, "data.source=nowhere").code == 2
    assert recipe("classification.py", *words).code == 0
