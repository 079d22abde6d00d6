"""Runs of fine-tuning whose loss a teacher steers: what they leave, what they refuse, how they go on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from command_line import command
from small_run import EVERYTHING, check_scores, records, small_essays, tune

from aes_dynloss.configfile import read_mapping
from aes_dynloss.teaching.policies import StudentState
from aes_dynloss.training import episodes, loss_setup, run_state
from aes_dynloss.training.teacher_folder import read_teacher

APART = "data.split.teacher_dev_fraction=0.25"
FROZEN = "model.frozen_layers=all"
DLF = "teacher={kind: dlf, episodes: 2, steps: 4, learning_rate: 0.1, optimizer: adam, decay: 1.0, keep: last}"
DLN = "teacher={kind: dln, window: 3, dev_batch: 6, silent_start: false}"
MWN = "teacher={kind: mwn, dev_batch: 6, width: 5, learning_rate: 0.01}"
LORA = "model.lora={rank: 2}"
TERMS = "loss.terms={mse: 1.0, stde: 0.1}"
VARIANTS = {
    "dlf, regression": [DLF, TERMS, FROZEN],
    "dlf, softmax": [DLF, "model.head=softmax", FROZEN],
    "dlf, ordinal": [DLF, "teacher.measure=smooth_error", "model.head=ordinal", "teacher.bins=4", FROZEN],
    "dlf, whole encoder": [DLF, TERMS, "teacher.steps=2", "training.micro_batch_size=3", "training.averaging=0.8"],
    "dlf, lora": [DLF, TERMS, "teacher.steps=2", LORA],
    "dlf, in pieces": [DLF, TERMS, FROZEN, "teacher.pieces=3", "teacher.average=2"],
    "dln, regression": [DLN, FROZEN],
    "dln, softmax": [DLN, "model.head=softmax", FROZEN],
    "dln, ordinal": [DLN, "model.head=ordinal", "teacher.teacher=feed_forward", FROZEN],
    "dln, whole encoder": [DLN, "model.encoder_dropout=0.1", "training.evaluations=2"],
    "dln, lora": [DLN, LORA, "model.frozen_layers=1"],
    "mwn, regression": [MWN, "loss.terms={mae: 0.5, mse: 1.0}", FROZEN],
    "mwn, softmax": [MWN, "model.head=softmax", FROZEN],
    "mwn, whole encoder": [MWN, "loss.standardise=true", "teacher.window=2", "training.evaluations=2"],
    "mwn, lora": [MWN, LORA],
}
FIRST = ("dlf, regression", "dlf, softmax", "dln, regression", "dlf, in pieces", "mwn, regression")


@pytest.fixture(scope="module")
def taught(run_yaml, tmp_path_factory):
    """Runs that taught, each made when it is first asked for."""
    made: dict[str, Path] = {}

    def run(name):
        if name not in made:
            made[name] = tmp_path_factory.mktemp("taught") / "run"
            outcome = tune(run_yaml, made[name], APART, *VARIANTS[name])
            assert outcome.code == 0, outcome.err
        return made[name]

    return run


def steps_of(folder):
    return [record for record in records(folder) if "loss" in record]


@pytest.mark.parametrize("name", VARIANTS)
def test_what_a_run_leaves(run_yaml, taught, name):
    folder = taught(name)
    dlf = name.startswith("dlf")
    assert {path.name for path in folder.iterdir()} == EVERYTHING | {"teacher"} | ({"teaching.jsonl"} if dlf else set())
    assert {path.name for path in (folder / "teacher").iterdir()} == {"teacher.json", "teacher.safetensors"}
    own = {"dln": "loss_network", "mwn": "loss_weights"}.get(name[:3], "loss_matrix")
    if dlf and "loss.terms" in str(VARIANTS[name]):
        own = "loss_coefficients"
    assert {path.name for path in (folder / "plots").iterdir()} == {
        f"{own}.svg",
        "learning_curves.svg",
        "loss_terms.svg",
    }
    if dlf:
        lines = [json.loads(line) for line in (folder / "teaching.jsonl").read_text().splitlines()]
        assert [line["step"] for line in lines] == ([1, 2, 3, 4] if "teacher.average=2" in VARIANTS[name] else [1, 2])
        assert all(line["hypergradient_norm"] > 0 and "qwk" in line["dev"] for line in lines)
    else:
        assert any("teacher" in record for record in steps_of(folder))
    assert f" Loss: steered by a teacher of kind {name[:3]}. " in (folder / "model" / "README.md").read_text()
    check_scores(folder, run_yaml.with_name("essays.jsonl"), "test")


@pytest.mark.parametrize("name", ["dlf, regression", "dlf, softmax", "dlf, in pieces"])
def test_the_final_student_learns_under_the_teacher_as_it_is(taught, name):
    spec, policy = read_teacher(taught(name) / "teacher", torch.device("cpu"))
    answers = []
    for record in steps_of(taught(name)):
        answers.append(policy.coefficients(StudentState(**record["state"])))
        watched = spec.build().logged_values(answers[-1])
        assert {key: float(value) for key, value in watched.items()} == pytest.approx(record["coefficients"], rel=1e-5)
    assert len(answers) == 2 * -(-27 // 8)
    assert not torch.equal(answers[0], answers[-1])
    assert len(torch.stack(answers).unique(dim=0)) == (3 if name == "dlf, in pieces" else len(answers))


@pytest.mark.parametrize("name", FIRST)
def test_a_teacher_of_another_run(run_yaml, taught, tmp_path, name):
    """It goes on with a whole encoder, no longer learns, and needs no essays; the written configuration repeats it."""
    head = [word for word in VARIANTS[name] if word.startswith("model.head")]
    given = f"teacher.from={taught(name) / 'teacher'}"
    outcome = tune(run_yaml, tmp_path / "run", given, *head, "training.epochs=1")
    assert outcome.code == 0, outcome.err
    assert {path.name for path in (tmp_path / "run").iterdir()} == EVERYTHING
    spec, policy = read_teacher(taught(name) / "teacher", torch.device("cpu"))
    for record in steps_of(tmp_path / "run"):
        watched = spec.build().logged_values(policy.coefficients(StudentState(**record["state"])))
        assert {key: float(value) for key, value in watched.items()} == pytest.approx(record["coefficients"], rel=1e-5)
        assert "teacher" not in record
    if name == FIRST[0]:
        assert tune(tmp_path / "run" / "config.yaml", tmp_path / "again").code == 0
        assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == (tmp_path / "again" / "metrics.jsonl").read_bytes()
        assert read_mapping(tmp_path / "again" / "config.yaml")["teacher"]["from"] == str(taught(name) / "teacher")


@pytest.mark.parametrize("control", ["frozen_mean", "random"])
def test_controls(run_yaml, taught, tmp_path, control):
    """The same episodes; only the final student's loss is another."""
    folder = tmp_path / "run"
    assert tune(run_yaml, folder, APART, *VARIANTS["dlf, regression"], f"teacher.control={control}").code == 0
    same = taught("dlf, regression")
    assert (folder / "teaching.jsonl").read_bytes() == (same / "teaching.jsonl").read_bytes()
    found = [record["coefficients"] for record in steps_of(folder)]
    if control == "frozen_mean":
        last = json.loads((folder / "teaching.jsonl").read_text().splitlines()[-1])
        assert all(weights == found[0] for weights in found)
        # Of the teacher as it ends: it has moved since the episode that the line tells of.
        assert found[0] != pytest.approx(last["coefficients"], rel=1e-6)
        assert found[0] == pytest.approx(last["coefficients"], rel=0.2)
    else:
        assert len({weights["mse"] for weights in found}) == len(found)
    assert all(weight >= 0 for weights in found for weight in weights.values())
    # Who names the folder gets the control, not the teacher that it stands in for.
    spec, policy = read_teacher(folder / "teacher", torch.device("cpu"))
    for record in steps_of(folder):
        given = spec.build().logged_values(policy.coefficients(StudentState(**record["state"])))
        assert {name: float(value) for name, value in given.items()} == pytest.approx(record["coefficients"], rel=1e-5)


