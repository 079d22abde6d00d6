"""Model folders: config.json, the files that it lists with their sha256, and a model card.

They hold data, never code. No text of an essay is stored. What the files are is a matter of the kind of scorer; this
module writes and reads what all kinds have.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from aes_dynloss.errors import AesDynlossError, CheckpointError, first_line
from aes_dynloss.essays.data.essay_table import Prompt
from aes_dynloss.essays.features.linguistic import GROUPS, feature_names
from aes_dynloss.essays.model.card import EssayModelCard, with_reported_scale
from aes_dynloss.essays.model.model_config import ModelConfig
from aes_dynloss.essays.model.prompt_scales import AskedRule, Postprocessing, PromptScale
from aes_dynloss.essays.model.training_essays import TrainingEssays
from aes_dynloss.essays.screening.screen import Screen
from aes_dynloss.measures.intervals import Certainty, Intervals
from aes_dynloss.measures.scales import ConversionTable
from aes_dynloss.parts import recorded_origins
from aes_dynloss.tables.atomic import atomic_folder, file_sha256, write_text
from aes_dynloss.tables.provenance import PROVENANCE
from aes_dynloss.tables.scale_ids import SEPARATOR
from aes_dynloss.tables.score_range import ScoreRange

Arrays = dict[str, NDArray[Any]]

FORMAT = "aes_dynloss.essay_scorer"
ENSEMBLE_FORMAT = "aes_dynloss.essay_ensemble"
VERSION = 2  # of both
_READABLE = (1, VERSION)
CONFIG = "config.json"
WEIGHTS = "model.safetensors"
HEAD = "head.safetensors"
SCREENING = "screening.safetensors"
STRINGS = "strings.safetensors"
TRANSFER = "transfer.safetensors"
TRAINING = "training_essays.safetensors"
CARD = "README.md"
MODEL = "model"  # the model folder of a run
MEMBERS = "members"  # of an ensemble, each a model folder: 0, 1, ...
# For people, at the top of a folder; no program reads them there.
_FOR_PEOPLE = ("license*", "licence*", "notice*", "*.md", "*.png", "*.jpg", "*.jpeg", "*.gif", "*.svg", "*.webp")
_KINDS = {FORMAT: "an essay scorer", ENSEMBLE_FORMAT: "an ensemble of essay scorers"}
_TEXT = "text."
_COLUMNS = "columns"  # in parts: those of each feature from outside; folders made earlier lack it
# Places on the machine that trained; the encoder, which is named apart; adapters, which its weights have taken in.
_NOT_KEPT = {"features_cache", "start_from", "encoder", "lora"}


@dataclass(frozen=True)
class Fitted:
    """What config.json says of one scorer, whatever its kind.

    Args:
        config: How it is built.
        scales: Its prompts, with statistics of their training essays.
        postprocessing: From raw to score.
        intervals: Prediction intervals fitted on dev.
        certainty: Agreement probabilities calibrated on dev.
    """

    config: ModelConfig
    scales: list[PromptScale]
    postprocessing: Postprocessing
    intervals: Intervals
    certainty: Certainty

    def to_dict(self) -> dict[str, Any]:
        """Plain values for config.json; ``parts`` has the features from outside: where from, and their columns."""
        origins = GROUPS.origins(self.config.linguistic_groups)
        features = {name: origin.model_dump(mode="json") for name, origin in origins.items()}
        columns = {name: feature_names([name]) for name in origins}
        return {
            **({"parts": {GROUPS.kind: features, _COLUMNS: columns}} if features else {}),
            "model": self.config.model_dump(mode="json", exclude=_NOT_KEPT),
            "prompts": [asdict(scale) | {"prompt": scale.prompt.to_dict()} for scale in self.scales],
            "postprocessing": self.postprocessing.to_dict(),
            "intervals": self.intervals.to_dict(),
            "certainty": self.certainty.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Fitted:
        """From :meth:`to_dict`; earlier versions lack the last two, or have a certainty of another form.

        Raises:
            CheckpointError: A feature is from outside and not here, or has other columns here.
        """
        GROUPS.check_origins(recorded_origins(values, GROUPS.kind), Path(CONFIG))
        _check_columns(values.get("parts", {}).get(_COLUMNS, {}))
        return cls(
            ModelConfig.model_validate(values["model"]),
            [_scale(entry) for entry in values["prompts"]],
            Postprocessing.from_dict(values["postprocessing"]),
            Intervals.from_dict(values.get("intervals", {})),
            Certainty.from_dict(values.get("certainty", {})),
        )


def _check_columns(recorded: Mapping[str, Any]) -> None:
    """Refuse features from outside whose columns are others than in training, or in another order."""
    for name, then in recorded.items():
        now = feature_names([name])
        if now != then:
            raise CheckpointError(
                f"the feature {name!r} has the columns {now} here, but the model was trained with {then}, in this "
                "order. Give the version of the feature that it was trained with, or train the model anew."
            )


def write_scorer_folder(
    folder: Path, values: Mapping[str, Any], write_files: Callable[[Path], None], card: str | None = None
) -> None:
    """Write a scorer's folder; it appears whole or not at all, in the place of an older model.

    Args:
        folder: Where to.
        values: Of config.json, beside the format and the digests.
        write_files: Writes the files that config.json is to list into a folder.
        card: Text of README.md; a short one by default.

    Raises:
        CheckpointError: The folder cannot be written, or holds something that is no model.
    """
    with appearing_whole(folder) as new:
        try:
            write_files(new)
        except OSError:
            raise
        except Exception as error:  # tokenizers and safetensors hide the system's words in classes of their own
            raise OSError(str(error)) from None
        # Ours last: among the values are an encoder's own, whose keys may be any.
        whole: dict[str, Any] = {**values, "format": FORMAT, "version": VERSION}
        files = sorted(path for path in new.rglob("*") if path.is_file())
        whole["sha256"] = {path.relative_to(new).as_posix(): file_sha256(path) for path in files}
        whole["sha256"][CONFIG] = config_digest(whole)
        (new / CONFIG).write_text(json.dumps(whole, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        text = with_reported_scale(card or _short_card(values), _reported(values))
        (new / CARD).write_text(text, encoding="utf-8")
        # safetensors writes for its owner alone; the weights are as open as the rest of the folder.
        for path in new.glob("*.safetensors"):
            path.chmod((new / CONFIG).stat().st_mode)


def _short_card(values: Mapping[str, Any]) -> str:
    """What config.json itself tells, as a card."""
    entries = [entry["prompt"] for entry in values["prompts"]]
    return EssayModelCard("Essay scorer", {entry["id"]: ScoreRange(**entry["range"]) for entry in entries}).text()


def read_fitted(folder: Path) -> Fitted:
    """What config.json says of the one scorer in a folder, whose files are checked, but not opened.

    Args:
        folder: The model folder.

    Raises:
        CheckpointError: The folder is missing, damaged or something else.
    """
    values = read_config(folder, FORMAT)
    check_files(folder, values)
    with damage_named(folder):
        return Fitted.from_dict(values)


def set_calibration(
    folder: Path, rule: AskedRule, postprocessing: Postprocessing, intervals: Intervals, certainty: Certainty, card: str
) -> None:
    """Rewrite config.json and the card of a scorer's folder, file by file: what was learned otherwise stays.

    Args:
        folder: The model folder.
        rule: By which post-processing was fitted.
        postprocessing: From raw to score.
        intervals: Prediction intervals.
        certainty: Sets chances right.
        card: Text of README.md.

    Raises:
        CheckpointError: The folder holds no scorer.
        DataError: It cannot be written.
    """
    values = read_config(folder, FORMAT)
    values["model"]["postprocessing"] = rule
    values |= {
        "postprocessing": postprocessing.to_dict(),
        "intervals": intervals.to_dict(),
        "certainty": certainty.to_dict(),
    }
    values["sha256"][CONFIG] = config_digest(values)
    write_text(folder / CONFIG, json.dumps(values, indent=2, ensure_ascii=False) + "\n")
    write_text(folder / CARD, with_reported_scale(card, postprocessing.reported))


def _reported(values: Mapping[str, Any]) -> Mapping[str, ConversionTable]:
    """The tables of reported scores of a config.json."""
    return Postprocessing.from_dict(values["postprocessing"]).reported


def set_reported_scale(folder: Path, tables: Mapping[str, ConversionTable]) -> None:
    """Give the scorer or ensemble in a folder a reported scale; all else stays, in the card too.

    Args:
        folder: The model folder.
        tables: By prompt; none for no reported scale.

    Raises:
        CheckpointError: The folder holds no scorer or ensemble.
        DataError: It cannot be written.
    """
    values = read_config(folder, FORMAT, ENSEMBLE_FORMAT)
    with damage_named(folder):
        values["postprocessing"] = replace(
            Postprocessing.from_dict(values["postprocessing"]), reported=tables
        ).to_dict()
        values["sha256"][CONFIG] = config_digest(values)
    write_text(folder / CONFIG, json.dumps(values, indent=2, ensure_ascii=False) + "\n")
    card = (folder / CARD).read_text(encoding="utf-8") if (folder / CARD).is_file() else "# Essay scorer\n"
    write_text(folder / CARD, with_reported_scale(card, tables))


@contextmanager
def damage_named(folder: Path) -> Iterator[None]:
    """Turn whatever a block raises over the content of a folder's files into a CheckpointError that names the folder.

    Args:
        folder: The model folder that is read.
    """
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f"{folder}: {error}") from None
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError, ValidationError, AesDynlossError) as error:
        message = f"lacks {error}" if isinstance(error, KeyError) else first_line(error)
        raise CheckpointError(f"{folder / CONFIG} is damaged: {message}. Fetch the folder again.") from None


def read_arrays(path: Path) -> Arrays:
    """The arrays of a safetensors file.

    Args:
        path: The file.

    Raises:
        CheckpointError: It is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        arrays: Arrays = load_file(path)
    except (SafetensorError, OSError, TypeError, ValueError) as error:
        raise damaged(path, error) from None
    return arrays


