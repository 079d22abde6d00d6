"""What the peers share: ASAP's five common folds, QWK on their test essays, and the results file.

One model for each prompt and fold, fitted on the train essays; dev essays are used where a peer says so, and the fold's
test essays are only predicted. QWK is that of score points (trimmed to the prompt's range, rounded half up) by prompt
and fold; its mean over folds, then over prompts, is the figure that published systems give.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aes_dynloss.errors import AesDynlossError, DataError
from aes_dynloss.essays.data.data_config import DataConfig, SplitConfig
from aes_dynloss.essays.data.essay_table import EssayTable
from aes_dynloss.essays.data.readers import read_essays
from aes_dynloss.essays.data.splits import split_essays
from aes_dynloss.measures.agreement import quadratic_weighted_kappa
from aes_dynloss.tables.score_range import ScoreRange
from aes_dynloss.versions import package_version

TITLES = ["peer", "QWK", "QWK rescaled", "CPU minutes", "of features"]
Rows = NDArray[np.int64]
Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PromptFold:
    """The essays of one prompt in one fold.

    Args:
        prompt: Id of the prompt.
        fold: Number of the fold.
        score_range: The prompt's official score points.
        train: Rows of the train essays.
        dev: Rows of the dev essays.
        test: Rows of the test essays.
    """

    prompt: str
    fold: int
    score_range: ScoreRange
    train: Rows
    dev: Rows
    test: Rows


class Predictions(NamedTuple):
    """Predictions of the test essays, as the model gives them and with mean and SD of other essays' scores."""

    plain: Values
    rescaled: Values


def rescale(predicted: Values, held_out_predicted: Values, held_out_scores: Values) -> Values:
    """Move predictions by what takes those of train or dev essays to the mean and SD of their scores.

    Args:
        predicted: Of the test essays.
        held_out_predicted: Of train or dev essays, each by a model that was not fitted on it.
        held_out_scores: Human scores of these.

    >>> rescale(np.array([3.0]), np.array([1.0, 3.0]), np.array([0.0, 4.0]))
    array([4.])
    """
    unit = (predicted - held_out_predicted.mean()) / held_out_predicted.std()
    return np.asarray(held_out_scores.mean() + held_out_scores.std() * unit)


def asap_file(folder: Path) -> Path:
    """ASAP-AES in a folder: ``asap_aes.parquet``, or else the original ``training_set_rel3.tsv``."""
    parquet = folder / "asap_aes.parquet"
    return parquet if parquet.exists() else folder / "training_set_rel3.tsv"


def fold_folder(folder: Path, fold: int) -> Path:
    """Where the ids of a fold's train, dev and test essays are."""
    return folder / "folds" / f"fold_{fold}"


def read_asap(folder: Path) -> EssayTable:
    """The essays of :func:`asap_file`."""
    return read_essays(DataConfig(source=str(asap_file(folder)), format="asap"))


def prompt_folds(essays: EssayTable, folder: Path) -> list[PromptFold]:
    """Each prompt of each fold, as ``folds/fold_K/{train,dev,test}_ids.txt`` in the folder say.

    Raises:
        DataError: There are no folds, or they do not fit the essays.
    """
    paths = sorted((folder / "folds").glob("fold_*"))
    if not paths:
        raise DataError(f"{folder / 'folds'} holds no fold_0, fold_1, ... Name their parent folder by --data.")
    row_of = {essay_id: row for row, essay_id in enumerate(essays.essay_ids)}
    prompts = np.array(essays.values("prompt_id"))
    found = []
    for path in paths:
        splits = split_essays(essays, SplitConfig(folds_dir=str(path)))
        fold, parts = int(path.name.removeprefix("fold_")), (splits.train, splits.dev, splits.test)
        every = [np.array([row_of[one] for one in part.essay_ids]) for part in parts]
        for prompt in essays.prompts.values():
            train, dev, test = (rows[prompts[rows] == prompt.id] for rows in every)
            found.append(PromptFold(prompt.id, fold, prompt.range, train, dev, test))
    return found


