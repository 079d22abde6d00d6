from __future__ import annotations

import json
import math
import subprocess
import sys
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
import torch

from aes_dynloss.errors import CheckpointError
from aes_dynloss.teaching.losses.bilinear_loss import BilinearLogLoss
from aes_dynloss.teaching.losses.component_table import COMPONENTS
from aes_dynloss.teaching.losses.dynamic_loss import FixedMixture, Mixture
from aes_dynloss.teaching.losses.forward_correction import ForwardCorrection
from aes_dynloss.teaching.losses.loss_network import LossNetwork
from aes_dynloss.teaching.losses.meta_weight import MetaWeightLoss
from aes_dynloss.teaching.losses.rater_weights import RaterWeights, weighted_by_rater
from aes_dynloss.training.plots import MOST_CURVES, MOST_GROUPS, MOST_POINTS, loss_plots, write_loss_plots
from aes_dynloss.training.run_folder import RunLog

MIXTURE = Mixture(["mse", "one_minus_qwk"])
BILINEAR = BilinearLogLoss(4)
SCORES = LossNetwork("scores", width=6, hidden=2, plain=1.0)
RIVALS = LossNetwork("distribution", width=6, hidden=2)
META = MetaWeightLoss({"mse": 1.0}, width=6)
RATERS = weighted_by_rater({"mse": 1.0}, ["trusted", "r1", "r$\\2$"], levels=1, standardise=False)
LEVELS = weighted_by_rater({"mse": 1.0}, ["trusted", "r1"], levels=3, standardise=False)
FORWARD = ForwardCorrection(groups=2, classes=3)
PROGRESS = [0.0, 0.2, 0.4, 0.7, 1.0]
LOG = ["learning_curves", "loss_terms"]
SVG = "{http://www.w3.org/2000/svg}"


def snapshots_of(loss, progress=PROGRESS):
    if isinstance(loss, Mixture):
        return [(part, torch.linspace(1, part, len(loss.coefficient_names))) for part in progress]
    if isinstance(loss, BilinearLogLoss):
        return [(part, loss.neutral() - 0.123 * part) for part in progress]
    if isinstance(loss, RaterWeights):
        return [(part, 1 - part * torch.arange(loss.size) / loss.size) for part in progress]
    if isinstance(loss, ForwardCorrection):
        return [(part, loss.neutral() * 0.9 + 0.1 / 3) for part in progress]
    if isinstance(loss, MetaWeightLoss):
        return [(part, loss.start(torch.Generator().manual_seed(0)) * (1 + part)) for part in progress]
    start = loss.start(torch.Generator().manual_seed(0), silent=False)
    return [(part, start * (1 + part)) for part in progress]


def write_log(path, steps, terms=("mse", "one_minus_qwk"), window=0, change=lambda step, record: None):
    with RunLog(path) as log:
        for step in range(1, steps + 1):
            record = {"step": step, "loss": 1.0, "terms": {name: 1 + math.sin(7 * step) / 2 for name in terms}}
            record |= {"error": 1 / step, "gradient_norm": 1.0}
            if window and step % window == 0:
                record["teacher"] = {"measure_before": 0.5, "measure_after": 0.5 - 0.1 / step}
                record["teacher"] |= {"hypergradient_norm": 10.0 ** -(step % 4)}
            change(step, record)
            log.write(record)
            if step % 10 == 0:
                log.write({"step": step, "epoch": 0, "dev": {"qwk": 0.5}})
    return path


@pytest.fixture
def log(tmp_path):
    return write_log(tmp_path / "metrics.jsonl", 30)


def words(path):
    """The title, and all text of a well-formed svg."""
    root = ElementTree.parse(path).getroot()
    assert root.tag == f"{SVG}svg"
    return root.findtext(f"{SVG}title"), [text.text for text in root.iter(f"{SVG}text")]


def lines(axes):
    return {line.get_label(): line for line in axes.get_lines()}


