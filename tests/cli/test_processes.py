"""Commands as processes: killed, interrupted, two at once, with a reader that goes, and several that work together."""

from __future__ import annotations

import json
import random
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import command
from forked import finish, finish_together, start, stop_when
from small_run import small_essays, write_rows, write_small_run

pytestmark = pytest.mark.slow

SAME = ["metrics.jsonl", "predictions_dev.csv", "predictions_test.csv", "model/model.safetensors", "model/config.json"]
MORRIS = "loss.terms={stde: {schedule: morris}, mse: rest}"
# Dropout, an average, a frozen layer and four dev measures, so that much has to be brought back.
WORDS = ["training.averaging=0.9", "training.evaluations=2", "training.epochs=4", "model.frozen_layers=1", MORRIS]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    write_small_run(folder)
    return folder


@pytest.fixture(scope="module")
def straight(place):
    """A run that nobody stops."""
    assert finish(start("finetune", "run.yaml", *WORDS, "-o", "straight", folder=place)) == 0
    return place / "straight"


def check_same(folder: Path, straight: Path) -> None:
    for name in SAME:
        assert (folder / name).read_bytes() == (straight / name).read_bytes(), name
    assert {path.name for path in folder.iterdir()} == {path.name for path in straight.iterdir()}
    assert json.loads((folder / "report.json").read_text()) == json.loads((straight / "report.json").read_text())


def resume(place: Path, name: str):
    return start("finetune", "run.yaml", *WORDS, "-o", name, "--resume", folder=place)


def test_killed_in_every_phase(place, straight):
    folder = place / "phases"

    def bytes_of(name: str) -> int:
        return (folder / name).stat().st_size if (folder / name).exists() else 0

    phases = [
        (folder / "config.yaml").exists,
        (folder / "manifest.json").exists,
        lambda: any(folder.glob("token_states/*.states/*.safetensors")),
        lambda: bytes_of("metrics.jsonl") > 0,
        lambda: any(folder.glob(".checkpoint.pt.*.tmp")),
        lambda: (folder / "checkpoint.pt").exists() and bytes_of("metrics.jsonl") > 4000,
        (folder / "predictions_dev.csv").exists,
        lambda: any(folder.glob(".model.*")),
        (folder / "model").exists,
    ]
    struck = []
    for condition in phases:
        process = resume(place, "phases")
        stop_when(process, condition)
        struck.append(finish(process) == -signal.SIGKILL)
        assert finish(process) in {0, -signal.SIGKILL}
    assert sum(struck) >= 6
    assert finish(resume(place, "phases")) == 0
    check_same(folder, straight)


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_any_moment(place, straight, seed):
    """Each time when the log has grown to a part drawn at random, and a little later."""
    metrics, whole = place / f"killed{seed}" / "metrics.jsonl", (straight / "metrics.jsonl").stat().st_size
    chance, struck = random.Random(seed), 0
    for part in sorted(chance.uniform(0, 0.9) for _ in range(5)):
        process = resume(place, f"killed{seed}")
        stop_when(
            process, lambda part=part: metrics.exists() and metrics.stat().st_size > part * whole, chance.random() / 50
        )
        struck += finish(process) == -signal.SIGKILL
    assert finish(resume(place, f"killed{seed}")) == 0
    assert struck >= 2
    check_same(place / f"killed{seed}", straight)


def test_interrupted(place, straight):
    folder = place / "interrupted"
    process = resume(place, "interrupted")
    assert stop_when(process, (folder / "checkpoint.pt").exists, how=signal.SIGINT)
    assert finish(process) == 130
    words = (place / "err").read_text()
    assert "Stopped. What was finished is kept; --help says how to go on.\n" in words
    assert "Traceback" not in words
    assert finish(resume(place, "interrupted")) == 0
    check_same(folder, straight)


def test_two_at_once(place, straight):
    folder = place / "shared"
    process = resume(place, "shared")
    assert stop_when(process, (folder / "checkpoint.pt").exists, how=signal.SIGSTOP)
    try:
        for how in ([], ["--resume"], ["--force"]):
            outcome = command("finetune", place / "run.yaml", *WORDS, "-o", folder, *how)
            assert outcome.code == 2
            assert f"Another process is working in {folder}. Wait for it" in outcome.error
    finally:
        stop_when(process, lambda: True, how=signal.SIGCONT)
    assert finish(process) == 0
    check_same(folder, straight)


@pytest.mark.parametrize("largest_file", [400, 3000, 40_000])
def test_a_full_disk(place, straight, largest_file):
    """Where a configuration, a checkpoint, or the states of a frozen layer do not fit: words, and a way to go on."""
    name = f"full{largest_file}"
    log = place / "err"
    log.unlink(missing_ok=True)
    assert finish(start("finetune", "run.yaml", *WORDS, "-o", name, folder=place, largest_file=largest_file)) == 2
    assert "\nError: " in f"\n{log.read_text()}"
    assert "File too large" in log.read_text()
    assert "Traceback" not in log.read_text()
    assert finish(resume(place, name)) == 0
    check_same(place / name, straight)


