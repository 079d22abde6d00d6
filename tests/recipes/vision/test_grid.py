"""Grids of vision recipes, short and on digits; the README holds the tables of the results."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import pytest
from filelock import FileLock
from recipe_line import VISION, recipe

from aes_dynloss.configfile import dump_yaml, read_mapping, validate

pytestmark = pytest.mark.slow

RESULTS = [path for path in sorted((VISION / "results").glob("*.json")) if not path.stem.startswith("mnist_")]
SHORT = ["training.epochs=1", "data.most=300", "training.batch_size=64"]
TEACHER = "teacher={kind: dlf, episodes: 1, steps: 2, measure: expected_error}"
GRID = {
    "task": "classification",
    "recipe": "digits.yaml",
    "measure": "accuracy",
    "seeds": 2,
    "sets": SHORT,
    "arms": {
        "cross_entropy": {},
        "taught": {"sets": [TEACHER]},
        "deeper": {"sets": ["model.depth=20"], "teacher_of": "taught"},
    },
}


@pytest.fixture
def grid_module(monkeypatch):
    monkeypatch.syspath_prepend(str(VISION))
    import grid

    return grid


def write_grid(folder: Path, **changes: object) -> Path:
    path = folder / "grid.yaml"
    path.write_text(dump_yaml({**GRID, **changes}), encoding="utf-8")
    return path


def test_a_grid_from_start_to_table(tmp_path, grid_module):
    path = write_grid(tmp_path)
    outcome = recipe("grid.py", path, "-o", tmp_path / "runs")
    assert outcome.code == 0, outcome.err
    found = read_mapping(tmp_path / "runs" / "results.json")
    assert outcome.out == grid_module.table(found) + "\n"
    assert str(tmp_path) not in json.dumps(found)
    (episodes, windows) = found["arms"]["taught"]["teaching"][0], found["arms"]["cross_entropy"]["teaching"][0]
    assert [len(values) for values in episodes.values()] == [1, 1]
    assert windows is None
    reports = {
        (arm, seed): read_mapping(tmp_path / "runs" / arm / f"seed_{seed}" / "report.json")
        for arm in GRID["arms"]
        for seed in range(2)
    }
    for arm, values in found["arms"].items():
        mine = [reports[arm, seed]["test"]["accuracy"] for seed in range(2)]
        beside = [value - reports["cross_entropy", seed]["test"]["accuracy"] for seed, value in enumerate(mine)]
        assert values["accuracy"]["mean"] == pytest.approx(mean(mine))
        assert values["accuracy"]["sd"] == pytest.approx(stdev(mine))
        if arm == "cross_entropy":
            assert values["beside_control"] is None
        else:
            assert values["beside_control"]["mean"] == pytest.approx(mean(beside))
            assert values["beside_control"]["se"] == pytest.approx(stdev(beside) / 2**0.5)
    seeds = [read_mapping(tmp_path / "runs" / "deeper" / f"seed_{seed}" / "config.yaml") for seed in range(2)]
    assert [config["training"]["seed"] for config in seeds] == [0, 1]
    assert [Path(config["teacher"]["from"]).parts[-3:] for config in seeds] == [
        ("taught", f"seed_{seed}", "teacher") for seed in range(2)
    ]


def test_a_setting_may_follow_the_seed(tmp_path, grid_module):
    grid = validate(grid_module.GridConfig, {**GRID, "sets": [*SHORT, "data.seed={seed}"]}, "grid")
    cells = grid_module.cells_of(grid, tmp_path)
    assert {(cell.config.data.seed, cell.config.training.seed) for cell in cells} == {(0, 0), (1, 1)}


def test_what_is_complete_is_not_made_again(tmp_path):
    path = write_grid(tmp_path, arms={"cross_entropy": {}}, seeds=1)
    for _ in range(2):
        assert recipe("grid.py", path, "-o", tmp_path / "runs").code == 0
        report = tmp_path / "runs/cross_entropy/seed_0/report.json"
        made = report.stat().st_mtime_ns
    assert report.stat().st_mtime_ns == made
    outcome = recipe("grid.py", path, "seeds=2", "-o", tmp_path / "runs")
    assert outcome.code == 0
    assert report.stat().st_mtime_ns == made
    assert (tmp_path / "runs/cross_entropy/seed_1/report.json").exists()


def test_on_dev_nothing_of_test_is_told(tmp_path):
    path = write_grid(tmp_path, arms={"cross_entropy": {}}, seeds=1, measured_on="dev")
    assert recipe("grid.py", path, "-o", tmp_path / "runs").code == 0
    arm = read_mapping(tmp_path / "runs" / "results.json")["arms"]["cross_entropy"]
    assert "test" not in arm
    report = read_mapping(tmp_path / "runs/cross_entropy/seed_0/report.json")
    assert arm["accuracy"]["mean"] == report["dev"]["accuracy"]


def test_on_dev_a_rate_at_which_training_runs_away_is_the_worst(tmp_path, grid_module, monkeypatch):
    """The grid goes on without it and what it would teach, and does not try it again; on test it ends."""
    from aes_dynloss import TrainingError

    begun = []

    def train(build, config, folder, *given, **how):
        begun.append(folder.parent.name)
        if folder.parent.name.startswith("wild"):
            folder.mkdir(parents=True)
            raise TrainingError("After step 3 the loss is nan.")
        return real(build, config, folder, *given, **how)

    real = grid_module.run
    monkeypatch.setattr(grid_module, "run", train)
    arms = {"plain": {}, "wild_taught": {"sets": [TEACHER]}, "of_wild": {"teacher_of": "wild_taught"}, "wild": {}}
    path = write_grid(tmp_path, arms=arms | {"beside_wild": {"beside": "wild"}}, seeds=1, measured_on="dev")
    words = [str(path), "-o", str(tmp_path / "runs")]
    for _ in range(2):
        assert grid_module.run_command(grid_module.main, "grid.py", words) == 0
        assert begun == ["plain", "wild_taught", "wild", "beside_wild"]
    found = read_mapping(tmp_path / "runs" / "results.json")
    assert {arm: own.get("ran_away") for arm, own in found["arms"].items()} == {
        "plain": None, "wild_taught": ["wild_taught/seed_0"], "of_wild": ["wild_taught/seed_0"],
        "wild": ["wild/seed_0"], "beside_wild": None,
    }  # fmt: skip
    lines = grid_module.table(found).splitlines()
    assert "| of_wild | its teacher ran away |  |  |" in lines
    assert "| wild | ran away |  |  |" in lines
    assert lines[-1].split(" | ")[2] == ""
    path = write_grid(tmp_path, arms={"wild": {}}, seeds=1)
    assert grid_module.run_command(grid_module.main, "grid.py", [str(path), "-o", str(tmp_path / "other")]) == 2


@contextmanager
def held_until(lock: Path, condition: Callable[[], bool]) -> Iterator[None]:
    """Hold a lock, as another process would, until a condition is met."""
    lock.parent.mkdir(parents=True)
    held = FileLock(lock, thread_local=False)
    held.acquire()

    def release() -> None:
        until = time.monotonic() + 120
        while not condition() and time.monotonic() < until:
            time.sleep(0.01)
        held.release()

    thread = threading.Thread(target=release)
    thread.start()
    yield
    thread.join()


@pytest.mark.parametrize("lock", ["locks/cross_entropy__seed_0.lock", "cross_entropy/seed_0/.lock"])
def test_a_run_on_which_another_process_works_is_passed_over_and_waited_for(tmp_path, lock):
    """Whether that process is one of the grid, or a run in that folder alone."""
    path, runs = write_grid(tmp_path, arms={"cross_entropy": {}}, seeds=2), tmp_path / "runs"
    reports = [runs / f"cross_entropy/seed_{seed}/report.json" for seed in range(2)]
    with held_until(runs / lock, reports[1].exists):
        outcome = recipe("grid.py", path, "-o", runs)
    assert outcome.code == 0, outcome.err
    assert reports[1].stat().st_mtime_ns < reports[0].stat().st_mtime_ns
    assert (runs / "results.json").exists()


def test_an_arm_waits_for_its_teacher(tmp_path):
    arms = {"taught": {"sets": [TEACHER]}, "deeper": {"teacher_of": "taught"}, "plain": {}}
    path, runs = write_grid(tmp_path, arms=arms, seeds=1), tmp_path / "runs"
    begun = []

    def others_are_done() -> bool:
        begun.append((runs / "deeper").exists())
        return (runs / "plain/seed_0/report.json").exists()

    with held_until(runs / "taught/seed_0/.lock", others_are_done):
        outcome = recipe("grid.py", path, "-o", runs)
    assert outcome.code == 0, outcome.err
    assert not any(begun)
    assert (runs / "results.json").exists()


def test_runs_with_other_settings_are_not_taken_for_the_grid_s(tmp_path):
    path = write_grid(tmp_path, arms={"cross_entropy": {}}, seeds=1)
    assert recipe("grid.py", path, "-o", tmp_path / "runs").code == 0
    outcome = recipe("grid.py", path, "sets=[training.epochs=2]", "-o", tmp_path / "runs")
    assert outcome.code == 2
    assert "was made with other settings: " in outcome.error
    assert "training.epochs was 1, now 2" in outcome.error


def test_a_measure_that_there_is_not_is_told_after_the_first_run(tmp_path):
    for _ in range(2):
        outcome = recipe("grid.py", write_grid(tmp_path, measure="acuracy"), "-o", tmp_path / "runs")
        assert outcome.code == 2
        assert "these runs measure accuracy, log_likelihood, and not acuracy" in outcome.error
        assert len(list((tmp_path / "runs").glob("*/*/report.json"))) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arms": {"../up": {}}}, "'../up' cannot be a folder"),
        ({"arms": {"b": {"teacher_of": "a"}, "a": {}}}, "arms.b.teacher_of: expected an arm before it"),
        (
            {"arms": {"a": {}, "b": {"teacher_of": "a"}}},
            "arms.b.teacher_of: the arm a has no teacher that learns",
        ),
        (
            {"arms": {"a": {}, "b": {"sets": ["training.precision=bf16"]}}},
            "training.precision is bf16 and float32 in one grid: one process can have only one",
        ),
        ({"arms": {"a": {}, "b": {"beside": "c"}}}, "arms.b.beside: expected one of a, b, found c"),
        ({"seeds": 0}, "seeds"),
        ({"task": "reading"}, "task"),
        ({"sets": ["training.epoch=1"]}, "epochs"),
    ],
)
def test_faults(tmp_path, changes, message):
    outcome = recipe("grid.py", write_grid(tmp_path, **changes), "-o", tmp_path / "runs")
    assert outcome.code == 2
    assert message in outcome.err
    assert "Traceback" not in outcome.err
    assert not list(tmp_path.glob("runs/*/*/config.yaml"))


@pytest.mark.parametrize(
    ("arm", "expected"),
    [("plain", None), ("focal", "plain"), ("dlf_taught", None), ("other", None), ("of_other", "other")],
)
def test_whom_an_arm_is_compared_with(grid_module, arm, expected):
    """By default the first; another student has that which is named, or none; what only teaches has none."""
    arms = {
        "first_taught": {},
        "plain": {},
        "focal": {},
        "dlf_taught": {"beside": "plain"},
        "other": {"student": "LeNet"},
        "of_other": {"student": "LeNet", "beside": "other"},
    }
    grid = grid_module.GridConfig.model_validate({**GRID, "arms": arms})
    assert grid_module.compared_with(grid, arm) == expected


def test_how_a_teacher_of_windows_learnt(tmp_path, grid_module):
    """In what part of the windows the measure fell, on both batches, and the mean SD of a rewrite."""
    keys = ("measure_before", "measure_after", "fresh_before", "fresh_after", "rewrite_sd")
    rows = [
        (0.5, 0.4, 0.5, 0.6, 0.01),
        (0.4, 0.4, 0.6, 0.5, 0.03),
        (0.4, 0.3, 0.5, 0.6, 0.05),
        (0.3, 0.2, 0.6, 0.7, 0.07),
    ]
    lines = [{"step": 1}, *({"teacher": dict(zip(keys, row, strict=True))} for row in rows)]
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert grid_module.teaching(tmp_path) == pytest.approx(
        {"windows": 4, "lower_after": 0.75, "fresh_lower_after": 0.25, "rewrite_sd": 0.04}
    )
    old = [{"teacher": {key: line["teacher"][key] for key in keys[:2]}} for line in lines[1:]]
    metrics.write_text("".join(json.dumps(line) + "\n" for line in old))
    assert grid_module.teaching(tmp_path) == {"windows": 4, "lower_after": 0.75}


def test_a_folder_may_be_named_in_another_way(tmp_path, monkeypatch):
    """By the folder from which it was started, say: the teacher's place is the same."""
    path = write_grid(tmp_path, seeds=1)
    monkeypatch.chdir(tmp_path)
    assert recipe("grid.py", path, "-o", "runs").code == 0
    assert recipe("grid.py", path, "-o", tmp_path / "runs").code == 0