@pytest.mark.parametrize(
    ("loss", "stem", "title", "expected"),
    [
        (MIXTURE, "loss_coefficients", "Weights of the component losses", ["Component", "mse", "one_minus_qwk"]),
        (
            BILINEAR,
            "loss_matrix",
            "Bilinear log loss",
            ["start (progress 0.00)", "end (progress 1.00)", "0.88", "-0.12"],
        ),
        (SCORES, "loss_network", "Learnt loss of a score", ["Target y (sd)", "-2", "middle (progress 0.40)"]),
        (RIVALS, "loss_network", "Learnt cost of a rival", ["Dot: s_j = s_y", "0.1", "end (progress 1.00)"]),
        (
            META,
            "loss_weights",
            "Weight of an example",
            ["In the training", "middle (progress 0.40)", "Weight (no unit)"],
        ),
        (RATERS, "loss_weights", "Weights of the raters", ["Rater", "trusted", "r1", "r$\\2$"]),
        (LEVELS, "loss_weights", "Weights by rater and level", ["trusted", "r1", "0.17", "end (progress 1.00)"]),
        (FORWARD, "loss_matrix", "How targets come about", ["group 0", "group 1", "Truly (bin)", "0.93", "0.03"]),
    ],
)
def test_each_family_has_its_file_beside_the_log_s(tmp_path, log, loss, stem, title, expected):
    folder = tmp_path / "new" / "plots"
    paths = write_loss_plots(folder, loss, snapshots_of(loss), log)
    assert paths == [folder / f"{name}.svg" for name in (stem, *LOG)]
    assert sorted(folder.iterdir()) == sorted(paths)
    found_title, found = words(paths[0])
    assert found_title.startswith(title)
    assert set(expected) <= set(found)
    assert "<dc:description>" in paths[0].read_text(encoding="utf-8")
    found_title, found = words(paths[-1])
    assert found_title == "Losses over the training"
    assert {"mse", "one_minus_qwk", "Error (1 = always", "Optimiser step"} <= set(found)
    assert "error" not in found  # a curve alone is named by its axis
    assert "measure_before" not in found


@pytest.mark.parametrize("loss", [MIXTURE, BILINEAR, SCORES, META, RATERS, LEVELS, FORWARD])
def test_equal_input_gives_equal_bytes_whatever_the_user_s_settings(tmp_path, log, loss):
    first = write_loss_plots(tmp_path / "first", loss, snapshots_of(loss), log)
    with mpl.rc_context({"svg.hashsalt": None, "svg.fonttype": "path", "font.size": 20, "lines.linewidth": 9}):
        before = dict(mpl.rcParams)
        second = write_loss_plots(tmp_path / "second", loss, snapshots_of(loss), log)
        assert dict(mpl.rcParams) == before
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


@pytest.mark.parametrize(
    "loss", [Mixture(list(COMPONENTS)), BilinearLogLoss(12), BilinearLogLoss(60, bins=None), SCORES]
)
def test_a_long_run_gives_small_files(tmp_path, loss):
    log = write_log(tmp_path / "metrics.jsonl", 3000, terms=list(COMPONENTS), window=2)
    noise = torch.Generator().manual_seed(0)
    snapshots = snapshots_of(loss, np.linspace(0, 1, 1000).tolist())
    snapshots = [(part, -torch.rand(numbers.shape, generator=noise)) for part, numbers in snapshots]
    for path in write_loss_plots(tmp_path, loss, snapshots, log):
        assert path.stat().st_size < 20_000 * len(COMPONENTS)  # at most a curve each
        words(path)


def test_weights_follow_the_snapshots(log):
    (axes,) = loss_plots(MIXTURE, snapshots_of(MIXTURE), log)["loss_coefficients"].figure.axes
    assert lines(axes)["mse"].get_xydata().tolist() == [[part, 1.0] for part in PROGRESS]
    assert lines(axes)["one_minus_qwk"].get_xydata() == pytest.approx(np.array([[part, part] for part in PROGRESS]))


@pytest.mark.parametrize("loss", [MIXTURE, RATERS])
def test_weights_that_stay_as_they_are_are_no_picture(log, loss):
    (_, start), *_ = snapshots_of(loss)
    assert list(loss_plots(loss, [(part, start) for part in PROGRESS], log)) == LOG
    moved = start + torch.eye(len(start))[0] * 1e-6
    assert len(loss_plots(loss, [(0.0, start), (1.0, moved)], log)) == 1 + len(LOG)


def test_ticks_of_a_logarithmic_axis_are_plain_numbers(tmp_path):
    def change(step, record):
        record["error"] = 10.0 ** -(step % 5)

    log = write_log(tmp_path / "metrics.jsonl", 30, change=change)
    path = write_loss_plots(tmp_path, MIXTURE, [], log)[-1]
    assert {"0.01", "0.1", "1"} <= set(words(path)[1])
    assert "mathdefault" not in path.read_text(encoding="utf-8")


def test_raters_have_their_own_weights(log):
    snapshots = snapshots_of(RATERS)
    (axes,) = loss_plots(RATERS, snapshots, log)["loss_weights"].figure.axes
    for number, rater in enumerate(RATERS.raters):
        expected = [[part, float(weights[number])] for part, weights in snapshots]
        assert lines(axes)[rater].get_xydata() == pytest.approx(np.array(expected))
    *panels, _ = loss_plots(LEVELS, snapshots_of(LEVELS), log)["loss_weights"].figure.axes
    assert len(panels) == 3
    assert [word.get_text() for word in panels[0].get_yticklabels()] == ["trusted", "r1"]
    assert np.asarray(panels[2].images[0].get_array()) == pytest.approx(1 - np.arange(6).reshape(2, 3) / 6)