@pytest.mark.parametrize(
    ("largest_file", "words"),
    [
        (10_000, []),  # the checkpoint
        (3000, ["model.frozen_layers=all"]),  # its end
        (20_000, ["model.frozen_layers=all"]),  # the model's weights
    ],
)
def test_a_full_disk_says_what_did_not_fit(place, largest_file, words):
    name, log = f"model{largest_file}", place / "err"
    log.unlink(missing_ok=True)
    words = ["finetune", "run.yaml", *words, "-o", name]
    assert finish(start(*words, folder=place, largest_file=largest_file)) == 2
    assert re.search("cannot be written|Cannot write", log.read_text())
    assert "Traceback" not in log.read_text()
    assert not any((place / name).glob(".model.*"))
    assert not any((place / name).glob(".*.tmp"))
    assert finish(start(*words, "--resume", folder=place)) == 0


def test_a_reader_that_goes(place, straight):
    rows = [row | {"essay_id": f"{row['essay_id']}-{copy}"} for copy in range(50) for row in small_essays()]
    essays = write_rows(place / "many.csv", [row | {"text": row["text"][:20]} for row in rows])
    words = [sys.executable, "-m", "aes_dynloss", "score", str(straight / "model"), str(essays)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline().startswith(b"essay_id,prompt_id,raw,score,")
        process.stdout.close()
        err = process.stderr.read().decode()
        assert process.wait(120) == 0
    assert "Error" not in err
    assert "Traceback" not in err
    assert "Exception ignored" not in err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_output_that_cannot_be_written(place, straight):
    words = [sys.executable, "-m", "aes_dynloss", "score", str(straight / "model"), str(place / "essays.jsonl")]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert "Error: A file cannot be read or written: No space left on device" in done.stderr
    assert "Exception ignored" not in done.stderr


def together(place: Path, *words: object) -> None:
    """Run a command on two processes."""
    codes = finish_together(place, *words)
    assert codes == [0, 0], (place / "err").read_text()


def losses(folder: Path) -> list[float]:
    lines = (json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if "loss" in line]


@pytest.mark.parametrize(
    "words",
    [
        [MORRIS],
        ["model.frozen_layers=all", "model.head=softmax", "loss.terms={cross_entropy: 1, one_minus_qwk: 1}"],
        ["model.frozen_layers=1", "training.micro_batch_size=2", "training.batch_size=7"],
    ],
)
def test_two_processes_train_as_one(place, words):
    name = f"both{len(words)}"
    options = ["model.encoder_dropout=0", *words, "--force", "-o"]
    (place / "out").unlink(missing_ok=True)
    together(place, "finetune", "run.yaml", *options, f"{name}-two")
    said = (place / "out").read_text()
    (place / "out").unlink()
    assert finish(start("finetune", "run.yaml", *options, f"{name}-one", folder=place)) == 0
    one, two = place / f"{name}-one", place / f"{name}-two"
    assert [json.loads((folder / "manifest.json").read_text())["machine"]["processes"] for folder in (one, two)] == [
        1,
        2,
    ]
    assert losses(two) == pytest.approx(losses(one), abs=1e-4)
    assert len(losses(one)) >= 10
    assert said.count("Fisher mean") == 1
    assert {path.name for path in one.iterdir()} == {path.name for path in two.iterdir()}


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_two_processes_score_as_one(place, straight, form):
    # 61 essays: no even number.
    essays = write_rows(place / "odd.csv", [*small_essays(), small_essays()[0] | {"essay_id": "last"}])
    shutil.rmtree(place / "scores", ignore_errors=True)
    together(place, "score", straight / "model", essays, "--cpu", "-o", f"scores/two.{form}")
    assert finish(start("score", straight / "model", essays, "--cpu", "-o", f"scores/one.{form}", folder=place)) == 0
    one, two = ((place / "scores" / f"{name}.{form}").read_bytes() for name in ("one", "two"))
    if form == "csv":
        rows = [[line.split(",") for line in found.decode().splitlines()] for found in (one, two)]
        assert len(rows[0]) == len(rows[1]) == 62
        for left, right in zip(rows[0][1:], rows[1][1:], strict=True):
            assert (left[:2], left[3]) == (right[:2], right[3])
            assert float(left[2]) == pytest.approx(float(right[2]), abs=1e-5)
    else:
        assert len(one) == pytest.approx(len(two), rel=0.1)


def test_accelerate_launch(place):
    """Accelerate starts several processes without a GPU under --multi_gpu alone; --cpu means one."""
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", "0"]
    options = ["model.encoder_dropout=0", MORRIS, "--output-dir"]
    words = [*launch, "-m", "aes_dynloss", "finetune", str(place / "run.yaml"), *options, str(place / "launched")]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert finish(start("finetune", "run.yaml", *options, "alone", folder=place)) == 0
    assert json.loads((place / "launched" / "manifest.json").read_text())["machine"]["processes"] == 2
    assert losses(place / "launched") == pytest.approx(losses(place / "alone"), abs=1e-4)
    assert done.stdout.count("Fisher mean") == 1
