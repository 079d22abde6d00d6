"""Model folders: config.json, model.safetensors, the tokenizer, what advisories need, and a model card.

They hold data, never code: numbers and the tokenizer's files, each listed in config.json with its sha256. No text of an
essay is stored.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError

from aes_dynloss.errors import AesDynlossError, CheckpointError
from aes_dynloss.essays.classical.strings import StringModel, strings_from_arrays, strings_to_arrays
from aes_dynloss.essays.data.essay_table import Prompt
from aes_dynloss.essays.model.encoders import (
    build_encoder,
    check_vocabulary,
    encoder_label,
    encoder_values,
    file_sha256,
    first_line,
    tokenizer_fault,
)
from aes_dynloss.essays.model.model_config import ModelConfig
from aes_dynloss.essays.model.ood_distance import OodDistance
from aes_dynloss.essays.model.prompt_scales import Postprocessing, PromptScale
from aes_dynloss.essays.model.scoring_model import ScoringModel
from aes_dynloss.essays.screening.screen import Screen
from aes_dynloss.measures.intervals import Certainty, Intervals
from aes_dynloss.tables.atomic import atomic_folder
from aes_dynloss.tables.score_range import ScoreRange

SCREENING = "screening.safetensors"
STRINGS = "strings.safetensors"
_TEXT, _VECTORS, _THRESHOLDS = "text.", "vectors.", "distances"


@dataclass(frozen=True)
class Screening:
    """What was learned from training essays beside their scores.

    Args:
        text: From their words.
        ood_distance: From their vectors.
    """

    text: Screen
    ood_distance: OodDistance


def write_screening(screening: Screening, path: Path) -> None:
    """Write the file.

    Args:
        screening: What is written.
        path: Where to.
    """
    from safetensors.numpy import save_file

    arrays = {_TEXT + name: np.ascontiguousarray(array) for name, array in screening.text.to_arrays().items()}
    for number, vectors in enumerate(screening.ood_distance.references):
        arrays[f"{_VECTORS}{number}"] = vectors.half().cpu().numpy()
    arrays[_THRESHOLDS] = screening.ood_distance.thresholds.cpu().numpy()
    save_file(arrays, path)


def read_screening(path: Path) -> Screening:
    """Read what ``write_screening`` wrote.

    Args:
        path: The file.

    Raises:
        CheckpointError: It is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        arrays = load_file(path)
        text = Screen.from_arrays(
            {name.removeprefix(_TEXT): array for name, array in arrays.items() if name.startswith(_TEXT)}
        )
        thresholds = arrays[_THRESHOLDS]
        vectors = [torch.from_numpy(arrays[f"{_VECTORS}{number}"]) for number in range(len(thresholds))]
        return Screening(text, OodDistance(vectors, thresholds.tolist()))
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, AesDynlossError) as error:
        message = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise CheckpointError(f"{path.name} is damaged: {message}. Fetch the folder again.") from None


FORMAT = "aes_dynloss.essay_scorer"
ENSEMBLE_FORMAT = "aes_dynloss.essay_ensemble"
VERSION = 1  # of both
CONFIG = "config.json"
WEIGHTS = "model.safetensors"
CARD = "README.md"
MEMBERS = "members"  # of an ensemble, each a model folder: 0, 1, ...
_KINDS = {FORMAT: "an essay scorer", ENSEMBLE_FORMAT: "an ensemble of essay scorers"}
_OF_TRAINING = {"features_cache", "start_from"}  # places on the machine that trained


@dataclass(frozen=True)
class ModelParts:
    """What a model folder holds.

    Args:
        model: The torch module.
        tokenizer: Its encoder's tokenizer.
        postprocessing: From raw to score.
        intervals: Prediction intervals fitted on dev.
        certainty: Agreement probabilities calibrated on dev.
        screening: What was learned from training essays beside their scores; None for nothing.
        strings: What n-grams add to the head's output, by prompt; empty for nothing.
    """

    model: ScoringModel
    tokenizer: Any
    postprocessing: Postprocessing
    intervals: Intervals
    certainty: Certainty
    screening: Screening | None
    strings: Mapping[str, StringModel] = field(default_factory=dict)


