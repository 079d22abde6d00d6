"""Ensembles of fine-tuned scorers, and their folders: the mean of the members' raw scores, or a weighted mean.

A folder holds config.json, a card, and the members as whole model folders, whose digests config.json lists.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aes_dynloss.errors import AesDynlossError, CheckpointError, ConfigError
from aes_dynloss.essays.data.essay_table import Prompt
from aes_dynloss.essays.ensembles.card import ensemble_card
from aes_dynloss.essays.model.card import with_reported_scale
from aes_dynloss.essays.model.classical_scorer import ClassicalScorer
from aes_dynloss.essays.model.model_folder import (
    CARD,
    CONFIG,
    ENSEMBLE_FORMAT,
    FORMAT,
    MEMBERS,
    VERSION,
    appearing_whole,
    check_unlisted,
    config_digest,
    listed_file,
    read_config,
)
from aes_dynloss.essays.model.prompt_scales import Postprocessing
from aes_dynloss.essays.model.protocol import Scorer, Scores, answered_prompts, check_essays, finished_scores
from aes_dynloss.essays.model.sharing import locate_model
from aes_dynloss.essays.model.trait_rows import asks_for_traits, scored_on_traits
from aes_dynloss.essays.screening.screen import Screen
from aes_dynloss.measures.intervals import Certainty, Intervals
from aes_dynloss.tables.atomic import file_sha256, write_text

if TYPE_CHECKING:
    from accelerate import Accelerator

DEV = "dev essays"
# What an ensemble of cross-fitted runs has in its folder beside the model.
FIGURES = (
    *("predictions_test.csv", "predictions_inner.csv", "manifest.json"),
    *("report.json", "report.csv", "report.html"),
)


@dataclass(frozen=True)
class Member:
    """One scorer of an ensemble, as it was opened.

    Args:
        scorer: The scorer; its own postprocessing plays no part in the ensemble.
        folder: Its model folder.
        sha256: Digest of its config.json, which holds those of its other files.
    """

    scorer: Scorer
    folder: Path
    sha256: str


class EssayEnsemble:
    """Scores essays with several models: raw is the weighted mean of the members' raw scores.

        raw = sum_m w_pm raw_m, on the original scale; score is raw after the ensemble's own postprocessing

    The weights w_pm of a prompt p are non-negative, with the sum 1: 1 / M each, or fitted by
    :func:`~aes_dynloss.measures.stacking.fit_weights` on essays that no member has learned from (stacking).

    It knows the prompts that all members know on one score range.

    Example:
        >>> ensemble = EssayEnsemble.from_members(["runs/seed_1/model", "runs/seed_2/model"])  # doctest: +SKIP
        >>> ensemble.save_pretrained("runs/both")  # doctest: +SKIP
        >>> ensemble.score(["Dear editor, ..."], prompt_ids=["1"]).score  # doctest: +SKIP

    Args:
        members: M scorers, two or more; their order does not matter.
        postprocessing: From raw to score; by default rounding.
        intervals: Prediction intervals around the mean, fitted on essays that are new to all members; by default none.
        certainty: Sets chances right, and knows how sure it is of such essays; by default of none.
        weights: The members' weights, M numbers, by prompt; equal ones for prompts that are not there.
        fitted_on: On which of the runs' predictions weights and postprocessing were fitted, in words.
        calibrated: When and on what ``aes-dynloss calibrate`` has fitted another postprocessing since.

    Raises:
        ConfigError: There are fewer than two members, or no prompt that all know on one range; or weights are not one
            a member, >= 0 and of sum 1, for such prompts.

    References:
        Perrone and Cooper (1993), When networks disagree: ensemble methods for hybrid neural networks (basic ensemble).
        Wolpert (1992), Stacked generalization, Neural Networks 5(2). Breiman (1996), Stacked regressions, Machine
        Learning 24(1): non-negative weights.
    """

    def __init__(
        self,
        members: Sequence[Member],
        postprocessing: Postprocessing | None = None,
        intervals: Intervals | None = None,
        certainty: Certainty | None = None,
        weights: Mapping[str, Sequence[float]] | None = None,
        fitted_on: str = DEV,
        calibrated: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        if len(members) < 2:
            raise ConfigError(
                f"An ensemble needs two members or more, found {len(members)}. Name another run, or score with the "
                "one model itself."
            )
        self.members = list(members)
        self.postprocessing = postprocessing or Postprocessing()
        self.intervals = intervals or Intervals({})
        self.certainty = certainty or Certainty({})
        self.prompts, self.notes = _common_prompts(self.members)
        self.weights = _checked_weights(weights or {}, self.prompts, len(members))
        self.fitted_on = fitted_on
        self.calibrated = [{**record, "fitted_on": str(record["fitted_on"])} for record in calibrated]

    @classmethod
    def from_members(cls, folders: Sequence[str | Path], *, accelerator: Accelerator | None = None) -> EssayEnsemble:
        """Open model folders as one ensemble, whose scores are rounded until it is given another postprocessing.

        Args:
            folders: Two runs or more, or their folders ``model/``.
            accelerator: Devices and precision; by default what Accelerate finds.

        Raises:
            CheckpointError: A folder is missing, damaged or something else.
            ConfigError: They make no ensemble.
        """
        found = list(map(locate_model, folders))
        opened = zip(found, _open_members(found, accelerator), strict=True)
        return cls([Member(scorer, folder.resolve(), file_sha256(folder / CONFIG)) for folder, scorer in opened])

    @classmethod
    def from_pretrained(cls, folder: str | Path, *, accelerator: Accelerator | None = None) -> EssayEnsemble:
        """Open an ensemble that :meth:`save_pretrained` or ``aes-dynloss ensemble`` wrote.

        Args:
            folder: Its folder.
            accelerator: Devices and precision; by default what Accelerate finds.

        Raises:
            CheckpointError: It is missing, damaged or something else, or a member is not the one that was stored.
        """
        folder = locate_model(folder)
        values = read_config(folder, ENSEMBLE_FORMAT)
        try:
            is_whole = values["sha256"][CONFIG] == config_digest(values)
            digests = [str(digest) for digest in values["members"]]
            postprocessing = Postprocessing.from_dict(values["postprocessing"])
            intervals = Intervals.from_dict(values.get("intervals", {}))
            certainty = Certainty.from_dict(values.get("certainty", {}))
            # Folders of earlier versions lack these.
            weights = {prompt: [float(one) for one in each] for prompt, each in values.get("weights", {}).items()}
            fitted_on, calibrated = str(values.get("fitted_on", DEV)), list(values.get("calibrated", []))
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError, AesDynlossError) as error:
            message = f"lacks {error}" if isinstance(error, KeyError) else str(error).splitlines()[0]
            raise CheckpointError(f"{folder / CONFIG} is damaged: {message}. Fetch the folder again.") from None
        if not is_whole:
            raise CheckpointError(
                f"{folder / CONFIG} is not what was written: its sha256 is another. It was edited; fetch the folder "
                "again."
            )
        paths = [folder / MEMBERS / str(number) for number in range(len(digests))]
        for path, digest in zip(paths, digests, strict=True):  # all of them, before the first is opened
            _check_member(path, digest)
        check_unlisted(folder, {CONFIG, *FIGURES}, {str(path.relative_to(folder)) for path in paths})
        members = [
            Member(scorer, path.resolve(), digest)
            for path, digest, scorer in zip(paths, digests, _open_members(paths, accelerator), strict=True)
        ]
        try:
            return cls(members, postprocessing, intervals, certainty, weights, fitted_on, calibrated)
        except (AesDynlossError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{folder} is damaged: {error}") from None

    @property
    def screen(self) -> Screen | None:
        """What the first member that has learned such a thing knows of training essays' words."""
        return next((member.scorer.screen for member in self.members if member.scorer.screen is not None), None)

    @property
    def capped(self) -> bool:
        """Whether any member reads only so many tokens of an essay."""
        return any(member.scorer.capped for member in self.members)

    @property
    def own_features(self) -> tuple[str, ...]:
        """Numeric columns that any member needs beside the text."""
        return tuple(dict.fromkeys(name for member in self.members for name in member.scorer.own_features))

    @property
    def sources(self) -> list[str]:
        """The prompts that taught any member."""
        return list(dict.fromkeys(name for member in self.members for name in member.scorer.sources))

    def score(
        self,
        texts: Sequence[str],
        prompt_ids: Sequence[str] | None = None,
        *,
        features: Sequence[Mapping[str, float]] | None = None,
        progress: str | None = None,
        tokens: int = 32768,
    ) -> Scores:
        """Score essays with every member.

        Args:
            texts: N essays.
            prompt_ids: The prompt that each answers, N ids; may be left out where there is one prompt.
            features: The numeric columns of each that :attr:`own_features` names, where there are any.
            progress: Words beside a progress bar a member on standard error; None for none.
            tokens: Padded tokens a forward pass, at most.

        Returns:
            Scores; ``tokens`` and ``dropped_tokens`` are the most that any member counts, should they differ,
            ``probabilities`` the members' weighted means, ``ood_distance`` that of the members that know.

        Raises:
            DataError: A prompt is unknown, a column is missing, or the lengths differ.
        """
        prompt_ids = answered_prompts(self, texts, prompt_ids)
        if asks_for_traits(self, prompt_ids):
            return scored_on_traits(self, texts, prompt_ids, features=features, progress=progress, tokens=tokens)
        check_essays(texts, prompt_ids, self)
        answers = []
        for number, member in enumerate(self.members, start=1):
            label = None if progress is None else f"{progress}, member {number} of {len(self.members)}"
            answers.append(member.scorer.score(texts, prompt_ids, features=features, progress=label, tokens=tokens))
        raw = self.combine(np.column_stack([answer.raw for answer in answers]), prompt_ids)
        counts = np.max([(answer.tokens, answer.dropped_tokens) for answer in answers], axis=0)
        weights = _weights_by_essay(prompt_ids, self.weights, len(self.members))
        probabilities = _mean_probabilities([answer.probabilities for answer in answers], weights)
        distances = np.stack([answer.ood_distance for answer in answers])
        with np.errstate(invalid="ignore"):  # 0 / 0 where no member knows
            ood_distance = np.nansum(distances, axis=0) / np.sum(~np.isnan(distances), axis=0)
        # By errors whatever the heads say: it is these that dev's files, which hold raw scores alone, can set right.
        return finished_scores(
            self,
            prompt_ids,
            raw,
            counts[0],
            dropped_tokens=counts[1],
            probabilities=probabilities,
            ood_distance=ood_distance,
            by_errors=True,
        )

    def combine(self, raw: NDArray[np.float64], prompt_ids: Sequence[str]) -> NDArray[np.float64]:
        """The ensemble's raw predictions, (N,), from those of its M members, (N, M)."""
        return weighted_mean(raw, prompt_ids, self.weights)

    def save_pretrained(
        self, folder: str | Path, card: str | None = None, figures: Callable[[Path], None] | None = None
    ) -> None:
        """Write an ensemble's folder with copies of the members; it appears whole or not at all, in place of a model.

        The members are copied from their own folders. A file that several have, such as a tokenizer, or the weights of
        a model that is there twice, takes its room on the disk once where the file system can do that.

        Args:
            folder: Where to.
            card: Text of its README.md; a short one by default.
            figures: Writes files of FIGURES into the folder.

        Raises:
            CheckpointError: The folder cannot be written, or holds something that is no model; or a member's folder is
                no longer what was opened.
        """
        with appearing_whole(Path(folder)) as new:
            stored: dict[str, Path] = {}
            for number, member in enumerate(self.members):
                _store_member(member, new / MEMBERS / str(number), stored)
            if figures is not None:
                figures(new)
            self.write_description(new, card)

    def write_description(self, folder: Path, card: str | None = None) -> None:
        """Write config.json and the card, file by file, into a folder that holds the members.

        Args:
            folder: The ensemble's; of a report that is there the card tells.
            card: Text of its README.md; a short one by default.
        """
        values: dict[str, Any] = {
            "format": ENSEMBLE_FORMAT,
            "version": VERSION,
            "members": [member.sha256 for member in self.members],
            "postprocessing": self.postprocessing.to_dict(),
            "intervals": self.intervals.to_dict(),
            "certainty": self.certainty.to_dict(),
            "weights": self.weights,
            "fitted_on": self.fitted_on,
            **({"calibrated": self.calibrated} if self.calibrated else {}),
            "sha256": {},
        }
        values["sha256"][CONFIG] = config_digest(values)
        write_text(folder / CONFIG, json.dumps(values, indent=2, ensure_ascii=False) + "\n")
        fitted_on = self.calibrated[-1]["fitted_on"] if self.calibrated else self.fitted_on
        if card is None:
            from aes_dynloss.reports.prompts import read_report
            from aes_dynloss.reports.report_files import REPORT

            members = [member.folder for member in self.members]
            report = read_report(folder / REPORT) if (folder / REPORT).is_file() else None
            rule = self.postprocessing.kind
            card = ensemble_card(self.prompts, members, self.weights, self.fitted_on, rule, fitted_on, report)
        write_text(folder / CARD, with_reported_scale(card, self.postprocessing.reported))


