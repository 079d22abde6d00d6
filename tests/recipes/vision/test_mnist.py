"""The grids of MNIST: how arms are tuned, what is collected of them, and what the results say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recipe_line import VISION, recipe

from aes_dynloss.configfile import read_mapping, validate

pytestmark = pytest.mark.usefixtures("recipes_in_reach")

RESULTS = sorted((VISION / "results").glob("mnist_*.json"))


@pytest.fixture
def mnist() -> Any:
    import mnist

    return mnist


@pytest.fixture
def whole(mnist: Any) -> Any:
    return validate(mnist.GridConfig, read_mapping(mnist.GRID), "mnist.yaml")


def write_reports(root: Path, dev: dict[str, list[float]], seeds: int = 1) -> None:
    """Reports of arms at the first rates; on test each seed is .01 below dev."""
    from mnist import FIRST_TRIED

    for arm, values in dev.items():
        for rate, value in zip((*FIRST_TRIED, 1.0, 3.0), values, strict=False):
            for seed in range(seeds):
                folder = root / f"{arm}-{rate:g}" / f"seed_{seed}"
                folder.mkdir(parents=True)
                report = {"dev": {"accuracy": value}, "test": {"accuracy": value - 0.01 * (1 + seed)}, "seconds": 60.0}
                (folder / "report.json").write_text(json.dumps(report))
                (folder / "metrics.jsonl").write_text("")
                (folder / "manifest.json").write_text("{}")


def test_dev_chooses_each_arm_s_rate(tmp_path: Path, mnist: Any, whole: Any) -> None:
    """Of equal ones the lowest; an arm that is not tried at all rates has none; teachers go at half the control's.

    Nor has one whose best is the highest or the lowest so far.
    """
    dev = {"cross_entropy": [0.7, 0.8, 0.8, 0.1], "focal": [0.7, 0.6, 0.1, 0.9, 0.8], "mwn": [0.9] * 3}
    write_reports(tmp_path, dev | {"glc": [0.1, 0.2, 0.3, 0.4], "label_smoothing": [0.4, 0.3, 0.2, 0.1]})
    arms = mnist.tuned(tmp_path, whole)
    taught = [f"l2t_dlf_{form}_taught" for form in ("classes", "forward", "matrix")]
    assert list(arms) == ["cross_entropy-0.03", *taught, "focal-0.3"]
    low, half, high = 0.03, 0.015, 0.3
    assert arms["cross_entropy-0.03"].sets[-2:] == [f"training.{name}learning_rate={low:g}" for name in ("", "head_")]
    assert f"training.learning_rate={half:g}" in arms["l2t_dlf_matrix_taught"].sets
    assert f"training.learning_rate={high:g}" in arms["focal-0.3"].sets


def test_all_arms_are_tried_at_as_many_rates(mnist: Any, whole: Any) -> None:
    tried = mnist.candidates([arm for arm in whole.arms if not arm.endswith(mnist.TEACHES)], whole.arms)
    assert len(tried) == len(mnist.FIRST_TRIED) * sum(not arm.endswith("_taught") for arm in whole.arms)
    assert all(sum("learning_rate=" in text for text in arm.sets) >= 2 for arm in tried.values())


@pytest.mark.parametrize("name", ["mlp_zero40", "lenet_pair45", "mlp_clean"])
def test_every_arm_of_every_grid_is_a_configuration(tmp_path: Path, mnist: Any, whole: Any, name: str) -> None:
    teachers = {arm: own for arm, own in whole.arms.items() if arm.endswith(mnist.TEACHES)}
    rest = [arm for arm in whole.arms if arm not in teachers]
    cells = mnist.cells_of(mnist.grid_of(name, teachers | mnist.candidates(rest, whole.arms), seeds=2), tmp_path)
    student, labels = name.split("_")
    assert {(cell.config.model.kind, cell.config.data.labels) for cell in cells} == {(student, labels)}
    assert {cell.config.data.trusted for cell in cells} == {500}  # in training in every arm
    assert all(cell.config.data.seed == cell.config.training.seed for cell in cells)


def test_what_is_collected(tmp_path: Path, mnist: Any) -> None:
    """Arms that are tuned and have the seeds, without their rates' numbers; L2T-DLF's form is the one best on dev."""
    root = tmp_path / "mlp_zero40"
    write_reports(root, {"cross_entropy": [0.7, 0.8, 0.6, 0.1], "glc": [0.8, 0.9, 0.9, 0.9]}, seeds=2)
    write_reports(root, {"l2t_dlf_classes": [0.9, 0.95, 0.9, 0.9], "l2t_dlf_matrix": [0.8, 0.85, 0.8, 0.8]}, seeds=2)
    write_reports(root, {"focal": [0.6, 0.7, 0.7, 0.7]}, seeds=1)
    for kind in ("classes", "matrix"):
        for seed in range(2):
            taught = root / f"l2t_dlf_{kind}_taught" / f"seed_{seed}"
            taught.mkdir(parents=True)
            (taught / "report.json").write_text('{"dev": {"accuracy": 0.5}, "test": {"accuracy": 0.5}, "seconds": 1.0}')
            (taught / "metrics.jsonl").write_text("")
    figures = mnist.collected("mlp_zero40", root, 2)
    assert [arm for arm in figures["arms"] if "taught" not in arm] == [
        "cross_entropy", "glc", "l2t_dlf_classes", "l2t_dlf_matrix",
    ]  # fmt: skip
    assert str(tmp_path) not in json.dumps(figures)
    assert mnist.best_taught(figures) == "l2t_dlf_classes"
    assert mnist.errors_of(figures, "cross_entropy") == pytest.approx([0.21, 0.22])
    lines = mnist.table({"zero40": figures}).splitlines()
    assert lines[2].startswith("| cross_entropy | 21.50 (0.71) | -70 % (")
    assert lines[4] == "| l2t_dlf_classes | 6.50 (0.71) |  |"
    with pytest.raises(mnist.ConfigError, match=r"holds no cross_entropy that is tuned and has 3 seeds\. Run"):
        mnist.collected("mlp_zero40", root, 3)


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
    ("words", "message"), [(["run", "mlp_zero41"], "There is no grid mlp_zero41. Choose from mlp")]
)
def test_words_that_make_no_run(tmp_path: Path, words: list[str], message: str) -> None:
    outcome = recipe("mnist.py", *words, "-o", tmp_path)
    assert (outcome.code, outcome.out) == (2, "")
    assert message in outcome.err
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_the_results_are_those_of_the_grid_as_it_is(path: Path, mnist: Any, whole: Any) -> None:
    """Each arm's settings, and one of the rates that were tried."""
    student = path.stem.partition("_")[2]
    for labels, own in read_mapping(path).items():
        assert own["grid"]["sets"] == mnist.grid_of(f"{student}_{labels}", whole.arms).sets
        rates = {f"training.learning_rate={rate:g}" for rate in mnist.RATES}
        for arm, values in own["arms"].items():
            settings = whole.arms[arm]
            assert values["sets"][:-2] == settings.sets
            assert values["teacher_of"] == settings.teacher_of
            if not arm.endswith(mnist.TEACHES):
                assert values["sets"][-2] in rates