def write_model_folder(parts: ModelParts, folder: Path, card: str | None = None) -> None:
    """Write a model folder; it appears whole or not at all, in the place of an older model.

    Args:
        parts: What it holds.
        folder: Where to.
        card: Text of README.md.

    Raises:
        CheckpointError: The folder cannot be written, or holds something that is no model.
    """
    from safetensors.numpy import save_file as save_arrays
    from safetensors.torch import save_file

    with appearing_whole(folder) as new:
        prompts = ", ".join(scale.prompt.id for scale in parts.model.scales)
        state = {name: t.detach().cpu().contiguous() for name, t in parts.model.state_dict().items()}
        try:
            parts.tokenizer.save_pretrained(new)
            save_file(state, new / WEIGHTS, metadata={"format": "pt"})
            if parts.screening is not None:
                write_screening(parts.screening, new / SCREENING)
            if parts.strings:
                save_arrays(strings_to_arrays(parts.strings), new / STRINGS)
        except OSError:
            raise
        except Exception as error:  # tokenizers and safetensors hide the system's words in classes of their own
            raise OSError(str(error)) from None
        config = parts.model.config
        values: dict[str, Any] = {
            "format": FORMAT,
            "version": VERSION,
            "model": config.model_dump(mode="json", exclude=_OF_TRAINING) | {"encoder": encoder_label(config.encoder)},
            "prompts": [asdict(scale) for scale in parts.model.scales],
            "postprocessing": parts.postprocessing.to_dict(),
            "intervals": parts.intervals.to_dict(),
            "certainty": parts.certainty.to_dict(),
            "encoder": encoder_values(parts.model.encoder),
        }
        values["sha256"] = {path.name: file_sha256(path) for path in sorted(new.iterdir()) if path.is_file()}
        values["sha256"][CONFIG] = config_digest(values)
        (new / CONFIG).write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        (new / CARD).write_text(card or f"# Essay scorer\n\nPrompts: {prompts}.\n", encoding="utf-8")
        # safetensors writes for its owner alone; the weights are as open as the rest of the folder.
        for path in new.glob("*.safetensors"):
            path.chmod((new / CONFIG).stat().st_mode)


@contextmanager
def appearing_whole(folder: Path) -> Iterator[Path]:
    """A new folder for a model, which takes its place as a whole when the block ends without an error.

    Args:
        folder: Where the model is to be, in the place of an older one.

    Yields:
        An empty folder to write into.

    Raises:
        CheckpointError: The folder cannot be written, or holds something that is no model.
    """
    try:
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            try:
                read_config(folder, *_KINDS)
            except CheckpointError:
                raise CheckpointError(
                    f"{folder} is there already and holds no model, so it is not replaced. Choose another folder."
                ) from None
        with atomic_folder(folder) as new:
            yield new
    except OSError as error:
        raise CheckpointError(f"The model folder {folder} cannot be written: {error.strerror or error}.") from None


def read_model_folder(folder: Path) -> ModelParts:
    """Open a model folder.

    Args:
        folder: The folder.

    Raises:
        CheckpointError: It is missing, damaged, not of this format, or its weights are not those that were written.
    """
    values = read_config(folder, FORMAT)
    _check_files(folder, values)
    try:
        config = ModelConfig.model_validate(values["model"])
        scales = [_scale(entry) for entry in values["prompts"]]
        postprocessing = Postprocessing.from_dict(values["postprocessing"])
        # Folders of earlier versions lack these three, or hold a certainty of another form, which is left out.
        intervals = Intervals.from_dict(values.get("intervals", {}))
        certainty = Certainty.from_dict(values.get("certainty", {}))
        screening = read_screening(folder / SCREENING) if SCREENING in values["sha256"] else None
        strings = _read_strings(folder / STRINGS, [scale.prompt.id for scale in scales]) if config.strings else {}
        encoder = build_encoder(dict(values["encoder"]))
        model = ScoringModel(encoder, config, scales)
        _load_weights(model, folder / WEIGHTS)
        if screening is not None:
            known, width = screening.ood_distance.references, encoder.config.hidden_size
            if len(known) != len(scales) or any(len(vectors) and vectors.shape[1] != width for vectors in known):
                raise CheckpointError(f"{SCREENING} does not fit {CONFIG}. Fetch the folder again.")
    except CheckpointError as error:
        raise CheckpointError(f"{folder}: {error}") from None
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError, ValidationError, AesDynlossError) as error:
        message = f"lacks {error}" if isinstance(error, KeyError) else first_line(error)
        raise CheckpointError(f"{folder / CONFIG} is damaged: {message}. Fetch the folder again.") from None
    tokenizer = _read_tokenizer(folder, encoder.config)
    try:
        check_vocabulary(encoder, tokenizer)
    except (TypeError, ValueError) as error:  # a tokenizer that does not work
        raise CheckpointError(f"{folder} is damaged: {error}") from None
    return ModelParts(model.eval(), tokenizer, postprocessing, intervals, certainty, screening, strings)


def read_config(folder: Path, *formats: str) -> dict[str, Any]:
    """What config.json of a model folder says.

    Args:
        folder: The folder.
        formats: What the folder may hold: FORMAT, ENSEMBLE_FORMAT.

    Raises:
        CheckpointError: The folder or the file is missing, damaged, or of another format or version.
    """
    if not folder.is_dir():
        raise CheckpointError(f"There is no model folder {folder}. Give the folder model/ of a run of finetune.")
    try:
        values = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{folder} has no {CONFIG}. Give the folder model/ of a run of finetune.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{folder / CONFIG} is damaged: {error}. Fetch the folder again.") from None
    kind = values.get("format") if isinstance(values, dict) else None
    if kind == ENSEMBLE_FORMAT and kind not in formats:
        raise CheckpointError(
            f"{folder} holds an ensemble, where a single scorer is expected. Give one of its members, such as "
            f"{folder / MEMBERS / '0'}, or open it by open_scorer."
        )
    if kind not in formats:
        expected = " or ".join(_KINDS[name] for name in formats)
        raise CheckpointError(
            f"{folder / CONFIG} is not that of {expected}. Give the folder model/ of a run of finetune."
        )
    if values.get("version") != VERSION:
        raise CheckpointError(
            f"{folder} has version {values.get('version')!r} of the format, this program reads {VERSION}. Update "
            "aes-dynloss."
        )
    return dict(values)