def screen_arrays(screen: Screen) -> Arrays:
    """A screen's arrays under the names that they have in a model folder.

    Args:
        screen: What was learned of training essays' words.
    """
    return {_TEXT + name: np.ascontiguousarray(array) for name, array in screen.to_arrays().items()}


def write_training(training: TrainingEssays | None, scales: Sequence[PromptScale], folder: Path) -> None:
    """Write what a scorer knows of single training essays into its folder, if it knows something.

    Args:
        training: What it knows.
        scales: Its prompts.
        folder: The folder.
    """
    from safetensors.numpy import save_file

    if training is not None:
        save_file(training.to_arrays([scale.prompt.id for scale in scales]), folder / TRAINING)


def read_training(folder: Path, values: Mapping[str, Any], fitted: Fitted) -> TrainingEssays | None:
    """What :func:`write_training` wrote; None where there is nothing.

    Args:
        folder: The model folder.
        values: What its config.json says.
        fitted: The same, read.

    Raises:
        CheckpointError: The file is damaged.
    """
    if TRAINING not in values["sha256"]:
        return None
    path, scales = folder / TRAINING, [scale.prompt.id for scale in fitted.scales]
    try:
        return TrainingEssays.from_arrays(read_arrays(path), scales, fitted.config.feature_names)
    except (KeyError, TypeError, ValueError, AesDynlossError) as error:
        raise damaged(path, error) from None