def test_of_many_raters_those_that_changed_most_are_drawn(log):
    names = [f"r{number}" for number in range(MOST_CURVES + 8)]
    loss = weighted_by_rater({"mse": 1.0}, names, levels=1, standardise=False)
    snapshots = [(0.0, torch.ones(len(names))), (1.0, torch.linspace(1, 3, len(names)))]
    (axes,) = loss_plots(loss, snapshots, log)["loss_weights"].figure.axes
    assert list(lines(axes)) == names[8:]


def test_many_matrices_are_one(log):
    loss = ForwardCorrection(groups=MOST_GROUPS + 1, classes=3)
    matrices = torch.rand(MOST_GROUPS + 1, 3, 3)
    panel, _ = loss_plots(loss, [(1.0, matrices.reshape(-1))], log)["loss_matrix"].figure.axes
    assert panel.get_title() == f"mean of {MOST_GROUPS + 1} groups"
    assert np.asarray(panel.images[0].get_array()) == pytest.approx(matrices.mean(0).numpy())


def test_weights_of_examples_are_those_of_start_middle_and_end(log):
    snapshots = snapshots_of(META)
    (axes,) = loss_plots(META, snapshots, log)["loss_weights"].figure.axes
    assert len(lines(axes)) == 3
    for name, index in (("start (progress 0.00)", 0), ("middle (progress 0.40)", 2), ("end (progress 1.00)", 4)):
        losses, weights = lines(axes)[name].get_data()
        expected = META.weights(snapshots[index][1].double(), torch.from_numpy(losses))
        assert weights == pytest.approx(expected.numpy(), abs=1e-12)
    assert (losses[0], losses[-1]) == (0, 9)


def test_matrices_are_those_of_start_middle_and_end_on_one_scale(log):
    figure = loss_plots(BILINEAR, snapshots_of(BILINEAR), log)["loss_matrix"].figure
    images = [axes.images[0] for axes in figure.axes if axes.get_title()]
    for image, part in zip(images, [0.0, 0.4, 1.0], strict=True):
        assert np.asarray(image.get_array()) == pytest.approx(np.eye(4) - 0.123 * part)
        assert image.get_clim() == (-1.0, 1.0)
    (below,) = [axes for axes in figure.axes if axes.get_ylabel().startswith("b[y]")]
    assert [line.get_ydata()[0] for line in below.get_lines()] == pytest.approx([0, -0.0492, -0.123])


def test_a_silent_network_of_scores_shows_the_plain_loss(log):
    silent = SCORES.start(torch.Generator().manual_seed(0), silent=True)
    figure = loss_plots(SCORES, [(0.0, silent), (1.0, silent)], log)["loss_network"].figure
    assert [axes.get_title("left") for axes in figure.axes] == ["start (progress 0.00)", "end (progress 1.00)"]
    for target, line in lines(figure.axes[1]).items():
        places, values = line.get_data()
        assert values == pytest.approx((places - float(target)) ** 2)
        assert places[line.get_markevery()] == pytest.approx([float(target)])


def test_costs_of_rivals_are_the_network_s(log):
    snapshots = snapshots_of(RIVALS)
    axes = loss_plots(RIVALS, snapshots, log)["loss_network"].figure.axes[1]
    places, values = lines(axes)["0.3"].get_data()
    rows = torch.tensor([[0.3, place, 1.0, 0.0] for place in places], dtype=torch.float64)
    assert values == pytest.approx(RIVALS.network(snapshots[2][1], rows).numpy())


@pytest.mark.parametrize("loss", [FixedMixture(MIXTURE, torch.ones(2)), object()])
def test_of_another_loss_only_the_log_is_drawn(tmp_path, log, loss):
    assert write_loss_plots(tmp_path, loss, [(0.0, torch.zeros(0))], log) == [tmp_path / f"{name}.svg" for name in LOG]


def test_without_snapshots_only_the_log_is_drawn(log):
    assert list(loss_plots(MIXTURE, [], log)) == LOG


@pytest.mark.parametrize("loss", [MIXTURE, BILINEAR, SCORES, RIVALS])
def test_one_snapshot_and_an_empty_log(tmp_path, loss):
    log = write_log(tmp_path / "metrics.jsonl", 0)
    paths = write_loss_plots(tmp_path, loss, snapshots_of(loss)[:1], log)
    assert len(paths) == (1 if loss is MIXTURE else 2)  # one weight each, for all that is known, is no picture
    assert "no numbers in the log" in words(paths[-1])[1]


@pytest.mark.parametrize("loss", [MIXTURE, BILINEAR, SCORES, RIVALS])
def test_coefficients_that_are_no_numbers_leave_gaps(tmp_path, log, loss):
    (start, first), *_ = snapshots_of(loss)
    assert len(write_loss_plots(tmp_path, loss, [(start, first), (1.0, first * math.nan)], log)) == 3


