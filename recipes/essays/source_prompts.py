"""Which source prompts help on a prompt never seen: weights that a teacher learns, beside equal ones and similarity.

    python recipes/essays/source_prompts.py      # results/source_prompts.json, 11 CPU-minutes

Each prompt of ASAP is left out in turn, as the target. Of the seven others each is left out once more: L2T-DLF trains a
linear student on the other six, and learns a weight for each of them by the loss on the seventh. A prompt's weight for
the target is the mean over the six teachers that it had. With these weights a ridge regression on all seven ranks the
target's essays; essays are standardised by prompt, as in `model.kind: transfer`, form with_target_essays. No score of
the target is seen until its figures are taken.

`oracle` has the weights that rank the target best, found by the target's scores: what weights by prompt could give.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor, nn

from aes_dynloss import Batch, Elements, LossConfig, RunContext, TrainingConfig, train_student
from aes_dynloss.cli.main import log_to_stderr
from aes_dynloss.errors import AesDynlossError, TrainingError
from aes_dynloss.essays.classical.text_regression import NumberScale
from aes_dynloss.essays.classical.transfer import TransferRegression
from aes_dynloss.essays.data.data_config import DataConfig
from aes_dynloss.essays.data.essay_table import EssayTable
from aes_dynloss.essays.data.readers import read_essays
from aes_dynloss.essays.features.linguistic import ALL_GROUPS, essay_numbers
from aes_dynloss.measures.agreement import quadratic_weighted_kappa
from aes_dynloss.reports.table import Column, Table, markdown_table, number, words, words_column
from aes_dynloss.tables.score_range import ScoreRange
from aes_dynloss.teaching.teachers.config import DlfConfig
from aes_dynloss.training.accelerator import build_accelerator
from aes_dynloss.training.run_folder import write_json

Array = NDArray[np.float64]
logger = logging.getLogger("aes_dynloss.source_prompts")

SOURCE = "data/asap/asap_aes.parquet"
RESULTS = Path(__file__).with_name("results") / "source_prompts.json"
PENALTY = 0.1  # of the ridge regression, as a multiple of the mean eigenvalue, see classical/transfer.py
OF_PROMPT = 700  # essays of a prompt that a student sees: as many of each
CENTRE, SPREAD = 0.5, 0.15  # standardised scores in units of the range that losses expect
TRAINING = TrainingConfig(epochs=2, batch_size=64, head_learning_rate=1e-2, device="cpu", precision="float32")
TEACHER = DlfConfig(kind="dlf", episodes=15, steps=60, measure="mse", control="frozen_mean")


class LinearStudent(nn.Linear):
    """A score from an essay's points; a student, see :class:`aes_dynloss.teaching.student.Student`."""

    def elements(self, outputs: Tensor, targets: Tensor, groups: Tensor) -> Elements:
        """One element an essay; a prompt is the one that weighs, as a rater is where raters differ."""
        centre, spread = torch.full_like(targets, CENTRE), torch.full_like(targets, SPREAD)
        return Elements(CENTRE + SPREAD * outputs[:, 0], targets, groups, centre, spread, raters=groups)

    def parameter_stack(self) -> list[list[tuple[str, nn.Parameter]]]:
        """One layer."""
        return [list(self.named_parameters())]

    def as_module(self) -> nn.Module:
        """Itself."""
        return self


@dataclass(frozen=True)
class Prompt:
    """A prompt's essays.

    Args:
        numbers: What was counted in them, (N, D).
        scores: (N,).
        range: Its score points.
    """

    numbers: Array
    scores: Array
    range: ScoreRange

    @cached_property
    def points(self) -> Array:
        """Standardised by the prompt's essays, (N, D)."""
        return NumberScale.of(self.numbers).points(self.numbers)

    @cached_property
    def targets(self) -> Array:
        """Standardised scores, (N,)."""
        values: Array = (self.scores - self.scores.mean()) / self.scores.std()
        return values