class Stopped(Exception):
    """Stands for whatever ends a run."""


KEPT = ("metrics.jsonl", "teaching.jsonl", "teacher/teacher.safetensors", "model/head.safetensors", "report.json")


@pytest.mark.parametrize(("module", "after"), [(episodes, 1), (episodes, 2), (run_state, 1)])
def test_a_run_that_stopped_goes_on(run_yaml, taught, tmp_path, monkeypatch, module, after):
    """After the first episode, after the last, after the final student's first checkpoint."""
    words = [APART, *VARIANTS["dlf, regression"]]
    counts = {episodes: 0, run_state: 0}

    def stopping(each, write):
        def write_and_stop(*arguments):
            write(*arguments)
            counts[each] += 1
            if each is module and counts[each] == after:
                raise Stopped

        return write_and_stop

    with monkeypatch.context() as patch:
        for each in counts:
            patch.setattr(each, "write_checkpoint", stopping(each, each.write_checkpoint))
        with pytest.raises(Stopped):
            tune(run_yaml, tmp_path / "run", *words)
        assert counts[episodes] == (1 if (module, after) == (episodes, 1) else 2)
        assert (tmp_path / "run" / "teaching.pt").exists()
        counts = dict.fromkeys(counts, 10)
        outcome = tune(run_yaml, tmp_path / "run", *words, "--resume")
    assert outcome.code == 0, outcome.err
    assert counts[episodes] == (11 if (module, after) == (episodes, 1) else 10)
    for name in KEPT:
        assert (tmp_path / "run" / name).read_bytes() == (taught("dlf, regression") / name).read_bytes(), name


