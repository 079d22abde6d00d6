"""The sides of ``finetuning_throughput.py``: this package's loop, and ``transformers.Trainer`` as it comes."""

from __future__ import annotations

import dataclasses
import gc
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.state import AcceleratorState
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import SequentialSampler

from aes_dynloss.essays.data.data_config import DataConfig
from aes_dynloss.essays.data.readers import read_essays
from aes_dynloss.essays.data.splits import split_essays
from aes_dynloss.essays.model.chunks import Chunker
from aes_dynloss.essays.model.encoders import load_encoder, load_tokenizer, locate_encoder, longest_window
from aes_dynloss.essays.model.examples import EssayExamples, scored_examples
from aes_dynloss.essays.model.model_config import ModelConfig
from aes_dynloss.essays.model.prompt_scales import PromptScale, measure_scales
from aes_dynloss.essays.model.scoring_model import ScoringModel
from aes_dynloss.teaching.policies import LossConfig, LossPolicy, StudentState
from aes_dynloss.training.accelerator import build_accelerator
from aes_dynloss.training.config import Precision, TrainingConfig
from aes_dynloss.training.loop import RunContext, TeacherUpdate, fit

RATE = 3e-5
SEED = 0


@dataclasses.dataclass(frozen=True)
class Setting:
    """What is measured.

    Args:
        encoder: A name that ``model.encoder`` takes.
        source: ASAP's table.
        folds: Folder with the ids of its train, dev and test essays.
        batch: Essays an optimiser step.
        steps: Optimiser steps a segment.
        precision: float32 or bf16.
        device: cpu or cuda.
    """

    encoder: str
    source: Path
    folds: Path
    batch: int
    steps: int
    precision: Precision
    device: str


@dataclasses.dataclass
class Segment:
    """What one run of some steps took.

    Args:
        essays: Essays that were trained on.
        tokens: Their tokens, special tokens included.
        padded: Tokens that the encoder was given, padding included.
        seconds: By the clock, from before the first batch is made to after the last step.
    """

    essays: int
    tokens: int
    padded: int = 0
    seconds: float = 0.0

    def watch(self, encoder: nn.Module) -> None:
        """Count what an encoder is given."""

        def count(_: nn.Module, arguments: tuple[Tensor, ...], named: dict[str, Tensor]) -> None:
            self.padded += (arguments[0] if arguments else named["input_ids"]).numel()

        encoder.register_forward_pre_hook(count, with_kwargs=True)

    def start(self) -> None:
        """Start the clock."""
        self.seconds = -self._now()

    def stop(self) -> None:
        """Stop it."""
        self.seconds += self._now()

    @staticmethod
    def _now() -> float:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter()


@dataclasses.dataclass(frozen=True)
class Material:
    """The training essays as both sides read them.

    Args:
        examples: Ours, no essay longer than the encoder's window.
        rows: The same for Trainer, tokenized by the tokenizer's own truncation.
        tokenizer: The encoder's.
        scales: The prompts' statistics.
        attention: What Trainer's model attends by.
    """

    examples: EssayExamples
    rows: Sequence[Mapping[str, Any]]
    tokenizer: Any
    scales: list[PromptScale]
    attention: str

    def segment(self, rows: NDArray[np.int64]) -> Segment:
        """A run over some essays, before it."""
        return Segment(len(rows), int(self.examples.lengths[rows].sum()))


def read_material(setting: Setting) -> Material:
    """Read and tokenize the fold's training essays.

    Raises:
        ValueError: The two sides would read other tokens.
    """
    data = {"source": str(setting.source), "format": "asap", "split": {"folds_dir": str(setting.folds)}}
    config = DataConfig.model_validate(data)
    table = read_essays(config)
    train = split_essays(table, config.split).train
    tokenizer = load_tokenizer(setting.encoder)
    window = longest_window(load_encoder(setting.encoder).config, tokenizer)
    special = tokenizer.num_special_tokens_to_add()
    prompts = list(table.prompts.values())
    chunker = Chunker(tokenizer, window, window - special)
    examples = scored_examples([train], prompts, chunker, int(tokenizer.pad_token_id))
    encoded = tokenizer(train.values("text"), truncation=True, max_length=window)
    rows = [
        {name: column[row] for name, column in encoded.items()} | {"labels": float(examples.targets[row])}
        for row in range(len(train))
    ]
    for row, essay in zip(rows, examples.essays, strict=True):
        if [row["input_ids"]] != [chunk.tolist() for chunk in essay.chunks]:
            raise ValueError("the two sides do not read the same tokens")
    scales = measure_scales(prompts, examples.groups, train.scores, examples.log_lengths)
    attention = str(load_classifier(setting).config._attn_implementation)
    return Material(examples, rows, tokenizer, scales, attention)