def screen_from_arrays(arrays: Arrays) -> Screen:
    """From :func:`screen_arrays`; others are left alone."""
    return Screen.from_arrays(
        {name.removeprefix(_TEXT): array for name, array in arrays.items() if name.startswith(_TEXT)}
    )


def damaged(path: Path, error: Exception) -> CheckpointError:
    """The error to raise where a file's content does not fit together.

    Args:
        path: The file.
        error: What was noticed.
    """
    message = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
    return CheckpointError(f"{path.name} is damaged: {message}. Fetch the folder again.")


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


def model_folder(folder: str | Path) -> Path:
    """A model folder: the one that is given, or of the folder of a run the one in it.

    Args:
        folder: It need not exist.
    """
    folder = Path(folder)
    return folder / MODEL if not (folder / CONFIG).exists() and (folder / MODEL).is_dir() else folder


def read_config(folder: Path, *formats: str) -> dict[str, Any]:
    """What config.json of a model folder says.

    Args:
        folder: The folder.
        formats: What the folder may hold: FORMAT, ENSEMBLE_FORMAT.

    Raises:
        CheckpointError: The folder or the file is missing, damaged, or of another format or version.
    """
    if not folder.is_dir():
        raise CheckpointError(f"There is no model folder {folder}. Give a run of finetune, or its folder model/.")
    try:
        values = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{folder} has no {CONFIG}. Give a run of finetune, or its folder model/.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{folder / CONFIG} is damaged: {error}. Fetch the folder again.") from None
    kind = values.get("format") if isinstance(values, dict) else None
    if kind == ENSEMBLE_FORMAT and kind not in formats:
        raise CheckpointError(
            f"{folder} holds an ensemble, where a single scorer is expected. Give one of its members, such as "
            f"{folder / MEMBERS / '0'}, or open it by EssayScorer.from_pretrained."
        )
    if kind not in formats:
        expected = " or ".join(_KINDS[name] for name in formats)
        raise CheckpointError(
            f"{folder / CONFIG} is not that of {expected}. Give a run of finetune, or its folder model/."
        )
    if values.get("version") not in _READABLE:
        raise CheckpointError(
            f"{folder} has version {values.get('version')!r} of the format, this program reads "
            f"{' and '.join(map(str, _READABLE))}. Update aes-dynloss."
        )
    return dict(values)


