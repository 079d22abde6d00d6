"""The grids of MNIST: how arms are tuned, what is collected of them, and what the results say."""

from __future__ import annotations

import errno
import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from recipe_line import VISION, recipe

from aes_dynloss.configfile import dump_yaml, read_mapping, validate

pytestmark = pytest.mark.usefixtures("recipes_in_reach")

RESULTS = sorted((VISION / "results").glob("mnist_*.json"))


@pytest.fixture
def mnist() -> Any:
    import mnist

    return mnist


@pytest.fixture
def whole(mnist: Any) -> Any:
    return validate(mnist.GridConfig, read_mapping(mnist.GRID), "mnist.yaml")


def write_reports(root: Path, dev: dict[str, list[float]], seeds: int = 1, begin: int = 0) -> None:
    """Reports of arms at the first rates, without some of these; on test each seed is .01 below dev."""
    from mnist import FIRST_TRIED

    for arm, values in dev.items():
        rates = (0.015, 0.005) if arm.endswith("_taught") else (*FIRST_TRIED, 1.0, 3.0)  # half of 0.03, and of 0.01
        for rate, value in list(zip(rates, values, strict=False))[begin:]:
            for seed in range(seeds):
                folder = root / f"{arm}-{rate:g}" / f"seed_{seed}"
                folder.mkdir(parents=True)
                report = {"dev": {"accuracy": value}, "test": {"accuracy": value - 0.01 * (1 + seed)}, "seconds": 60.0}
                (folder / "report.json").write_text(json.dumps(report))
                (folder / "metrics.jsonl").write_text("")
                (folder / "manifest.json").write_text("{}")


def test_dev_chooses_each_arm_s_rate(tmp_path: Path, mnist: Any, whole: Any) -> None:
    """Of equal ones the lowest; an arm that is not tried at all rates has none, and is tried next.

    Nor has one whose best is the highest or the lowest so far.
    """
    dev = {"cross_entropy": [0.7, 0.8, 0.8, 0.1], "focal": [0.7, 0.6, 0.1, 0.9, 0.8], "mwn": [0.9] * 3}
    dev |= {"l2t_dlf_matrix_taught": [0.5, 0.6], "l2t_dlf_matrix-0.015": [0.1, 0.3, 0.8, 0.7]}
    dev |= {"l2t_dlf_matrix-0.005": [0.1, 0.85, 0.7, 0.7]}  # the best that the other rate's do, not the teacher's own
    write_reports(tmp_path, dev | {"glc": [0.1, 0.2, 0.3, 0.4], "label_smoothing": [0.4, 0.3, 0.2, 0.1]})
    write_reports(tmp_path, {"l2t_dlf_matrix-0.0015": [0.1, 0.5, 0.2, 0.7, 0.1]})
    arms, trials = mnist.tuned(tmp_path, whole)
    matrix = ["l2t_dlf_matrix_taught-0.005", "l2t_dlf_matrix-0.005-0.03"]
    assert list(arms) == ["cross_entropy-0.03", *matrix, "focal-0.3"]
    low, high = 0.03, 0.3
    assert arms["cross_entropy-0.03"].sets[-2:] == [f"training.{name}learning_rate={low:g}" for name in ("", "head_")]
    assert "training.learning_rate=0.005" in arms[matrix[0]].sets
    assert (arms[matrix[1]].teacher_of, arms[matrix[1]].sets[-2]) == (matrix[0], f"training.learning_rate={low:g}")
    assert f"training.learning_rate={high:g}" in arms["focal-0.3"].sets
    assert list(trials) == [f"generalised_cross_entropy-{rate:g}" for rate in mnist.FIRST_TRIED]
    assert all(sum("learning_rate=" in text for text in arm.sets) >= 2 for arm in trials.values())