def test_the_teacher_s_numbers_get_panels_of_their_own(tmp_path):
    log = write_log(tmp_path / "metrics.jsonl", 20, window=5)
    figure = loss_plots(MIXTURE, [], log)["loss_terms"].figure
    measure, norm = figure.axes[2:]
    assert list(lines(measure)) == ["measure_before", "measure_after"]
    assert lines(measure)["measure_after"].get_xydata() == pytest.approx(
        np.array([[step, 0.5 - 0.1 / step] for step in (5, 10, 15, 20)])
    )
    assert norm.get_yscale() == "log"
    assert {"measure_before", "measure_after", "Hypergradient"} <= set(
        words(write_loss_plots(tmp_path, MIXTURE, [], log)[1])[1]
    )


def test_learning_curves_have_a_panel_a_measure_and_its_parts_within(tmp_path):
    prompts = {f"qwk_{prompt}": prompt / 20 for prompt in range(20)}
    log = write_log(tmp_path / "metrics.jsonl", 9)
    plain = log.read_text(encoding="utf-8")
    more = [{"step": step, "epoch": 0, "dev": {"qwk": step / 100, "sd_ratio": 0.7, **prompts}} for step in (10, 20)]
    log.write_text(plain + "".join(json.dumps(record) + "\n" for record in more), encoding="utf-8")
    kappa, spread = loss_plots(MIXTURE, [], log)["learning_curves"].figure.axes
    assert lines(kappa)["mean"].get_xydata().tolist() == [[10, 0.1], [20, 0.2]]
    assert list(lines(kappa)) == [*(str(prompt) for prompt in range(MOST_CURVES)), "mean"]
    assert lines(kappa)["3"].get_ydata().tolist() == [0.15, 0.15]
    assert lines(spread)["sd_ratio"].get_ydata().tolist() == [0.7, 0.7]
    assert [line.get_ydata()[0] for line in spread.get_lines()] == [0.7, 1.0], "a line where spreads are equal"


def test_a_student_that_was_never_measured_has_no_learning_curves(tmp_path):
    log = write_log(tmp_path / "metrics.jsonl", 9)
    assert list(loss_plots(MIXTURE, [], log)) == ["loss_terms"]


def test_nulls_leave_gaps_and_a_step_between_two_gaps_a_dot(tmp_path):
    def change(step, record):
        record["error"] = math.nan if step in {50, 52} else record["error"]

    log = write_log(tmp_path / "metrics.jsonl", 100, change=change)
    line = lines(loss_plots(MIXTURE, [], log)["loss_terms"].figure.axes[1])["error"]
    assert np.flatnonzero(np.isnan(line.get_ydata())).tolist() == [49, 51]
    assert line.get_markevery() == [50]


def test_points_of_a_long_run_are_means_of_what_is_a_number(tmp_path):
    def change(step, record):
        record["error"] = math.inf if step in {3, 5, 6} else float(step)

    log = write_log(tmp_path / "metrics.jsonl", 2 * MOST_POINTS, change=change)
    axes = loss_plots(MIXTURE, [], log)["loss_terms"].figure.axes[1]
    steps, values = lines(axes)["error"].get_data()
    assert len(steps) == MOST_POINTS
    assert steps[:4].tolist() == [1.5, 3.5, 5.5, 7.5]
    assert values[:4] == pytest.approx([1.5, 4.0, math.nan, 7.5], nan_ok=True)
    assert axes.get_xlabel() == "Optimiser step (a point is the mean of up to 2 steps)"


@pytest.mark.parametrize(
    "line", ['{"step": 2, "te', '{"step": 2, "terms": {}}', '{"step": null, "terms": {}, "error": 1}', "7"]
)
def test_a_damaged_line_is_named(tmp_path, line):
    log = write_log(tmp_path / "metrics.jsonl", 1)
    log.write_text(log.read_text(encoding="utf-8") + line + "\n", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"^Line 2 of .*metrics\.jsonl is no record of a run\. Remove the line"):
        loss_plots(MIXTURE, [], log)


def test_matplotlib_is_imported_late_and_pyplot_never(tmp_path, log):
    program = (
        "import sys, json; from pathlib import Path\n"
        "from aes_dynloss.teaching.losses.dynamic_loss import Mixture\n"
        "from aes_dynloss.training.plots import write_loss_plots\n"
        "early = 'matplotlib' in sys.modules\n"
        "write_loss_plots(Path(sys.argv[1]), Mixture(['mse']), [], Path(sys.argv[2]))\n"
        "print(json.dumps([early, 'matplotlib' in sys.modules, 'matplotlib.pyplot' in sys.modules]))\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "plots"), str(log)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert json.loads(done.stdout) == [False, True, False]