@pytest.mark.parametrize("path", [path for path in RESULTS if "tuning" not in path.stem], ids=lambda path: path.stem)
def test_the_readme_holds_the_tables_of_the_results(path, grid_module):
    text = path.read_text(encoding="utf-8")
    found = json.loads(text)
    readme = (VISION / "README.md").read_text(encoding="utf-8")
    assert f"<!-- results/{path.name} -->\n{grid_module.table(found)}\n" in readme
    assert not any(word in text for word in ("/home/", "/tmp/", "/work/", "/root/"))


def test_arms_that_only_teach_are_in_no_table(tmp_path, grid_module, monkeypatch):
    """An arm on another task has that in the table of all."""
    import overview

    monkeypatch.setattr(overview, "HERE", tmp_path)
    arms = {"dlf_taught": {}, "plain": {}, "other": {"title": "MNIST", "student": "LeNet"}}
    for folder in ("grids", "results"):
        (tmp_path / folder).mkdir()
    grid = GRID | {"title": "digits", "student": "ResNet-8", "arms": arms}
    (tmp_path / "grids/one.yaml").write_text(dump_yaml(grid))
    own = {
        "accuracy": {"mean": 0.9, "sd": 0.01, "se": 0.005},
        "seconds": [60.0],
        "beside": None,
        "beside_control": None,
    }
    figures = {"grid": {"measure": "accuracy"}, "arms": dict.fromkeys(arms, own)}
    (tmp_path / "results/one.json").write_text(json.dumps(figures))
    lines = grid_module.table(figures).splitlines()
    assert lines[0] == "| loss | accuracy, mean (sd) | beside plain (se) | minutes |"
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| plain", "| other"]
    assert [line.split(" | ")[:3] for line in overview.overview().splitlines()[2:]] == [
        ["| digits", "ResNet-8", "plain"], ["| MNIST", "LeNet", "other"],
    ]  # fmt: skip


