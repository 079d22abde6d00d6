"""Plan the scoring of ten million essays in a folder of tables: core-hours, euros and memory, from measured rates.

    python recipes/benchmarks/scoring_plan.py

measures what ``aes-dynloss score FOLDER`` does beside the models' own work, on made-up essays: CPU seconds of the first
reading, and of the process that is alone in writing the audit log and letting parts appear. It also measures the peak
memory of a process that scores with all-MiniLM-L6-v2. The table multiplies these, and the models' speed of
``scoring_throughput.py``, by ten million.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
from accelerate import Accelerator
from result_table import result_table
from scoring_memory import ENCODER, WORDS, score_rows, write_model

from aes_dynloss.essays.data.data_config import Columns
from aes_dynloss.essays.data.essay_table import Prompt
from aes_dynloss.essays.model.encoders import load_encoder, load_tokenizer
from aes_dynloss.essays.model.model_config import ModelConfig
from aes_dynloss.essays.model.model_folder import CONFIG
from aes_dynloss.essays.model.prompt_scales import PromptScale
from aes_dynloss.essays.model.scorer import EncoderScorer
from aes_dynloss.essays.model.scoring_model import ScoringModel
from aes_dynloss.essays.scoring.audit import ScoreAudit
from aes_dynloss.essays.scoring.part_folder import FolderScoring, score_folder
from aes_dynloss.essays.scoring.part_tables import Reading, list_parts
from aes_dynloss.essays.scoring.run import ScoreOptions
from aes_dynloss.essays.screening.kinds import Policy
from aes_dynloss.tables.atomic import file_sha256
from aes_dynloss.tables.provenance import Provenance
from aes_dynloss.tables.score_range import ScoreRange

RESULTS = Path(__file__).parent / "results"
ESSAYS, CORES, EUROS = 10_000_000, 64, 0.05
# Models by the file of their speed and their name in it.
MODELS = {
    "kernel ridge over six layers": ("scoring_throughput_runs_native", "kernel_6_layers, whole essays"),
    "kernel ridge over three layers, int8": ("scoring_throughput_runs_native", "kernel_3_layers_int8, whole essays"),
    "kernel ridge over two layers": ("scoring_throughput_runs_native", "kernel_2_layers, whole essays"),
    "ridge over one layer": ("scoring_throughput_runs_native", "ridge_1_layer, whole essays"),
    "linear head on six layers, float32": ("scoring_throughput_cpu", "ours, float32, whole essays"),
    "linear head on six layers, bf16": ("scoring_throughput_cpu", "ours, bf16, whole essays"),
}
TITLES = ("model", "QWK", "essays/core-s", "core-hours", "euros", "hours on 64 cores", "memory, GiB")


def table(values: dict[str, Any]) -> str:
    """The plan of each model."""
    count = values["essays"]
    reading, alone = (values["cpu_seconds"][name] / count for name in ("read", "rest"))
    memory = CORES * values["peak_mebibytes"] / 1024
    rows = []
    for name, (stem, side) in MODELS.items():
        measured = json.loads((RESULTS / f"{stem}.json").read_text(encoding="utf-8"))
        (row,) = (row for row in measured["rows"] if row["side"] == side)
        rate = measured["essays"] / median(row["cpu_seconds"])
        qwk = measured.get("qwk", {}).get(side.split(",")[0], {}).get("qwk")
        hours = ESSAYS * (1 / rate + reading) / 3600
        cells = [f"{rate:.1f}", f"{hours:,.0f}", f"{hours * EUROS:.2f}"]
        last = ESSAYS * alone / 3600
        rows.append([name, "" if qwk is None else f"{qwk:.3f}", *cells, f"{hours / CORES + last:.1f}", f"{memory:.0f}"])
    return result_table(TITLES, rows)


def write_parts(folder: Path, parts: int, essays: int, words: int) -> None:
    """So many parquet parts of so many made-up essays each."""
    draw = random.Random(0)
    folder.mkdir()
    for part in range(parts):
        texts = [" ".join(draw.choices(WORDS, k=words)) for _ in range(essays)]
        ids = [f"{part}-{number}" for number in range(essays)]
        pd.DataFrame({"essay_id": ids, "text": texts}).to_parquet(folder / f"{part:04}.parquet")


def write_encoder_model(folder: Path) -> None:
    """A model folder with all of MiniLM under an untrained head."""
    scale = PromptScale(Prompt("river", ScoreRange(0, 3)), 0.5, 0.2, (0.25,) * 4, 2.0, 0.5)
    model = ScoringModel(load_encoder(ENCODER), ModelConfig(), [scale])
    EncoderScorer(model.eval(), load_tokenizer(ENCODER), accelerator=Accelerator(cpu=True)).save_pretrained(folder)


def measure(folder: Path, parts: int, essays: int, words: int, scored: int) -> dict[str, Any]:
    """CPU seconds of each step over a folder of parts, and the peak memory of scoring with MiniLM."""
    write_model(folder / "model")
    write_parts(folder / "in", parts, essays, words)
    spent = {"survey_part": 0.0, "score_part": 0.0}

    def timed(function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        for item in items:
            start = time.process_time()
            result = function(item)
            spent[function.__name__] += time.process_time() - start
            yield result

    digest, policy = file_sha256(folder / "model" / CONFIG), Policy()
    scoring = FolderScoring(
        folder / "model",
        digest,
        folder / "out",
        Reading(Columns()),
        ScoreOptions(policy),
        audit=ScoreAudit.into(folder / "audit.jsonl", folder / "model", policy),
        cpu=True,
    )
    scoring.scorer()  # its import and opening are no part of what is measured
    start = time.process_time()
    score_folder(scoring, list_parts(folder / "in"), timed, Provenance.now((), digest))
    rest = time.process_time() - start - sum(spent.values())
    write_encoder_model(folder / "encoder")
    write_parts(folder / "few", 1, scored, words)
    peak, _ = score_rows(folder / "encoder", "river", folder / "few" / "0000.parquet", folder / "few.csv")
    seconds = {"read": spent["survey_part"], "score, of a tiny model": spent["score_part"], "rest": rest}
    return {"essays": parts * essays, "words": words, "parts": parts, "cpu_seconds": seconds, "peak_mebibytes": peak}


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", type=int, default=5)
    parser.add_argument("--essays", type=int, default=2000, help="of a part")
    parser.add_argument("--words", type=int, default=250, help="of an essay")
    parser.add_argument("--scored", type=int, default=512, help="essays that MiniLM scores for its peak of memory")
    parser.add_argument("--output", type=Path, default=RESULTS / "scoring_folder.json")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as name:
        values = measure(Path(name), options.parts, options.essays, options.words, options.scored)
    options.output.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(table(values) + "\n")


if __name__ == "__main__":
    main()