def prompts_of(essays: EssayTable) -> dict[str, Prompt]:
    """The prompts by their ids."""
    answered, texts = np.array(essays.answered, dtype=object), np.array(essays.values("text"), dtype=object)
    ranges = {prompt.id: prompt.range for prompt in essays.prompts.values()}
    counted = {name: essay_numbers(texts[answered == name].tolist(), None, ALL_GROUPS) for name in ranges}
    return {name: Prompt(rows, essays.scores[answered == name], ranges[name]) for name, rows in counted.items()}


@dataclass(frozen=True)
class Essays:
    """Examples, see :class:`aes_dynloss.training.batching.Examples`.

    Args:
        points: Standardised by prompt, (N, D).
        targets: Standardised by prompt, (N,).
        prompts: Number of each essay's prompt, (N,).
    """

    points: Array
    targets: Array
    prompts: NDArray[np.int64]

    @classmethod
    def of(cls, prompts: Sequence[Prompt]) -> Essays:
        """As many of each prompt, drawn by chance; prompts are numbered in their order."""
        drawn = [np.random.default_rng(0).permutation(len(one.targets))[:OF_PROMPT] for one in prompts]
        numbers = np.repeat(np.arange(len(prompts)), [len(rows) for rows in drawn])
        points = [one.points[rows] for one, rows in zip(prompts, drawn, strict=True)]
        targets = [one.targets[rows] for one, rows in zip(prompts, drawn, strict=True)]
        return cls(np.concatenate(points), np.concatenate(targets), numbers)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """All alike."""
        return np.ones(len(self), dtype=np.int64)

    sequences = lengths

    def __len__(self) -> int:
        return len(self.targets)

    def batch(self, rows: Sequence[int]) -> Batch:
        """Some of them."""
        index = np.asarray(rows)
        points, targets = torch.tensor(self.points[index]).float(), torch.tensor(self.targets[index]).float()
        groups = torch.tensor(self.prompts[index])
        return Batch({"input": points}, CENTRE + SPREAD * targets, groups, torch.tensor(index))


def taught(sources: Mapping[str, Prompt], held_out: str) -> dict[str, float]:
    """Weights of the prompts but one, of mean 1, that a teacher learns by that one."""
    names = [name for name in sources if name != held_out]
    train, dev = Essays.of([sources[name] for name in names]), Essays.of([sources[held_out]])
    student = LinearStudent(train.points.shape[1], 1)
    points, targets = torch.tensor(dev.points).float(), torch.tensor(dev.targets).float()

    def minus_error() -> dict[str, float]:
        with torch.no_grad():
            return {"minus_error": -float(((student(points)[:, 0] - targets) ** 2).mean())}

    with TemporaryDirectory() as folder:
        context = RunContext(build_accelerator(TRAINING), TRAINING, Path(folder), minus_error, select_by="minus_error")
        loss = LossConfig(terms={"mse": 1.0}, by=["rater"])
        learned = train_student(context, student, train, dev, loss, TEACHER, classes=None, raters=names).learned
    if learned is None:
        raise TrainingError(f"The teacher of prompts {', '.join(names)} left no loss.")
    weights = learned.coefficients / learned.coefficients.mean()
    return dict(zip(names, weights.tolist(), strict=True))


def taught_weights(sources: Mapping[str, Prompt]) -> dict[str, float]:
    """The mean weight of each prompt over the teachers of all others, each left out in turn."""
    found = [taught(sources, held_out) for held_out in sources]
    return {name: fmean(weights[name] for weights in found if name in weights) for name in sources}


def similar(sources: Mapping[str, Prompt], target: Prompt) -> dict[str, float]:
    """Weights by how near the mean of a prompt's essays is to the target's, in sds of all source prompts' essays."""
    scale = NumberScale.of_prompts([one.numbers for one in sources.values()])
    means = {name: scale.points(one.numbers).mean(0) for name, one in sources.items()}
    own = scale.points(target.numbers).mean(0)
    return {name: 1 / float(((mean - own) ** 2).sum()) for name, mean in means.items()}