def test_the_readme_holds_the_table_of_all(monkeypatch):
    monkeypatch.syspath_prepend(str(VISION))
    import overview

    written = {path.stem for path in RESULTS if "tuning" not in path.stem}
    assert all(f"`grid.py grids/{name}.yaml`" in overview.overview() for name in written)
    assert f"<!-- overview.py -->\n{overview.overview()}\n" in (VISION / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_the_results_are_those_of_a_grid_that_is_there(path, grid_module):
    """As it is now: the same arms with the same settings."""
    found = json.loads(path.read_text(encoding="utf-8"))
    values = read_mapping(VISION / "grids" / f"{path.stem}.yaml")
    grid = validate(grid_module.GridConfig, values, path.stem)
    assert ("tuning" in path.stem) is (grid.measured_on == "dev")
    assert found["grid"] == grid.model_dump(mode="json", exclude={"arms"})
    assert {name: (arm["sets"], arm["teacher_of"]) for name, arm in found["arms"].items()} == {
        name: (arm.sets, arm.teacher_of) for name, arm in grid.arms.items()
    }


def rate_of(sets, usual):
    """The student's rate among an arm's KEY=VALUE."""
    rates = [text.partition("=")[2] for text in sets if text.startswith("training.learning_rate=")]
    assert [text.partition("=")[2] for text in sets if text.startswith("training.head_learning_rate=")] == rates
    return float(rates[-1]) if rates else usual


def test_misread_cifar10_is_run_at_the_rates_that_dev_chose(grid_module):
    """Of equal ones the lowest; the teacher learns at a rate of its own."""
    tuning = VISION / "results/cifar10_misread_tuning.json"
    if not tuning.exists():
        assert not (VISION / "results/cifar10_misread.json").exists()
        return
    usual = read_mapping(VISION / "cifar10.yaml")["training"]["learning_rate"]
    tried = {}
    for name, values in read_mapping(tuning)["arms"].items():
        arm, _, rate = name.rpartition("_")
        if rate != "taught":
            assert rate_of(values["sets"], usual) == float(rate)
            known = -inf if "ran_away" in values else values["accuracy"]["mean"]
            tried.setdefault(arm, {})[float(rate)] = known
    arms = read_mapping(VISION / "grids/cifar10_misread.yaml")["arms"]
    assert {arm: rate_of(own.get("sets", []), usual) for arm, own in arms.items() if not arm.endswith("_taught")} == {
        arm: min(rates, key=lambda rate, rates=rates: (-rates[rate], rate)) for arm, rates in tried.items()
    }


def test_the_demo_s_students_have_three_rates_on_either_side(grid_module):
    """Each is compared with the same student trained plainly, at the nearest rate."""
    grid = validate(grid_module.GridConfig, read_mapping(VISION / "grids/demo_mnist.yaml"), "demo_mnist")
    for student in ("mlp", "lenet"):
        plain = {rate_of(grid.arms[arm].sets, 0.01): arm for arm in (f"{student}_{rate}" for rate in (0.01, 0.03, 0.1))}
        taught = {arm: own for arm, own in grid.arms.items() if own.teacher_of == f"{student}_l2t_dlf_taught"}
        rates = {arm: rate_of(own.sets, 0.01) for arm, own in taught.items()}
        assert sorted(rates.values()) == pytest.approx([3 * 0.01, 0.1, 0.3])
        assert [arm.rpartition("_")[2] for arm in taught] == [f"{rate:g}" for rate in rates.values()]
        for arm, rate in rates.items():
            nearest = min(plain, key=lambda other, rate=rate: abs(other - rate))
            assert grid_module.compared_with(grid, arm) == plain[nearest]


def test_the_demo_s_sides_have_as_many_labelled_images(grid_module):
    """What the teacher has as its own is dev on the plain side; no dev image was trained on while a teacher learned."""
    from splits import apart

    classes = np.arange(600) % 10
    grid = validate(grid_module.GridConfig, read_mapping(VISION / "grids/demo_mnist.yaml"), "demo_mnist")
    parts = {}
    for cell in grid_module.cells_of(grid.model_copy(update={"seeds": 2}), Path("/runs")):
        data = cell.config.data
        fractions = {"teacher_dev": data.teacher_dev_fraction, "dev": data.dev_fraction}
        parts[cell.arm, data.seed] = apart(classes, fractions, seed=data.seed)
    for (arm, seed), own in parts.items():
        taught = parts["mlp_l2t_dlf_taught", seed]
        steered = "l2t_dlf" in arm
        assert [len(own[name]) for name in ("teacher_dev", "dev", "train")] == (
            [30, 30, 540] if steered else [0, 30, 570]
        )
        assert set(own["dev"]) == set(taught["dev" if steered else "teacher_dev"])
        assert not set(own["dev"]) & set(taught["train"])


def test_the_readme_s_words_on_how_the_teachers_learnt():
    arms = read_mapping(VISION / "results/cifar10.json")["arms"]
    readme = " ".join((VISION / "README.md").read_text(encoding="utf-8").split())
    pairs = [
        " and ".join(f"{mean(half):.3f}".lstrip("0") for half in (run["measure"][:8], run["measure"][8:]))
        for run in arms["l2t_dlf"]["teaching"]
    ]
    assert f"({', '.join(pairs)} for the three seeds)" in readme
    for name, arm, words in (
        ("cifar10", "l2t_dln_one_sided", "in {} % of the windows"),
        ("cifar10_dln", "l2t_dln", "in {} % of the windows"),
        ("bccd", "l2t_dln", "In {} % of the windows"),
        ("bccd", "dln_untaught", "(untaught: {} %)"),
        ("camvid", "l2t_dln", "In {} % of the windows"),
    ):
        runs = read_mapping(VISION / f"results/{name}.json")["arms"][arm]["teaching"]
        shares = [f"{100 * run['lower_after']:.0f}" for run in runs]
        assert words.format(" and ".join([", ".join(shares[:-1]), shares[-1]])) in readme
    assert (
        max(max(run["hypergradient_norm"]) / min(run["hypergradient_norm"]) for run in arms["l2t_dlf"]["teaching"])
        < 1e3
    )