def weighted_mean(
    raw: NDArray[np.float64], prompt_ids: Sequence[str], weights: Mapping[str, Sequence[float]]
) -> NDArray[np.float64]:
    """Means over M members' predictions, (N,), from (N, M).

    Args:
        raw: Predictions, (N, M).
        prompt_ids: Prompt of each of N essays.
        weights: M weights by prompt; equal ones for prompts that are not there.
    """
    return np.asarray(np.average(raw, axis=1, weights=_weights_by_essay(prompt_ids, weights, raw.shape[1])))


def _weights_by_essay(
    prompt_ids: Sequence[str], weights: Mapping[str, Sequence[float]], members: int
) -> NDArray[np.float64]:
    """The members' weights for each essay, (N, M), up to a factor: equal ones are 1, and their mean is exact."""
    by_essay = np.ones((len(prompt_ids), members))
    answered = np.array(prompt_ids, dtype=object)
    for prompt, each in weights.items():
        by_essay[answered == prompt] = each
    return by_essay


def _mean_probabilities(
    each: Sequence[NDArray[np.float64] | None], weights: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    """The mean by weights (N, M), (N, P); None unless all give probabilities. Some may know more score points."""
    known = [one for one in each if one is not None]
    if len(known) < len(each):
        return None
    mean = np.zeros((len(known[0]), max(one.shape[1] for one in known)))
    for one, weight in zip(known, (weights / weights.sum(axis=1, keepdims=True)).T, strict=True):
        mean[:, : one.shape[1]] += weight[:, None] * one
    return mean


def open_scorer(folder: str | Path, accelerator: Accelerator | None = None) -> Scorer:
    """Open what scores essays, one model or an ensemble, as the folder's config.json says.

    Args:
        folder: The folder of a run, its ``model/``, or a folder that ``aes-dynloss ensemble`` wrote.
        accelerator: Devices and precision; by default what Accelerate finds.

    Raises:
        CheckpointError: The folder is missing, damaged or something else.

    Examples:
        >>> scorer = open_scorer("runs/first/model")  # doctest: +SKIP
        >>> scorer.score(["Dear editor, ..."], prompt_ids=["1"]).score  # doctest: +SKIP
        >>> open_scorer("runs/nowhere/model")
        Traceback (most recent call last):
        aes_dynloss.errors.CheckpointError: There is no model folder runs/nowhere/model. Give a run of
        finetune, or its folder model/.
    """
    folder = locate_model(folder)
    if read_config(folder, FORMAT, ENSEMBLE_FORMAT)["format"] == ENSEMBLE_FORMAT:
        return EssayEnsemble.from_pretrained(folder, accelerator=accelerator)
    return _open_members([folder], accelerator)[0]


def needs_torch(folder: Path) -> bool:
    """Whether what a folder holds, or a member of it, has an encoder.

    Args:
        folder: As :func:`open_scorer` takes it.

    Raises:
        CheckpointError: The folder is missing, damaged or something else.
    """
    folder = locate_model(folder)
    values = read_config(folder, FORMAT, ENSEMBLE_FORMAT)
    if values["format"] == FORMAT:
        return _has_encoder(values)
    members = sorted((folder / MEMBERS).glob("[!.]*"))
    return any(_has_encoder(read_config(member, FORMAT)) for member in members)


def _has_encoder(values: dict[str, Any]) -> bool:
    model = values.get("model")
    return not isinstance(model, dict) or model.get("kind", "encoder") == "encoder"


def _open_members(folders: Sequence[Path], accelerator: Accelerator | None) -> list[Scorer]:
    """Open single models; torch is imported only where one has an encoder."""
    scorers: list[Scorer] = []
    for folder in folders:
        if _has_encoder(read_config(folder, FORMAT)):
            from accelerate import Accelerator as Devices

            from aes_dynloss.essays.model.scorer import EncoderScorer

            accelerator = accelerator or Devices()
            scorers.append(EncoderScorer.from_pretrained(folder, accelerator=accelerator))
        else:
            scorers.append(ClassicalScorer.from_pretrained(folder))
    return scorers


def _common_prompts(members: Sequence[Member]) -> tuple[dict[str, Prompt], list[str]]:
    """The prompts that all members know on one range, in the first one's order, and notes on the others."""
    known: dict[str, list[Prompt]] = {}
    for member in members:
        for prompt in member.scorer.prompts.values():
            known.setdefault(prompt.id, []).append(prompt)
    common, left_out, notes = {}, [], []
    for name, prompts in known.items():
        ranges = dict.fromkeys(prompt.range for prompt in prompts)
        texts = dict.fromkeys(prompt.text for prompt in prompts if prompt.text is not None)
        if len(prompts) < len(members):
            left_out.append(f"{name} (known to {len(prompts)} of {len(members)} members)")
        elif len(ranges) > 1:
            left_out.append(f"{name} (its range is {' and '.join(map(str, ranges))})")
        else:
            common[name] = replace(prompts[0], text=next(iter(texts), None))
            if len(texts) > 1:
                notes.append(f"The members hold different texts of prompt {name}. Look whether it is the same prompt.")
    if not common:
        raise ConfigError(
            f"No prompt is known to all members on one score range: {', '.join(left_out)}. Name runs that were "
            "trained on the same prompts."
        )
    if left_out:
        notes.insert(0, f"The ensemble cannot score prompts that not all members know alike: {', '.join(left_out)}.")
    return common, notes


def _checked_weights(
    weights: Mapping[str, Sequence[float]], prompts: Mapping[str, Prompt], members: int
) -> dict[str, tuple[float, ...]]:
    """Weights by prompt, or a refusal."""
    for prompt, each in weights.items():
        whole = prompt in prompts and len(each) == members
        if not (whole and min(each) >= 0 and abs(sum(each) - 1) < 1e-6):
            raise ConfigError(
                f"Weights of prompt {prompt}: expected one for each of the {members} members, >= 0 and of sum 1, of a "
                f"prompt that all know; found {', '.join(map(str, each))}."
            )
    return {prompt: tuple(each) for prompt, each in weights.items()}


def _check_member(folder: Path, digest: str) -> None:
    """Refuse another member than the one that was stored here."""
    config = folder / CONFIG
    if not config.is_file():
        raise CheckpointError(f"The ensemble lacks its member {folder}. Fetch its folder again, whole.")
    actual = file_sha256(config)
    if actual != digest:
        raise CheckpointError(
            f"{folder} is not the member that was stored there: the sha256 of its {CONFIG} is {actual[:12]}..., "
            f"expected {digest[:12]}... It was swapped or edited; fetch the folder again."
        )


def _store_member(member: Member, folder: Path, stored: dict[str, Path]) -> None:
    """Copy a member's files into a folder, and note them in ``stored``: the ensemble's files by digest."""
    folder.mkdir(parents=True)
    _copy(member.folder / CONFIG, folder / CONFIG, member.sha256, stored)
    digests: dict[str, str] = read_config(folder, FORMAT)["sha256"]
    for name in sorted(digests.keys() - {CONFIG}):
        target = listed_file(folder, name)
        target.parent.mkdir(exist_ok=True)
        _copy(listed_file(member.folder, name), target, digests[name], stored)
    if (member.folder / CARD).is_file():
        shutil.copyfile(member.folder / CARD, folder / CARD)


def _copy(source: Path, target: Path, digest: str, stored: dict[str, Path]) -> None:
    """Copy a file of a known digest, or link to where it is already."""
    if digest in stored:
        with suppress(OSError):  # the file system has no hard links
            os.link(stored[digest], target)
            return
    if source.is_file():
        shutil.copyfile(source, target)
    if not target.is_file() or file_sha256(target) != digest:
        raise CheckpointError(f"{source} is not what was opened: it has changed since. Make the ensemble again.")
    stored[digest] = target