def test_a_teacher_s_rate_is_chosen_by_those_that_it_steers(tmp_path: Path, mnist: Any, whole: Any) -> None:
    """From half the control's, which it waits for, down until they do no better; one that runs away steers none."""
    assert list(mnist.tuned(tmp_path, whole)[1]) == [f"cross_entropy-{rate:g}" for rate in mnist.FIRST_TRIED]
    usual = [0.7, 0.8, 0.6, 0.1]
    write_reports(tmp_path, {"cross_entropy": usual, "generalised_cross_entropy": usual, "glc": usual})

    def tried(rate: float, students: Sequence[float] = mnist.FIRST_TRIED) -> list[str]:
        names = [f"l2t_dlf_classes-{rate:g}-{own:g}" for own in students]
        arms, trials = mnist.tuned(tmp_path, whole)
        assert list(trials) == [f"l2t_dlf_classes_taught-{rate:g}", *names]
        assert {trials[name].teacher_of for name in names} == {f"l2t_dlf_classes_taught-{rate:g}"}
        assert not any(arm.startswith("l2t") for arm in arms)
        return names

    tried(0.015)
    write_reports(tmp_path, {"l2t_dlf_classes-0.015": [0.1, 0.8, 0.9, 0.95]})
    assert len(tried(0.015, [1.0])) == 1
    write_reports(tmp_path, {"l2t_dlf_classes-0.015": [0.1, 0.8, 0.9, 0.95, 0.1]}, begin=4)
    tried(0.005)
    write_reports(tmp_path, {"l2t_dlf_classes-0.005": [0.1, 0.8, 0.96, 0.9]})
    tried(0.0015)
    (tmp_path / "l2t_dlf_classes_taught-0.0015" / "seed_0").mkdir(parents=True)
    (tmp_path / "l2t_dlf_classes_taught-0.0015" / "seed_0" / "ran_away.json").write_text("{}")
    arms, trials = mnist.tuned(tmp_path, whole)
    assert list(arms)[-2:] == ["l2t_dlf_classes_taught-0.005", "l2t_dlf_classes-0.005-0.1"]
    assert next(iter(trials)) == "l2t_dlf_forward_taught-0.015"


@pytest.mark.parametrize("name", ["mlp_zero40", "lenet_pair45", "mlp_clean"])
def test_every_arm_of_every_grid_is_a_configuration(tmp_path: Path, mnist: Any, whole: Any, name: str) -> None:
    arms = {arm: mnist.at_rate(own, 0.03) for arm, own in whole.arms.items()}
    cells = mnist.cells_of(mnist.grid_of(name, arms, seeds=2), tmp_path)
    student, labels = name.split("_")
    assert {(cell.config.model.kind, cell.config.data.labels) for cell in cells} == {(student, labels)}
    assert {cell.config.data.trusted for cell in cells} == {500}  # in training in every arm
    assert all(cell.config.data.seed == cell.config.training.seed for cell in cells)


def test_what_is_collected(tmp_path: Path, mnist: Any) -> None:
    """Arms that are tuned and have the seeds, without their rates' numbers; L2T-DLF's form is the one best on dev."""
    root = tmp_path / "mlp_zero40"
    write_reports(root, {"cross_entropy": [0.7, 0.8, 0.6, 0.1], "glc": [0.8, 0.9, 0.9, 0.9]}, seeds=2)
    students = {"l2t_dlf_classes": [0.9, 0.95, 0.9, 0.9], "l2t_dlf_matrix": [0.8, 0.85, 0.8, 0.8]}
    for form, values in students.items():
        lower = [value - 0.1 for value in values]
        write_reports(root, {f"{form}-0.015": values, f"{form}-0.005": lower}, seeds=2)
    write_reports(root, {"focal": [0.6, 0.7, 0.7, 0.7]}, seeds=1)
    write_reports(root, {f"l2t_dlf_{form}_taught": [0.5, 0.4] for form in ("classes", "matrix")}, seeds=2)
    figures = mnist.collected("mlp_zero40", root, 2)
    assert [arm for arm in figures["arms"] if "taught" not in arm] == [
        "cross_entropy", "glc", "l2t_dlf_classes", "l2t_dlf_matrix",
    ]  # fmt: skip
    assert figures["arms"]["l2t_dlf_matrix"]["teacher_of"] == "l2t_dlf_matrix_taught"
    assert figures["arms"]["l2t_dlf_matrix_taught"]["beside"] is None
    assert str(tmp_path) not in json.dumps(figures)
    assert mnist.best_taught(figures) == "l2t_dlf_classes"
    assert mnist.errors_of(figures, "cross_entropy") == pytest.approx([0.21, 0.22])
    lines = mnist.table({"zero40": figures}).splitlines()
    assert lines[2].startswith("| cross_entropy | 21.50 (0.71) | -70 % (")
    assert lines[4] == "| l2t_dlf_classes | 6.50 (0.71) |  |"
    assert {arm: values["beside"] for arm, values in figures["arms"].items() if "taught" not in arm} == {
        "cross_entropy": None, "glc": "cross_entropy", "l2t_dlf_classes": "cross_entropy",
        "l2t_dlf_matrix": "cross_entropy",
    }  # fmt: skip
    assert mnist.collected("mlp_zero40", root, 3) == {}