@pytest.mark.parametrize(("variant", "after"), [("dln, whole encoder", 2), ("dlf, in pieces", 1)])
def test_a_run_whose_policy_remembers_goes_on(run_yaml, taught, tmp_path, monkeypatch, variant, after):
    """A loss network; coefficients of a stretch that began before the checkpoint."""
    words, name = [APART, *VARIANTS[variant]], "write_checkpoint"
    write, count = run_state.write_checkpoint, []

    def write_and_stop(*arguments):
        write(*arguments)
        count.append(None)
        if len(count) == after:
            raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(run_state, name, write_and_stop)
        with pytest.raises(Stopped):
            tune(run_yaml, tmp_path / "run", *words)
    assert tune(run_yaml, tmp_path / "run", *words, "--resume").code == 0
    for kept in (name for name in KEPT if name != "teaching.jsonl"):
        assert (tmp_path / "run" / kept).read_bytes() == (taught(variant) / kept).read_bytes(), kept


def refused(run_yaml, folder, *words):
    """The words of a run that ended before its student had taken a step."""
    outcome = tune(run_yaml, folder, *words)
    assert (outcome.code, outcome.out) == (2, "")
    assert "Traceback" not in outcome.err
    assert not (folder / "metrics.jsonl").exists()
    return outcome.error


OF_SCORES = "answer scores (model.head regression), this one answers a distribution (model.head softmax or ordinal)"
OF_POINTS = "answer a distribution (model.head softmax or ordinal), this one answers scores (model.head regression)"


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("dlf, regression", ["model.head=softmax"], OF_SCORES),
        ("dlf, softmax", [], OF_POINTS),
        ("dln, regression", ["model.head=ordinal"], OF_SCORES),
        ("dln, softmax", [], OF_POINTS),
        ("mwn, regression", ["model.head=softmax"], OF_SCORES),
        ("mwn, softmax", [], OF_POINTS),
        (
            "dlf, softmax",
            ["model.head=ordinal", "data.keep_prompts=[river]"],
            "that teacher knows 6 score points or classes, this student has 5. Use it with students of the same.",
        ),
    ],
)
def test_a_teacher_that_does_not_fit(run_yaml, taught, tmp_path, name, words, message):
    found = refused(run_yaml, tmp_path / "run", f"teacher.from={taught(name) / 'teacher'}", *words)
    assert found.startswith("teacher.from: ")
    assert message in found


def test_a_teacher_that_is_not_there_or_damaged(run_yaml, taught, tmp_path):
    error = refused(run_yaml, tmp_path / "run", f"teacher.from={taught('dlf, softmax')}", "model.head=softmax")
    assert "holds no teacher.json. Name the folder teacher/ of a run that taught." in error
    folder = tmp_path / "teacher"
    folder.mkdir()
    for path in (taught("dlf, softmax") / "teacher").iterdir():
        (folder / path.name).write_bytes(path.read_bytes()[:-1])
    error = refused(run_yaml, tmp_path / "run", f"teacher.from={folder}", "model.head=softmax", "--force")
    assert "Copy the folder again, whole." in error


@pytest.mark.parametrize("words", [[DLF, TERMS], [DLN]])
def test_a_teacher_without_essays(run_yaml, tmp_path, words):
    error = refused(run_yaml, tmp_path / "run", *words, FROZEN)
    assert error.startswith("A teacher learns on essays that others are judged by, and there are none. Name adju")
    assert "or add teacher_dev_ids.txt to data.split.folds_dir." in error