def config_digest(values: dict[str, Any]) -> str:
    """SHA-256 of what config.json says beside this digest itself, however it is laid out."""
    digests = {name: digest for name, digest in values["sha256"].items() if name != CONFIG}
    return hashlib.sha256(json.dumps({**values, "sha256": digests}, sort_keys=True).encode()).hexdigest()


def _check_files(folder: Path, values: dict[str, Any]) -> None:
    """Refuse files that are not those that were written together."""
    expected = values.get("sha256")
    if not isinstance(expected, dict) or not {WEIGHTS, CONFIG} <= expected.keys():
        raise CheckpointError(f"{folder / CONFIG} is damaged: it lacks the files' sha256. Fetch the folder again.")
    for name, digest in expected.items():
        path = folder / Path(name).name
        if not path.is_file():
            raise CheckpointError(f"{folder} has no {path.name}. Give the folder model/ of a run, whole.")
        actual = config_digest(values) if name == CONFIG else file_sha256(path)
        if actual != digest:
            raise CheckpointError(
                f"{path} is not what was written: its sha256 is {actual[:12]}..., expected {str(digest)[:12]}... "
                "It is truncated, swapped or edited; fetch the folder again."
            )
    check_unlisted(folder, {Path(name).name for name in expected})


def check_unlisted(folder: Path, listed: Collection[str], subfolders: Collection[str] = ()) -> None:
    """Refuse files that config.json does not list: transformers would read some of them, and scores would change.

    Args:
        folder: A model folder. Its README.md, and names that begin with a dot, are nowhere read.
        listed: Names of its files.
        subfolders: Folders in it that have lists of their own.

    Raises:
        CheckpointError: There is another file, or a link to a folder.
    """
    for parent, folders, files in os.walk(folder):
        inner = Path(parent).relative_to(folder)
        links = [name for name in folders if (Path(parent) / name).is_symlink()]
        for name in sorted([*files, *links]):
            path = inner / name
            if str(path) not in {CARD, *listed} and not name.startswith("."):
                raise CheckpointError(
                    f"{folder / path} is not among the files that {folder / CONFIG} lists, so the folder is not "
                    "opened. Move that file elsewhere, or fetch the folder again."
                )
        folders[:] = [name for name in folders if not name.startswith(".") and str(inner / name) not in subfolders]


def _scale(entry: dict[str, Any]) -> PromptScale:
    values = entry["prompt"]
    prompt = Prompt(str(values["id"]), ScoreRange(**values["range"]), values["text"])
    numbers = {name: float(entry[name]) for name in ("mean", "sd", "length_mean", "length_sd")}
    scale = PromptScale(prompt, shares=tuple(float(share) for share in entry["shares"]), **numbers)
    if len(scale.shares) != prompt.range.count or scale.sd <= 0 or scale.length_sd <= 0:
        raise CheckpointError(f"{CONFIG}: the statistics of prompt {prompt.id} do not fit its range.")
    return scale


def _read_strings(path: Path, prompts: Sequence[str]) -> dict[str, StringModel]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        models = strings_from_arrays(load_file(path))
    except (SafetensorError, OSError, AesDynlossError) as error:
        raise CheckpointError(f"{path.name} is damaged: {error}. Fetch the folder again.") from None
    if set(models) != set(prompts):
        raise CheckpointError(f"{path.name} does not fit {CONFIG}. Fetch the folder again.")
    return models


def _load_weights(model: ScoringModel, weights: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state = load_file(weights)
    except SafetensorError as error:
        raise CheckpointError(f"{weights.name} is damaged: {error}. Fetch the folder again.") from None
    if model.kernel is not None:
        model.kernel.make_room(state, "kernel.")
    expected = model.state_dict()
    wrong = sorted(expected.keys() ^ state.keys())
    wrong += [name for name in expected.keys() & state.keys() if expected[name].shape != state[name].shape]
    if wrong:
        raise CheckpointError(f"{weights.name} does not fit {CONFIG}: {len(wrong)} weights differ, such as {wrong[0]}.")
    model.load_state_dict(state)


def _read_tokenizer(folder: Path, encoder_config: Any) -> Any:  # noqa: ANN401 - transformers is untyped
    from transformers import AutoTokenizer

    try:
        # The encoder's config is passed on: config.json here is this project's, not transformers'.
        tokenizer = AutoTokenizer.from_pretrained(folder, config=encoder_config, use_fast=True, trust_remote_code=False)
        known = tokenizer_fault(tokenizer) is None and len(tokenizer) <= encoder_config.vocab_size
    except Exception as error:  # whatever transformers makes of damaged files
        raise CheckpointError(f"The tokenizer in {folder} cannot be read: {first_line(error)}.") from None
    if not known:
        raise CheckpointError(f"The tokenizer in {folder} is not that of its encoder. Fetch the folder again.")
    return tokenizer