def load_classifier(setting: Setting) -> Any:  # noqa: ANN401 - transformers is untyped
    """The encoder with one output, as users of Trainer load it."""
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(SEED)
    options = {"num_labels": 1, "problem_type": "regression", "dtype": "float32"}
    return AutoModelForSequenceClassification.from_pretrained(locate_encoder(setting.encoder), **options)


class FromFirst:
    """A policy that starts the clock when it is first asked, before the first step's batch is made."""

    def __init__(self, policy: LossPolicy, segment: Segment) -> None:
        self._policy, self._segment = policy, segment

    def coefficients(self, state: StudentState) -> Tensor:
        """Those of the policy."""
        if state.progress == 0:
            self._segment.start()
        return self._policy.coefficients(state)


class ToLast(TeacherUpdate):
    """No teacher; it stops the clock after the last step, before the student is measured."""

    def __init__(self, segment: Segment) -> None:
        self._segment = segment

    def update(self, optimizer: Optimizer, *, last: bool) -> Mapping[str, float]:
        """Update nothing."""
        if last:
            self._segment.stop()
        return super().update(optimizer, last=last)


def train_ours(setting: Setting, material: Material, rows: NDArray[np.int64], **training: Any) -> Segment:  # noqa: ANN401
    """A segment by this package's loop, its settings those of a new configuration."""
    segment = material.segment(rows)
    values: dict[str, object] = {
        "epochs": 1,
        "batch_size": setting.batch,
        "precision": setting.precision,
        "learning_rate": RATE,
    }
    values |= {"device": "cpu" if setting.device == "cpu" else "auto", "log_every": setting.steps, "seed": SEED}
    config = TrainingConfig.model_validate(values | training)
    accelerator = build_accelerator(config, precision=setting.precision)  # bf16 on any processor: Trainer asks nothing
    model = ScoringModel(load_encoder(setting.encoder), ModelConfig(), material.scales)
    segment.watch(model.encoder)
    loss, policy = LossConfig().build()
    with tempfile.TemporaryDirectory() as folder:
        fit(
            RunContext(accelerator, config, Path(folder), lambda: {"none": 0.0}, "none"),
            model,
            material.examples.select(rows),
            loss,
            FromFirst(policy, segment),
            ToLast(segment),
        )
    return segment


def train_trainer(setting: Setting, material: Material, rows: NDArray[np.int64], *, grouped: bool = False) -> Segment:
    """A segment by ``transformers.Trainer`` with dynamic padding, its settings its own.

    Args:
        setting: What is measured.
        material: The essays.
        rows: Those of the segment.
        grouped: Whether they come sorted by length, as its ``group_by_length`` sorts 50 batches of a long epoch; of a
            short one it would sort fewer.
    """
    from transformers import (
        DataCollatorWithPadding,
        PrinterCallback,
        Trainer,
        TrainerCallback,
        TrainerState,
        TrainingArguments,
    )

    segment = material.segment(rows)

    class Clock(TrainerCallback):
        def on_train_begin(self, *_: object, **__: object) -> None:
            segment.start()

        def on_step_end(self, args: object, state: TrainerState, control: object, **_: object) -> None:  # noqa: ARG002
            if state.global_step == state.max_steps:
                segment.stop()

    class InOrder(Trainer):
        def _get_train_sampler(self, *_: object) -> SequentialSampler:
            return SequentialSampler(rows)

    if grouped:
        rows = rows[np.argsort(-material.examples.lengths[rows], kind="stable")]
    model = load_classifier(setting)
    segment.watch(model.base_model)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            per_device_train_batch_size=setting.batch,
            num_train_epochs=1,
            learning_rate=RATE,
            bf16=setting.precision == "bf16",
            use_cpu=setting.device == "cpu",
            seed=SEED,
            logging_strategy="no",
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        trainer = (InOrder if grouped else Trainer)(
            model,
            arguments,
            data_collator=DataCollatorWithPadding(material.tokenizer),
            train_dataset=[dict(material.rows[row]) for row in rows],
            processing_class=material.tokenizer,
            callbacks=[Clock()],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return segment


Side = Callable[[Setting, Material, NDArray[np.int64]], Segment]


def start_afresh() -> None:
    """Give back what a segment has left, Accelerate's precision with it, which is one for a whole process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