def test_grids_are_collected_whose_control_has_the_seeds(tmp_path: Path, mnist: Any, caplog: Any) -> None:
    """Of those that are named; one line names the others."""
    control = {"cross_entropy": [0.7, 0.8, 0.6, 0.1]}
    for name, seeds in (("mlp_zero40", 2), ("mlp_pair45", 2), ("mlp_clean", 1)):
        write_reports(tmp_path / "runs" / name, control, seeds)

    def labels(*given: Any) -> set[str]:
        mnist.collect(tmp_path / "runs", *given, into=tmp_path)
        return set(read_mapping(tmp_path / "mnist_mlp.json"))

    caplog.set_level("INFO", "aes_dynloss.vision")
    assert labels(1) == {"zero40", "pair45", "clean"}
    caplog.clear()
    assert labels(2, ["mlp_pair45", "mlp_clean"]) == {"pair45"}
    assert caplog.messages == ["Left out, as their cross_entropy has no 2 seeds at a tuned rate: mlp_clean."]
    assert labels(2, ["mlp_pair45"]) == {"pair45"}
    assert labels(2) == {"zero40", "pair45"}
    assert not (tmp_path / "mnist_lenet.json").exists()
    for given in ((3,), (2, ["mlp_clean"])):
        with pytest.raises(
            mnist.ConfigError, match=rf"no cross_entropy that is tuned and has {given[0]} seeds, of .*Run"
        ):
            labels(*given)