def regression(sources: Mapping[str, Prompt], weights: Mapping[str, float]) -> Array:
    """Coefficients of a ridge regression in which prompts count by weights, whatever their sum is, (D,)."""
    total = sum(weights.values())
    shares = {name: weight / total / len(sources[name].targets) for name, weight in weights.items()}
    weighted = [(share, sources[name]) for name, share in shares.items()]
    squares = np.sum([share * one.points.T @ one.points for share, one in weighted], axis=0)
    products = np.sum([share * one.points.T @ one.targets for share, one in weighted], axis=0)
    strength = PENALTY * float(np.trace(squares)) / len(products)
    coefficients: Array = np.linalg.solve(squares + strength * np.eye(len(products)), products)
    return coefficients


def oracle(sources: Mapping[str, Prompt], target: Prompt) -> dict[str, float]:
    """Weights by which the target's essays are ranked best, found by their scores."""
    names = list(sources)

    def worse(logs: Array) -> float:
        weights = dict(zip(names, np.exp(np.clip(logs, -6, 6)), strict=True))
        return -float(np.corrcoef(target.points @ regression(sources, weights), target.targets)[0, 1])

    found = minimize(worse, np.zeros(len(names)), method="Nelder-Mead", options={"maxiter": 1500}).x
    return dict(zip(names, np.exp(np.clip(found, -6, 6)).tolist(), strict=True))


def on_target(prompts: Mapping[str, Prompt], name: str) -> dict[str, dict[str, Any]]:
    """Correlation and QWK on one prompt, by the kind of weights; and the weights, of mean 1."""
    target, sources = prompts[name], {other: one for other, one in prompts.items() if other != name}
    model = TransferRegression.fit(
        {other: one.numbers for other, one in sources.items()},
        {other: one.scores for other, one in sources.items()},
        {other: one.range for other, one in sources.items()},
    )
    kinds = {
        "equal": dict.fromkeys(sources, 1.0),
        "similarity": similar(sources, target),
        "l2t_dlf": taught_weights(sources),
        "oracle": oracle(sources, target),
    }
    found = {}
    for kind, weights in kinds.items():
        adapted = replace(model, coefficients=regression(sources, weights)).adapted(target.numbers, target.range)
        raw, mean = adapted.of_numbers(target.numbers), fmean(weights.values())
        found[kind] = {
            "correlation": round(float(np.corrcoef(raw, target.scores)[0, 1]), 4),
            "qwk": round(float(quadratic_weighted_kappa(target.scores, target.range.to_point(raw))), 4),
            "weights": {other: round(weight / mean, 3) for other, weight in weights.items()},
        }
    logger.info("Prompt %s: %s", name, {kind: (one["correlation"], one["qwk"]) for kind, one in found.items()})
    return found


def table(results: Mapping[str, Any]) -> str:
    """Correlation and QWK of each kind of weights, in markdown."""
    columns = [words_column("weights of source prompts", "kind"), Column("correlation", "mean correlation")]
    columns += [Column(name, name) for name in results] + [Column("qwk", "mean QWK")]
    rows = []
    for kind in next(iter(results.values())):
        own = [by_kind[kind] for by_kind in results.values()]
        correlations = [one["correlation"] for one in own]
        kappa = fmean(one["qwk"] for one in own)
        rows.append([words(kind), number(fmean(correlations)), *map(number, correlations), number(kappa)])
    return markdown_table(Table("source_prompts", "Weights of source prompts", columns, rows))


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default=SOURCE)
    options = parser.parse_args()
    log_to_stderr(logging.INFO)
    try:
        prompts = prompts_of(read_essays(DataConfig(source=options.source, format="asap")))
        write_json(RESULTS, {name: on_target(prompts, name) for name in prompts})
    except AesDynlossError as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
