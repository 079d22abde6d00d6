"""Translation: a small Transformer on Multi30k, German to English, under static losses or L2T-DLF.

python recipes/translation/translation.py recipes/translation/multi30k.yaml --output-dir runs/multi30k
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch
from accelerate import Accelerator
from decoding import translations
from pair_data import TOKENIZER, PairDataConfig, Pairs, load_tokens, read_pairs, text_of
from pydantic import Field, model_validator
from sacrebleu.metrics import BLEU
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from token_classes import band_coefficients
from tokenizers import Tokenizer
from translator import Translator, TranslatorConfig, token_measures

from aes_dynloss import ConfigError, LossConfig, RunContext, TrainingConfig, predict, train_student
from aes_dynloss.cli.recipe_command import recipe_command
from aes_dynloss.configfile import ConfigModel, user_path
from aes_dynloss.tables.atomic import write_text
from aes_dynloss.teaching.losses.bilinear_loss import BilinearLogLoss
from aes_dynloss.teaching.teachers.config import DlfConfig, FrozenTeacherConfig, TeacherConfig
from aes_dynloss.training.config import Precision
from aes_dynloss.training.episodes import TEACHING_CHECKPOINT, TEACHING_LOG
from aes_dynloss.training.loop import FitResult
from aes_dynloss.training.run_folder import (
    MANIFEST,
    PLOTS,
    TEACHER,
    describe_run,
    write_json,
)
from aes_dynloss.training.student_run import student_run

logger = logging.getLogger("aes_dynloss.translation")

WEIGHTS, TRANSLATIONS, REPORT = "student.safetensors", "translations.txt", "report.json"
PRODUCTS = (MANIFEST, TEACHER, PLOTS, TEACHING_LOG, TEACHING_CHECKPOINT, TOKENIZER, WEIGHTS, TRANSLATIONS, REPORT)
PACKAGES = ("aes-dynloss", "torch", "tokenizers", "sacrebleu", "accelerate", "numpy")
SELECT_BY = "accuracy"
# What reads the gold token alone, and the mean over all tokens: others would take the classes for single tokens.
LOSSES = ("cross_entropy", "uniform_cross_entropy", "generalised_cross_entropy", "focal", "expected_error")
_DEFAULT_LOSS = LossConfig(terms={"cross_entropy": 1.0})


class TranslationConfig(ConfigModel):
    """A run of translation."""

    data: PairDataConfig = Field(default=PairDataConfig())
    model: TranslatorConfig = Field(default=TranslatorConfig())
    start: str | None = Field(
        default=None,
        description="Folder of an earlier run, whose tokens and weights this one begins with; by its embedding, tokens "
        "are near to each other throughout.",
    )
    loss: LossConfig = Field(
        default=_DEFAULT_LOSS,
        description=f"The loss without a teacher, of {', '.join(LOSSES)}.",
    )
    teacher: TeacherConfig | None = Field(
        default=None,
        description="L2T-DLF: kind dlf, or from: DIR. It sets the restricted matrix, see token_classes.py.",
    )
    training: TrainingConfig = Field(default=TrainingConfig())
    beams: int = Field(default=5, ge=1, description="Translations of a test sentence that grow together.")

    @model_validator(mode="after")
    def _check_losses(self) -> Self:
        measure = [self.teacher.measure] if isinstance(self.teacher, DlfConfig) else []
        for key, names in {"loss.terms": list(self.loss.terms), "teacher.measure": measure}.items():
            wrong = [name for name in names if name not in LOSSES]
            if wrong:
                raise ValueError(f"{key}: {wrong[0]} does not fit a vocabulary; take one of {', '.join(LOSSES)}")
        return self

    @model_validator(mode="after")
    def _check_teacher(self) -> Self:
        if self.teacher is None:
            return self
        if not isinstance(self.teacher, DlfConfig | FrozenTeacherConfig):
            raise ValueError("teacher: only the kind dlf, or from: DIR, fits a vocabulary")
        if self.loss != _DEFAULT_LOSS:
            raise ValueError("a teacher brings its own loss; leave the section loss out")
        if self.start is None:
            raise ValueError(
                "teacher: near tokens are those of an embedding that has learned; name an earlier run in start"
            )
        if isinstance(self.teacher, DlfConfig) and self.teacher.bins < self.model.classes:
            raise ValueError(
                f"teacher.bins is {self.teacher.bins}, expected at least {self.model.classes}: a class for each of "
                "model.bands and two more"
            )
        return self


def run(
    config: TranslationConfig,
    folder: Path,
    *,
    precision: Precision | None = None,
    resume: bool = False,
    force: bool = False,
    force_precision: bool = False,
) -> dict[str, Any]:
    """Train a translator as a configuration says; test is read once, at the end.

    Args:
        config: The configuration.
        folder: For everything the run leaves behind.
        precision: That of its grid; None: as the configuration says, and as the run began.
        resume: Go on with a run that was stopped.
        force: Replace an earlier run.
        force_precision: Allow bf16 on a processor that has it in software alone.

    Returns:
        The content of report.json.
    """

    def train(accelerator: Accelerator) -> dict[str, Any]:
        return _train_and_test(accelerator, config, folder, resume=resume)

    how = {"resume": resume, "force": force, "force_precision": force_precision}
    return student_run(config, folder, PRODUCTS, train, precision, **how)


def build(config: TranslationConfig) -> tuple[Translator, Tokenizer, dict[str, Pairs]]:
    """The student, its tokens and its tables.

    Raises:
        ConfigError: The run to start from is not there, or is of another size.
        DataError: The pairs cannot be read.
    """
    start = None if config.start is None else user_path(config.start, "start")
    tokenizer, tables = read_pairs(config.data, None if start is None else load_tokens(start / TOKENIZER))
    torch.manual_seed(config.training.seed)
    student = Translator(config.model, tables["train"].target, tokenizer.get_vocab_size())
    if start is not None:
        _start_from(student, start)
    return student, tokenizer, tables


def _start_from(student: Translator, folder: Path) -> None:
    path = folder / WEIGHTS
    try:
        student.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise ConfigError(
            f"start: {path} does not fit: {reason}. Name the folder of a complete run with the same section model."
        ) from None
    student.fix_near_tokens()


def _train_and_test(
    accelerator: Accelerator, config: TranslationConfig, folder: Path, *, resume: bool
) -> dict[str, Any]:
    student, tokenizer, tables = build(config)
    if accelerator.is_main_process:  # before training: it says in which precision to go on
        manifest = describe_run(accelerator, PACKAGES)
        manifest |= {"seed": config.training.seed, "pairs": {name: len(table) for name, table in tables.items()}}
        write_json(folder / MANIFEST, manifest)
    measure = partial(_measured, accelerator, student, tables["dev"])
    context = RunContext(accelerator, config.training, folder, measure, SELECT_BY, resume)
    result = train_student(
        context,
        student,
        tables["train"],
        tables["teacher_dev"],
        config.loss,
        config.teacher,
        classes=config.model.classes,
    )
    teacher_forced = _measured(accelerator, student, tables["test"])
    if not accelerator.is_main_process:
        return {}
    texts = {
        name: text_of(tokenizer, translations(student, tables["test"], beams=beams))
        for name, beams in (("bleu", config.beams), ("bleu_greedy", None))
    }
    scores, signature = bleu_of(texts, tables["test"])
    write_text(folder / TOKENIZER, tokenizer.to_str())
    write_text(folder / TRANSLATIONS, "".join(f"{line}\n" for line in texts["bleu"]))
    save_file({name: tensor.contiguous().cpu() for name, tensor in student.state_dict().items()}, folder / WEIGHTS)
    return {
        "test": scores | teacher_forced,
        "sacrebleu": signature,
        "dev": {SELECT_BY: result.best_measure},
        "best_step": result.best_step,
        "steps": result.steps,
        "weights": sum(parameter.numel() for parameter in student.parameters()),
        "vocabulary": tokenizer.get_vocab_size(),
        "taught": _taught(result),
    }


def bleu_of(texts: Mapping[str, list[str]], pairs: Pairs) -> tuple[dict[str, float], str]:
    """BLEU of several translations of a table, by name, from 0 to 100; and sacrebleu's signature.

    References:
        Post 2018, A call for clarity in reporting BLEU scores.
    """
    bleu = BLEU()
    scores = {name: bleu.corpus_score(lines, [list(pairs.references)]).score for name, lines in texts.items()}
    return scores, str(bleu.get_signature())


def _measured(accelerator: Accelerator, student: Translator, pairs: Pairs) -> dict[str, float]:
    return token_measures(predict(accelerator, student, pairs), pairs.target)


def _taught(result: FitResult) -> dict[str, list[float]] | None:
    """What the teacher set for each band when the training ended."""
    learned = result.learned
    if learned is None or not isinstance(learned.loss, BilinearLogLoss):
        return None
    return band_coefficients(learned.loss, learned.coefficients)


if __name__ == "__main__":
    recipe_command("translation.py", TranslationConfig, run)