def measure(
    folds: Sequence[PromptFold], scores: Values, predict: Callable[[PromptFold], Predictions], name: str = ""
) -> dict[str, Any]:
    """QWK of a model on all folds, and the CPU minutes of fitting and predicting.

    Args:
        folds: See :func:`prompt_folds`.
        scores: Human scores of all essays.
        predict: Fits a model on a fold's train essays and predicts its test essays.
        name: Of the model, for the lines that tell how far it is.

    Returns:
        ``qwk`` and ``qwk_rescaled``, each with ``mean`` and by prompt ``mean`` and ``folds``; ``cpu_minutes``.
    """
    start = time.process_time()
    kappas: dict[str, dict[str, dict[str, float]]] = {"qwk": {}, "qwk_rescaled": {}}
    for fold in folds:
        for version, predicted in zip(kappas, predict(fold), strict=True):
            kappa = quadratic_weighted_kappa(scores[fold.test], fold.score_range.to_point(predicted))
            kappas[version].setdefault(fold.prompt, {})[str(fold.fold)] = round(float(kappa), 6)
        sys.stderr.write(f"{name} fold {fold.fold}, prompt {fold.prompt}: {float(kappa):.3f}\n")
    return {
        **{version: _with_means(by_prompt) for version, by_prompt in kappas.items()},
        "cpu_minutes": round((time.process_time() - start) / 60, 3),
    }


def _with_means(by_prompt: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    means = {prompt: fmean(folds.values()) for prompt, folds in by_prompt.items()}
    prompts = {prompt: {"mean": means[prompt], "folds": folds} for prompt, folds in by_prompt.items()}
    return {"mean": fmean(means.values()), "prompts": prompts}


def write_results(
    path: Path,
    models: Mapping[str, Mapping[str, Any]],
    *,
    rescaled_by: str,
    packages: Sequence[str],
    encoding: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    table: Sequence[Sequence[str]] | None = None,
) -> None:
    """Write a results file, and its table to standard output.

    Args:
        path: The file.
        models: What :func:`measure` returned, by the model's description.
        rescaled_by: Who rescales, and from what: the peer or its script.
        packages: Names of the packages whose versions count.
        encoding: What turned the texts into features: ``what`` and ``cpu_minutes``.
        settings: What else the models were fitted by.
        table: Titles and rows of a table; by default of ``TITLES`` and :func:`table_rows`.
    """
    results = {
        "models": models,
        "encoding": encoding,
        **({} if settings is None else {"settings": settings}),
        "rescaled_by": rescaled_by,
        "packages": {name: package_version(name) for name in packages},
        "python": platform.python_version(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    lines = table or [TITLES, *table_rows(results)]
    sys.stdout.write("".join("\t".join(row) + "\n" for row in lines))


def table_rows(results: Mapping[str, Any]) -> list[list[str]]:
    """A row of cells, under ``TITLES``, for each model of a results file."""
    encoding = results["encoding"]
    minutes = "" if encoding is None else f"{encoding['cpu_minutes']:.1f}"
    return [
        [name, f"{one['qwk']['mean']:.3f}", f"{one['qwk_rescaled']['mean']:.3f}", f"{one['cpu_minutes']:.1f}", minutes]
        for name, one in results["models"].items()
    ]


def parser(description: str | None, output: str) -> argparse.ArgumentParser:
    """The options that all scripts have.

    Args:
        description: A script's docstring.
        output: Name of its results file.
    """
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--data", type=Path, default=Path("data/asap"), help="Folder of ASAP-AES and its folds.")
    results = Path(__file__).parents[1] / "results" / "peers" / output
    made.add_argument("--output", type=Path, default=results, help="Results file.")
    return made


def run(main: Callable[[], None]) -> None:
    """Call a script's ``main``; data that cannot be used end it with one message and exit code 2."""
    try:
        main()
    except AesDynlossError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)
