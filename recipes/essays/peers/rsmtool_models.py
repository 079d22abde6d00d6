"""RSMTool's models on the linguistic features that ``aes-dynloss features`` exports.

    python recipes/essays/peers/rsmtool_models.py --data data/asap

An experiment as RSMTool's documentation configures it, its defaults kept: features without spread on train are
dropped, outliers clamped at 4 SD, features standardised. The predictions are its own ``raw_trim_round`` and
``scale_trim_round`` (with mean and SD of the train essays' human scores). ``rsmtool.run_experiment`` would also run a
notebook for each experiment; its steps up to the predictions are taken here through the same classes, and the
preprocessing, which does not depend on the model, once for all models of a fold.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
from common_folds import Predictions, PromptFold, measure, parser, prompt_folds, read_asap, run, write_results
from rsmtool.configuration_parser import Configuration, configure
from rsmtool.container import DataContainer
from rsmtool.modeler import Modeler
from rsmtool.preprocessor import FeaturePreprocessor

# Four of RSMTool's own and one of SKLL's.
MODELS = ["LinearRegression", "NNLR", "LassoFixedLambdaThenLR", "PositiveLassoCV", "Ridge"]


def export_features(essays: pd.DataFrame) -> tuple[pd.DataFrame, float]:
    """The table of ``aes-dynloss features``, in the order of the essays, and its CPU minutes.

    Args:
        essays: Columns essay_id, prompt_id and text.
    """
    with tempfile.TemporaryDirectory() as folder:
        texts, table = Path(folder) / "essays.csv", Path(folder) / "features.csv"
        essays.to_csv(texts, index=False)
        start = os.times()
        command = [sys.executable, "-m", "aes_dynloss", "features", str(texts), "--output", str(table)]
        subprocess.run(command, check=True)  # noqa: S603
        end = os.times()
        seconds = end.children_user + end.children_system - start.children_user - start.children_system
        return pd.read_csv(table, dtype={"essay_id": str, "prompt_id": str}), seconds / 60


def preprocess(fold: PromptFold, table: pd.DataFrame) -> tuple[Configuration, DataContainer]:
    """The configuration of a fold's experiments, and its features as RSMTool's models see them.

    Args:
        fold: Its essays are rows of the table.
        table: Columns essay_id and score; all others are features.
    """
    frames = {"train": table.iloc[fold.train].copy(), "test": table.iloc[fold.test].copy()}
    with tempfile.TemporaryDirectory() as folder:
        files = {f"{name}_file": str(Path(folder) / f"{name}.csv") for name in frames}
        for frame, path in zip(frames.values(), files.values(), strict=True):
            frame.to_csv(path, index=False)
        settings = {
            "experiment_id": "asap",
            "model": MODELS[0],
            **files,
            "id_column": "essay_id",
            "train_label_column": "score",
            "test_label_column": "score",
            "trim_min": int(fold.score_range.low),
            "trim_max": int(fold.score_range.high),
            "exclude_zero_scores": False,
        }
        container = DataContainer([{"name": name, "frame": frame} for name, frame in frames.items()])
        processed: tuple[Configuration, DataContainer] = FeaturePreprocessor().process_data(
            configure("rsmtool", settings), container
        )
        return processed


def experiment(model: str, config: Configuration, data: DataContainer, test_ids: pd.Series[str]) -> Predictions:
    """Predictions of the test essays.

    Args:
        model: Name of a built-in model, or of one of SKLL's.
        config: Of :func:`preprocess`.
        data: Of :func:`preprocess`.
        test_ids: Ids of the test essays, in the order in which their predictions are wanted.
    """
    config = config.copy()
    config["model_name"] = model
    modeler = Modeler()
    with tempfile.TemporaryDirectory() as folder:
        modeler.train(config, data, folder, "csv")
    columns = ["spkitemid", "sc1", *modeler.get_feature_names()]
    train, test = (data[f"{name}_preprocessed_features"][columns] for name in ("train", "test"))
    _, predicted = modeler.predict_train_and_test(train, test, config)
    by_id = predicted["pred_test"].set_index("spkitemid").loc[test_ids]
    return Predictions(by_id["raw_trim_round"].to_numpy(), by_id["scale_trim_round"].to_numpy())


def main() -> None:
    """From the command line."""
    options = parser(__doc__, "rsmtool_models.json")
    options.add_argument("--models", nargs="+", default=MODELS, help="RSMTool's names of models.")
    words = options.parse_args()
    essays = read_asap(words.data)
    columns = {name: essays.values(name) for name in ("essay_id", "prompt_id", "text")}
    table, minutes = export_features(pd.DataFrame(columns))
    table = table.drop(columns="prompt_id").assign(score=essays.scores.astype(int))
    folds = prompt_folds(essays, words.data)
    start = time.process_time()
    prepared = {fold: preprocess(fold, table) for fold in folds}
    minutes += (time.process_time() - start) / 60

    def measured(model: str) -> dict[str, object]:
        def predict(fold: PromptFold) -> Predictions:
            return experiment(model, *prepared[fold], table["essay_id"].iloc[fold.test])

        return measure(folds, essays.scores, predict, model)

    write_results(
        words.output,
        {f"RSMTool: {model}": measured(model) for model in words.models},
        rescaled_by="RSMTool, from its predictions of the train essays",
        packages=["rsmtool", "skll", "scikit-learn", "numpy", "pandas"],
        encoding={"what": "aes-dynloss features, RSMTool's preprocessing", "cpu_minutes": round(minutes, 3)},
    )


if __name__ == "__main__":
    run(main)
