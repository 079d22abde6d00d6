"""The benchmarks of scoring run, short and with tiny encoders."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from accelerate import Accelerator
from asap_layout import write_asap
from tiny_encoder import WORDS, write_tiny_encoder
from tiny_scorer import tiny_scorer

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parents[2] / "recipes/benchmarks"
WINDOW = 32


@pytest.fixture
def throughput(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))
    import scoring_throughput

    return scoring_throughput


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))
    import scoring_memory

    return scoring_memory


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))
    import scoring_plan

    return scoring_plan


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    return write_tiny_encoder(tmp_path / "encoder", positions=WINDOW)


def test_all_sides_take_turns_over_the_same_essays(tmp_path: Path, encoder: Path, throughput: Any) -> None:
    output = tmp_path / "found.json"
    words = ["--source", write_asap(tmp_path / "asap.tsv"), "--encoder", encoder, "--essays", 12, "--rounds", 2]
    words += ["--batch-sizes", "1,4", "--threads", 1, "--output", output]
    command = [sys.executable, FOLDER / "scoring_throughput.py", *words]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    values = json.loads(output.read_text(encoding="utf-8"))
    assert done.stdout == throughput.table(values) + "\n"
    assert str(tmp_path) not in output.read_text(encoding="utf-8")
    ours = [f"ours, {precision}{whole}" for precision in ("float32", "bf16") for whole in ("", ", whole essays")]
    assert [row["side"] for row in values["rows"]] == [*ours, "pipeline, batch 1", "pipeline, batch 4"]
    assert all(len(row["seconds"]) == len(row["cpu_seconds"]) == 2 for row in values["rows"])
    assert (values["essays"], values["threads"]) == (12, 1)
    assert values["tokens"] < values["tokens of whole essays"]  # some essay goes on beyond the window


def test_other_tokens_are_refused(tmp_path: Path, encoder: Path, throughput: Any) -> None:
    _, _, prompts = throughput.read_texts(write_asap(tmp_path / "asap.tsv"), 3)
    pipeline = throughput.build_pipeline(str(encoder), "cpu")
    texts = ["the otter and the bridge", "the " * 50]
    capped, whole = (throughput.build_scorer(str(encoder), prompts, "cpu", capped=cap) for cap in (True, False))
    assert throughput.check_tokens(capped, pipeline, texts) == 7 + WINDOW
    with pytest.raises(ValueError, match="do not read the same tokens"):
        throughput.check_tokens(whole, pipeline, texts)


def test_the_ratio_is_that_to_the_fastest_batch_size(throughput: Any) -> None:
    rows = [("ours, bf16", [1.0, 2.0, 4.0], [1.0, 1.0, 2.0])]
    rows += [("pipeline, batch 1", [3.0, 8.0, 5.0], [9.0, 9.0, 9.0]), ("pipeline, batch 4", [9.0, 9.0, 4.0], [6.0] * 3)]
    named = [dict(zip(("side", "seconds", "cpu_seconds"), row, strict=True)) for row in rows]
    lines = throughput.table({"essays": 30, "rows": named}).splitlines()
    assert lines[2] == "| ours, bf16 | 15.00 | 3.00 | 1.25 to 4.00 | 6.00 | 3.00 to 6.00 |"
    assert lines[4].startswith("| pipeline, batch 4 | 3.33 | 0.89 |")


def test_trained_scorers_stand_beside_their_qwk(tmp_path: Path, encoder: Path, throughput: Any) -> None:
    scorer = tiny_scorer(encoder)
    scorer.save_pretrained(tmp_path / "shallow/model")
    lines = ["prompt,column,group,table,measure,value", ",,,agreement,qwk,0.1", "1,,girls,agreement,qwk,0.2"]
    lines += [f"{prompt},,,agreement,{name},{value}" for prompt, name, value in [(1, "qwk", 0.5), (2, "qwk", 0.7)]]
    lines += ["1,,,agreement,qwk_rescaled,0.75", "1,,,floors,qwk,0.9"]
    (tmp_path / "shallow/report.csv").write_text("\n".join(lines), encoding="utf-8")
    assert throughput.run_qwk(tmp_path / "shallow") == {"qwk": pytest.approx(0.6), "qwk_rescaled": 0.75}
    sides = throughput.run_sides("shallow", tmp_path / "shallow", scorer)
    assert list(sides) == ["shallow", "shallow, whole essays"]
    long = ["the otter " * 60]
    one, other = (side(long, ["letter"]) for side in sides.values())
    assert one.dropped_tokens[0] == one.tokens[0] - (WINDOW - 2)
    assert other.dropped_tokens[0] == 0
    rows = [("shallow", [1.0], [2.0]), ("shallow, whole essays", [2.0], [4.0]), ("pipeline, batch 1", [4.0], [6.0])]
    named = [dict(zip(("side", "seconds", "cpu_seconds"), row, strict=True)) for row in rows]
    values = {"essays": 8, "rows": named, "qwk": {"shallow": {"qwk": 0.6, "qwk_rescaled": 0.75}}}
    assert throughput.table(values).splitlines()[2].endswith("| 3.00 | 3.00 to 3.00 | 0.600 | 0.750 |")
    throughput.draw(values, tmp_path / "speed.png")
    assert (tmp_path / "speed.png").stat().st_size > 1000


def test_cells_of_a_grid_go_by_their_arms(throughput: Any) -> None:
    cells = [Path(f"runs/grid/cells/{arm}/fold_0/seed_0") for arm in ("two", "three")]
    assert throughput.names_of(cells) == dict(zip(("two", "three"), cells, strict=True))
    alike = [Path(f"runs/two/cells/{arm}/fold_0") for arm in ("two", "fold_0", "runs")]
    assert throughput.names_of(alike) == dict(zip(("two", "fold_0", "runs"), alike, strict=True))
    assert throughput.names_of(cells[:1]) == {"seed_0": cells[0]}
    assert throughput.names_of([]) == {}


def test_equal_scores_are_counted(encoder: Path, throughput: Any) -> None:
    scorer = tiny_scorer(encoder)
    texts = [" ".join(WORDS[start : start + 9]) for start in range(30)]
    found = throughput.equal_parts(scorer, texts, ["letter"] * 30, ["float32", "bf16"])
    assert found["float32"] == {"essays": 30, "equal": 30, "largest": 0.0, "mean": 0.0}
    assert 0 < found["bf16"]["mean"] <= found["bf16"]["largest"]
    assert found["bf16"]["equal"] <= 30


def test_memory_is_that_of_the_scoring_process(tmp_path: Path, encoder: Path, memory: Any) -> None:
    scorer = tiny_scorer(encoder)
    scorer.accelerator = Accelerator(cpu=True)
    scorer.save_pretrained(tmp_path / "model")
    report = memory.measure(tmp_path / "model", [5, 40])
    assert [row["rows"] for row in report] == [5, 40]
    assert all(100 < row["peak_mebibytes"] < 4000 for row in report)  # torch alone takes hundreds
    lines = memory.table(
        {"rows": [{"rows": 10, "peak_mebibytes": 400, "seconds": 2}, {"rows": 90, "peak_mebibytes": 420, "seconds": 3}]}
    )
    assert lines.splitlines()[2:] == ["| 10 | 400 | 1.000 | 5 |", "| 90 | 420 | 1.050 | 30 |"]


def test_a_peak_does_not_hold_that_of_the_benchmark(memory: Any) -> None:
    ballast = b"x" * 2**28
    assert memory.peak_of_module("this", []) < 100
    assert len(ballast) == 2**28


def test_a_failing_command_is_no_measurement(tmp_path: Path, memory: Any) -> None:
    (tmp_path / "rows.csv").write_text("essay_id,text\n1,a\n")
    with pytest.raises(RuntimeError, match="There is no model folder"):
        memory.score_rows(tmp_path / "none", "river", tmp_path / "rows.csv", tmp_path / "scores.csv")


def test_rows_are_all_different(tmp_path: Path, memory: Any) -> None:
    memory.write_rows(tmp_path / "rows.csv", 100)
    lines = (tmp_path / "rows.csv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 101
    assert len({line.split(",")[1] for line in lines}) == 101


def test_a_plan_multiplies_what_was_measured(tmp_path: Path, plan: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"side": "deep, whole essays", "seconds": [9.0], "cpu_seconds": [1.0, 2.0, 4.0]}]
    values = {"essays": 20, "rows": rows, "qwk": {"deep": {"qwk": 0.75}}}
    (tmp_path / "speed.json").write_text(json.dumps(values), encoding="utf-8")
    monkeypatch.setattr(plan, "RESULTS", tmp_path)
    monkeypatch.setattr(plan, "MODELS", {"a deep one": ("speed", "deep, whole essays")})
    measured = {"essays": 1000, "cpu_seconds": {"read": 0.5, "rest": 0.36}, "peak_mebibytes": 512.0}
    # 10^7 essays at 10 a second are 277.8 hours, their reading 1.4, and the last process takes 1 hour.
    assert plan.table(measured).splitlines()[2] == "| a deep one | 0.750 | 10.0 | 279 | 13.96 | 5.4 | 32 |"


def test_each_step_over_a_folder_is_measured(tmp_path: Path, plan: Any) -> None:
    values = plan.measure(tmp_path, 2, 6, 12, 3)
    assert (values["essays"], values["parts"], values["words"]) == (12, 2, 12)
    assert all(seconds > 0 for seconds in values["cpu_seconds"].values())
    assert 100 < values["peak_mebibytes"] < 4000
    assert len((tmp_path / "audit.jsonl").read_text(encoding="utf-8").splitlines()) == 12