def config_digest(values: dict[str, Any]) -> str:
    """SHA-256 of what config.json says beside this digest itself, however it is laid out."""
    digests = {name: digest for name, digest in values["sha256"].items() if name != CONFIG}
    return hashlib.sha256(json.dumps({**values, "sha256": digests}, sort_keys=True).encode()).hexdigest()


def check_files(folder: Path, values: dict[str, Any]) -> None:
    """Refuse files that are not those that were written together.

    Args:
        folder: A model folder.
        values: What its config.json says.

    Raises:
        CheckpointError: A file is missing, differs, or is not listed.
    """
    expected = values.get("sha256")
    if not isinstance(expected, dict) or not {WEIGHTS, CONFIG} <= expected.keys():
        raise CheckpointError(f"{folder / CONFIG} is damaged: it lacks the files' sha256. Fetch the folder again.")
    for name, digest in expected.items():
        path = listed_file(folder, name)
        if not path.is_file():
            raise CheckpointError(f"{folder} has no {name}. Give the folder model/ of a run, whole.")
        actual = config_digest(values) if name == CONFIG else file_sha256(path)
        if actual != digest:
            raise CheckpointError(
                f"{path} is not what was written: its sha256 is {actual[:12]}..., expected {str(digest)[:12]}... "
                "It is truncated, swapped or edited; fetch the folder again."
            )
    check_unlisted(folder, expected)


def listed_file(folder: Path, name: str) -> Path:
    """The path of a file that config.json lists.

    Args:
        folder: A model folder.
        name: The file's path in it, with slashes.

    Raises:
        CheckpointError: It leads out of the folder.
    """
    inner = Path(name)
    if inner.is_absolute() or ".." in inner.parts:
        raise CheckpointError(f"{folder / CONFIG} is damaged: it lists {name}, outside the folder. Fetch it again.")
    return folder / inner


def check_unlisted(folder: Path, listed: Collection[str], subfolders: Collection[str] = ()) -> None:
    """Refuse files that config.json does not list: transformers would read some of them, and scores would change.

    Args:
        folder: A model folder. Names that begin with a dot are nowhere read; neither are, at its top, a licence, a
            notice, Markdown, pictures and what tells where it comes from.
        listed: Paths of its files in it.
        subfolders: Folders in it that have lists of their own.

    Raises:
        CheckpointError: There is another file, or a link to a folder.
    """
    for parent, folders, files in os.walk(folder):
        inner = Path(parent).relative_to(folder)
        links = [name for name in folders if (Path(parent) / name).is_symlink()]
        for name in sorted([*files, *links]):
            path = inner / name
            for_people = name in files and path == Path(name) and (is_for_people(name) or name == PROVENANCE)
            if str(path) not in listed and not name.startswith(".") and not for_people:
                raise CheckpointError(
                    f"{folder / path} is not among the files that {folder / CONFIG} lists, so the folder is not "
                    "opened. Move that file elsewhere, or fetch the folder again."
                )
        folders[:] = [name for name in folders if not name.startswith(".") and str(inner / name) not in subfolders]


def is_for_people(name: str) -> bool:
    """Whether a file at the top of a model folder is read by no program: a licence, a notice, Markdown or a picture.

    Args:
        name: The file's.
    """
    return any(fnmatchcase(name.lower(), pattern) for pattern in _FOR_PEOPLE)


def _scale(entry: dict[str, Any]) -> PromptScale:
    values = entry["prompt"]
    trait = values.get("trait")  # not there before essays could have traits
    levels = {str(point): str(words) for point, words in values.get("levels", {}).items()}
    prompt = Prompt(str(values["id"]), ScoreRange(**values["range"]), values["text"], trait, levels)
    if trait is not None and not (isinstance(trait, str) and prompt.id.endswith(f"{SEPARATOR}{trait}")):
        raise CheckpointError(f"{CONFIG}: the trait {trait!r} is none of the prompt {prompt.id}.")
    numbers = {name: float(entry[name]) for name in ("mean", "sd", "length_mean", "length_sd")}
    scale = PromptScale(prompt, shares=tuple(float(share) for share in entry["shares"]), **numbers)
    if len(scale.shares) != prompt.range.count or scale.sd <= 0 or scale.length_sd <= 0:
        raise CheckpointError(f"{CONFIG}: the statistics of prompt {prompt.id} do not fit its range.")
    return scale