@pytest.mark.parametrize("terms", ["{stde: {schedule: morris}, mse: 1.0}", "{stde: 0.2, mse: rest}"])
def test_a_teacher_and_schedules(run_yaml, tmp_path, terms):
    error = refused(run_yaml, tmp_path / "run", DLF, APART, FROZEN, f"loss.terms={terms}")
    assert error == "loss.terms: a teacher starts from plain numbers; leave schedules and `rest` out."


def write_folds(folder, **more):
    """Id files: every fifth essay to each of dev, test and teacher_dev, the others to train."""
    places = ["train", "train", "dev", "test", "teacher_dev"]
    ids = {name: [] for name in places}
    for number, row in enumerate(small_essays()):
        ids[places[number % 5]].append(row["essay_id"])
    folder.mkdir(parents=True)
    for name, listed in ids.items():
        (folder / f"{name}_ids.txt").write_text("\n".join(listed + more.get(name, [])) + "\n")
    return ids


@pytest.mark.parametrize("part", ["train", "dev", "test"])
def test_essays_of_the_teacher_that_are_in_another_part_too(run_yaml, tmp_path, part):
    ids = write_folds(tmp_path / "good")
    both = ids[part][0]
    write_folds(tmp_path / "folds", teacher_dev=[both])
    words = [DLF, TERMS, FROZEN, f"data.split.folds_dir={tmp_path / 'folds'}"]
    error = refused(run_yaml, tmp_path / "run", *words)
    assert f"essay {both} stands twice, in {part}_ids.txt and teacher_dev_ids.txt. Splits must be disjoint." in error


@pytest.mark.parametrize("kind", ["Episodes", "WindowUpdate"])
def test_the_teacher_sees_its_own_essays_and_the_student_the_others(run_yaml, tmp_path, monkeypatch, kind):
    seen, names = {}, ["train", "teacher_dev"] if kind == "Episodes" else ["teacher_dev"]

    class Seen(getattr(loss_setup, kind)):
        def __init__(self, *parts):
            (problem,) = (part for part in parts if isinstance(part, loss_setup.BilevelProblem))
            for name, examples in zip(names, [parts[3], problem.dev] if len(names) > 1 else [problem.dev], strict=True):
                batch = examples.batch(range(len(examples)))
                seen[name] = list(zip(batch.groups.tolist(), batch.targets.tolist(), strict=True))
            super().__init__(*parts)

    monkeypatch.setattr(loss_setup, kind, Seen)
    ids = write_folds(tmp_path / "folds")
    words = [DLF, TERMS] if kind == "Episodes" else [DLN]
    given = [*words, FROZEN, f"data.split.folds_dir={tmp_path / 'folds'}", "training.epochs=1"]
    assert tune(run_yaml, tmp_path / "run", *given).code == 0
    assert list(seen) == names
    for name, found in seen.items():
        rows = [row for row in small_essays() if row["essay_id"] in ids[name]]
        numbers = {"phones": (0, 1, 5), "river": (1, 0, 4)}
        expected = [(n, (row["score"] - low) / width) for row in rows for n, low, width in [numbers[row["prompt_id"]]]]
        assert [group for group, _ in found] == [group for group, _ in expected]
        assert [target for _, target in found] == pytest.approx([target for _, target in expected])


def test_a_student_that_runs_away_ends_in_words(run_yaml, tmp_path):
    rates = (
        "training={optimizer: sgd, head_learning_rate: 1000, clip_norm: null, epochs: 2, batch_size: 8, device: cpu, "
        "precision: float32}"
    )
    words = [DLF, TERMS, APART, FROZEN, "teacher.steps=40", rates]
    error = refused(run_yaml, tmp_path / "run", *words)
    assert error.startswith("In the teacher's episode the norm of the student's weights is ")
    assert not (tmp_path / "run" / "teaching.pt").exists()


def test_a_finished_run_says_its_report_again(run_yaml, taught):
    folder = taught("dlf, regression")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    words = [APART, *VARIANTS["dlf, regression"]]
    outcome = command("finetune", run_yaml, *words, "-o", folder, "--resume")
    assert outcome.code == 0
    assert "is complete; nothing is left to do" in outcome.err
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