@pytest.fixture
def trained(mnist: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A grid of four arms whose runs only say how good they would be: the better the higher the rate, up to a limit."""
    import grid

    whole = read_mapping(mnist.GRID)
    arms = ("cross_entropy", "glc", "l2t_dlf_classes_taught", "l2t_dlf_classes")
    small = whole | {"seeds": 2, "arms": {arm: whole["arms"][arm] for arm in arms}}
    (tmp_path / "mnist.yaml").write_text(dump_yaml(small))
    monkeypatch.setattr(mnist, "GRID", tmp_path / "mnist.yaml")
    found = SimpleNamespace(runs=[], limits={}, whole=validate(mnist.GridConfig, small, "mnist.yaml"))

    def train(_: Any, config: Any, folder: Path, *__: Any, **___: Any) -> None:
        arm, rate = folder.parent.name.partition("-")[0], config.training.learning_rate
        found.runs.append(f"{folder.parent.name}/{folder.name}")
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text("{}")
        (folder / "metrics.jsonl").write_text("")
        if rate >= min(found.limits.get(arm, 10), found.limits.get(f"{arm}/{folder.name}", 10)):
            raise mnist.TrainingError("After step 3 the loss is nan.")
        report = {"dev": {"accuracy": 0.5 + rate}, "test": {"accuracy": 0.8}, "seconds": 1.0}
        (folder / "report.json").write_text(json.dumps(report))

    monkeypatch.setattr(grid, "run", train)
    return found


@pytest.mark.parametrize(("limit", "chosen"), [(0.3, ["glc-0.1"]), (0.01, ["glc-0.003"]), (0.0, [])])
def test_a_rate_at_which_training_runs_away_is_the_worst(
    tmp_path: Path, mnist: Any, trained: Any, caplog: Any, limit: float, chosen: list[str]
) -> None:
    """The grid goes on, with another rate or without the arm, and such a rate is not tried again."""
    trained.limits["glc"] = limit
    mnist.run("mlp_zero40", tmp_path / "runs")
    assert list(mnist.tuned(tmp_path / "runs", trained.whole)[0]) == [
        "cross_entropy-3", *chosen, "l2t_dlf_classes_taught-1.5", "l2t_dlf_classes-1.5-3",
    ]  # fmt: skip
    assert all((tmp_path / "runs" / arm / "seed_1" / "report.json").exists() for arm in chosen)
    lines = [line for line in caplog.messages if "ran away" in line]
    tried = [rate for rate in mnist.RATES if limit <= rate <= 0.3]
    assert sorted(lines) == [f"glc-{rate:g}/seed_0 ran away: After step 3 the loss is nan." for rate in tried]
    done = len(trained.runs)
    mnist.run("mlp_zero40", tmp_path / "runs")
    assert len(trained.runs) == done == len(set(trained.runs))


def test_without_a_rate_for_the_control_a_grid_ends(tmp_path: Path, mnist: Any, trained: Any) -> None:
    trained.limits["cross_entropy"] = 0.0
    with pytest.raises(mnist.TrainingError, match="mlp_zero40: the training of cross_entropy ran away at every rate"):
        mnist.run("mlp_zero40", tmp_path / "runs")


TEACHER = "l2t_dlf_classes_taught"


@pytest.mark.parametrize(
    ("away", "lost", "others"),
    [
        ("glc/seed_1", ["glc-3/seed_1"], {"cross_entropy", TEACHER, "l2t_dlf_classes"}),
        (f"{TEACHER}/seed_1", [f"{TEACHER}-1.5/seed_1"], {"cross_entropy", "glc"}),
    ],
)
def test_at_the_rate_that_was_chosen_no_seed_may_run_away(
    tmp_path: Path, mnist: Any, trained: Any, away: str, lost: list[str], others: set[str]
) -> None:
    """The command fails when all else is done, students of that teacher apart, and no such run is run again."""
    root = tmp_path / "runs" / "mlp_zero40"
    trained.limits[away] = 0.0
    for _ in range(2):
        with pytest.raises(mnist.TrainingError, match=f"mlp_zero40: training ran away in {', '.join(lost)}, see"):
            mnist.run("mlp_zero40", root)
        assert len(trained.runs) == len(set(trained.runs))
    assert {str(path.parent.relative_to(root)) for path in root.rglob("ran_away.json")} == set(lost)
    assert set(mnist.collected("mlp_zero40", root, 2)["arms"]) == others


def test_a_teacher_that_runs_away_at_every_rate_has_no_students(tmp_path: Path, mnist: Any, trained: Any) -> None:
    trained.limits[TEACHER] = 0.0
    mnist.run("mlp_zero40", tmp_path)
    assert list(mnist.tuned(tmp_path, trained.whole)[0]) == ["cross_entropy-3", "glc-3"]
    tried = {run for run in trained.runs if run.startswith("l2t")}
    assert tried == {f"{TEACHER}-{rate / 2:g}/seed_0" for rate in mnist.RATES}


def test_a_run_that_ran_away_ends_no_other_grid(tmp_path: Path, mnist: Any, trained: Any) -> None:
    trained.limits["glc/seed_1"] = 0.0
    with pytest.raises(mnist.TrainingError, match=r"mlp_zero40: .* glc-3/seed_1(.|\n)*mlp_clean: .* glc-3/seed_1"):
        mnist.run_all(["mlp_zero40", "mlp_clean"], tmp_path)
    assert all(
        (tmp_path / name / "cross_entropy-3/seed_1/report.json").exists() for name in ("mlp_zero40", "mlp_clean")
    )


def test_a_relative_change_has_a_t_interval(mnist: Any) -> None:
    """Against scipy's own, on the log ratios."""
    from scipy import stats

    ours, others = np.array([0.02, 0.03, 0.025]), np.array([0.04, 0.05, 0.055])
    change, low, high = mnist.relative_change(ours.tolist(), others.tolist())
    logs = np.log(ours / others)
    assert change == pytest.approx(np.expm1(logs.mean()))
    bounds = stats.t.interval(0.95, 2, logs.mean(), stats.sem(logs))
    assert (low, high) == pytest.approx(tuple(np.expm1(bounds)))


def test_the_picture_shows_what_was_taught_above_what_is_true(mnist: Any) -> None:
    matrix = torch.arange(100.0).view(10, 10) / 100
    above, below = (axes for axes in mnist.picture({"pair45": matrix}).axes if axes.images and axes.get_title())
    assert np.array_equal(above.images[0].get_array(), matrix.numpy())
    shares = np.asarray(below.images[0].get_array())
    assert shares[3] == pytest.approx([0, 0, 0, 0.55, 0.45, 0, 0, 0, 0, 0])  # a 3 is read as 3 or 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "mlp_zero41"], "There is no grid mlp_zero41. Choose from mlp"),
        (["collect", "--seeds", "0"], "--seeds: expected at least 1, found 0."),
        (["collect"], "holds no cross_entropy that is tuned and has 5 seeds, of the grids mlp_zero40, mlp_pair45"),
        (["collect", "lenet_clean"], "has 5 seeds, of the grids lenet_clean. Run `python"),
    ],
)
def test_words_that_make_no_run(tmp_path: Path, words: list[str], message: str) -> None:
    outcome = recipe("mnist.py", *words, "-o", tmp_path)
    assert (outcome.code, outcome.out) == (2, "")
    assert message in outcome.err
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize(
    ("fault", "code", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "runs"), 2, "Error: runs cannot be used: No space left"),
        (KeyboardInterrupt(), 130, "Stopped. What was finished is kept"),
    ],
)
def test_a_full_disk_and_an_interrupt_end_in_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: BaseException, code: int, message: str
) -> None:
    import grid

    from aes_dynloss.cli import main

    def fail(*_: Any) -> None:
        raise fault

    monkeypatch.setattr(main, "_drop_output", lambda: None)
    monkeypatch.setattr(grid, "cells_of", fail)
    outcome = recipe("mnist.py", "run", "-o", tmp_path, "mlp_clean")
    assert (outcome.code, outcome.out) == (code, "")
    assert message in outcome.err
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_the_results_are_those_of_the_grid_as_it_is(path: Path, mnist: Any, whole: Any) -> None:
    """Each arm's settings, and one of the rates that were tried."""
    student = path.stem.partition("_")[2]
    for labels, own in read_mapping(path).items():
        assert own["grid"]["sets"] == mnist.grid_of(f"{student}_{labels}", whole.arms).sets
        rates = {f"training.learning_rate={rate:g}": rate for rate in mnist.RATES}
        halves = {f"training.learning_rate={rate / 2:g}": rate for rate in mnist.RATES}
        plain = rates[own["arms"][mnist.CONTROL]["sets"][-2]]
        for arm, values in own["arms"].items():
            settings = whole.arms[arm]
            assert values["sets"][:-2] == settings.sets
            assert values["teacher_of"] == settings.teacher_of
            assert (halves[values["sets"][-2]] <= plain) if mnist.teaches(arm) else values["sets"][-2] in rates


def test_losses_are_transferred_at_the_rates_that_dev_chose_here(mnist: Any) -> None:
    """Each arm, a teacher's too, at that of the same loss on zero40."""
    stored = read_mapping(mnist.RESULTS / "mnist_mlp.json")["zero40"]["arms"]

    def rate_of(sets: list[str]) -> str:
        rates = [text.partition("=")[2] for text in sets if "learning_rate=" in text and text.startswith("training.")]
        assert len(rates) == 2
        assert len(set(rates)) == 1
        return rates[0]

    grid = read_mapping(mnist.HERE / "grids" / "fashion_mnist_transfer.yaml")
    for name, arm in grid["arms"].items():
        loss = name.removeprefix("mnist_lenet_").removesuffix("_from_mnist").replace("_mnist_taught", "_taught")
        assert (name, rate_of(arm["sets"])) == (name, rate_of(stored[loss]["sets"]))
        on_mnist = "data.source=data/mnist.parquet" in arm["sets"]
        assert on_mnist is (name.startswith("mnist_") or name.endswith("_mnist_taught"))
