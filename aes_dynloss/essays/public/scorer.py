"""One scorer for every kind of model folder, asked in Python as the commands and the service ask it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pandas as pd

from aes_dynloss.configfile import validate
from aes_dynloss.errors import CheckpointError, DataError
from aes_dynloss.essays.data.readers import UnscoredEssay, essays_to_score
from aes_dynloss.essays.ensembles.ensemble import needs_torch, open_scorer
from aes_dynloss.essays.explaining.explanation import Explanation, explain_essays
from aes_dynloss.essays.model.model_folder import CONFIG
from aes_dynloss.essays.model.protocol import Scorer, check_lengths, known_prompts
from aes_dynloss.essays.model.sharing import COMMIT_MESSAGE, copy_model, locate_model, push_to_hub
from aes_dynloss.essays.public.essay_scores import EssayScores
from aes_dynloss.essays.scoring.score import score_essays, warn_unless_screened
from aes_dynloss.essays.screening.kinds import Action, Policy
from aes_dynloss.measures.intervals import COVERAGE
from aes_dynloss.tables.atomic import file_sha256
from aes_dynloss.tables.frames import held_frame

if TYPE_CHECKING:
    from accelerate import Accelerator

logger = logging.getLogger(__name__)

Essays = Iterable[str] | pd.DataFrame
Features = pd.DataFrame | Sequence[Mapping[str, float]]


class EssayScorer:
    """Scores essays, and says why, with a model of any kind or an ensemble, as ``aes-dynloss score`` does.

    Example:
        >>> scorer = EssayScorer.from_pretrained("quickstart-run")  # doctest: +SKIP
        >>> scores = scorer.score(["Dear head teacher, ..."], "phones")  # doctest: +SKIP
        >>> scores.score, scores.low, scores.high, scores.advisories  # doctest: +SKIP
        (array([2.]), array([1.]), array([3.]), [['too_short']])
        >>> EssayScorer.from_pretrained("runs/none/model")
        Traceback (most recent call last):
        aes_dynloss.errors.CheckpointError: There is no model folder runs/none/model. Give a run of finetune, or its
        folder model/.

    Args:
        model: What computes the scores.
        folder: Where it was opened; None: it lies nowhere yet.
    """

    def __init__(self, model: Scorer, folder: Path | None = None) -> None:
        self.model = model
        self.folder = folder
        self._config_sha256 = _config_sha256(folder)

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        revision: str | None = None,
        token: str | None = None,
        cpu: bool = False,
        accelerator: Accelerator | None = None,
    ) -> EssayScorer:
        """Open a model of any kind; torch is loaded where one has an encoder.

        Args:
            source: A run, its folder ``model/``, an ensemble, a zip of one, or OWNER/NAME on the Hugging Face hub.
            revision: Branch, tag or commit on the hub; without it, what is here goes before what is on the hub.
            token: Who asks the hub; by default whoever is logged in.
            cpu: Keep a GPU out of it.
            accelerator: Devices and processes; by default what Accelerate finds.

        Raises:
            CheckpointError: The model is missing, damaged or something else, or two revisions are given.
        """
        folder = locate_model(source, revision, token=token)
        if accelerator is None and needs_torch(folder):
            from aes_dynloss.training.accelerator import plain_accelerator

            accelerator = plain_accelerator(cpu=cpu)
        model = open_scorer(folder, accelerator)
        warn_unless_screened(model)
        return cls(model, folder)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a model folder that :meth:`from_pretrained` opens, with its card; a model there is replaced as a whole.

        Args:
            folder: Where to.

        Raises:
            CheckpointError: The folder cannot be written, or holds something that is no model; or the model was
                replaced or calibrated since it was opened.
        """
        self._check_unchanged()
        if self.folder is None:
            self.model.save_pretrained(folder)
        else:
            copy_model(self.folder, Path(folder))

    def push_to_hub(
        self,
        repo_id: str,
        *,
        revision: str | None = None,
        private: bool | None = None,
        token: str | None = None,
        commit_message: str = COMMIT_MESSAGE,
    ) -> str:
        """Push the model and its card to the Hugging Face hub; the repository is made if it is not there.

        Args:
            repo_id: OWNER/NAME, or a name of one's own.
            revision: The branch to push to; by default ``main``.
            private: Whether a new repository is private; by default as the owner has set it.
            token: Who pushes; by default whoever is logged in.
            commit_message: Of the commit.

        Returns:
            Address of the commit.

        Raises:
            CheckpointError: The hub does not take it, or the model was replaced or calibrated since it was opened.
        """
        self._check_unchanged()
        with TemporaryDirectory() as place:
            folder = self.folder
            if folder is None:
                folder = Path(place) / "model"
                self.save_pretrained(folder)
            return push_to_hub(
                folder, repo_id, revision=revision, private=private, token=token, commit_message=commit_message
            )

    def _check_unchanged(self) -> None:
        """Refuse to pass on another model than the one that scores."""
        if _config_sha256(self.folder) != self._config_sha256:
            raise CheckpointError(
                f"{self.folder} is not what was opened: its model was replaced, calibrated or removed since. Open it "
                "again."
            )

    @property
    def prompts(self) -> list[str]:
        """The ids of the prompts that can be scored."""
        return known_prompts(self.model)

    def __repr__(self) -> str:
        """What it scores."""
        return f"{type(self).__name__}(prompts: {', '.join(self.prompts)})"

    def score(
        self,
        essays: Essays,
        prompt_ids: str | Sequence[str] | None = None,
        *,
        features: Features | None = None,
        columns: Mapping[str, str] | None = None,
        policy: Policy | Mapping[str, Action] | None = None,
        coverage: float = COVERAGE,
        probabilities: bool = False,
        progress: bool = False,
    ) -> EssayScores:
        """Score essays, with prediction intervals and advisories.

        Args:
            essays: N texts, in a list or a Series; or a DataFrame with a column of texts, whose columns are found as
                ``aes-dynloss score`` finds those of a file.
            prompt_ids: The prompt that each essay answers, N ids, or one for all; may be left out where the model
                knows one prompt, or the DataFrame has a column of prompts.
            features: The numeric columns of each essay that the model needs beside the text, if it needs some; a
                DataFrame of essays has them itself.
            columns: The DataFrame's columns, by ``text``, ``essay_id`` and ``prompt_id``, where they have other names.
            policy: What follows from each kind of advisory: ``advise``, ``withhold`` or ``off``; kinds that are not
                named keep their default. ``aes-dynloss score --list`` shows them.
            coverage: Fraction of essays whose human score lies between low and high, between 0 and 1.
            probabilities: Whether the probability of each score point is given, if the head provides it.
            progress: Whether a progress bar shows on standard error.

        Returns:
            Scores in the order of the essays. A withheld one is NaN.

        Raises:
            ConfigError: The coverage, the policy or the names of columns are not valid.
            DataError: A prompt is unknown or missing, a column is missing, or an essay is no text.
        """
        with self._stream(essays, prompt_ids, features, columns or {}) as stream:
            windows = [
                *score_essays(
                    self.model,
                    stream,
                    policy=_policy(policy),
                    coverage=coverage,
                    probabilities=probabilities,
                    progress="score essays" if progress else None,
                )
            ]
        labels = essays.index if isinstance(essays, pd.DataFrame | pd.Series) else None
        return EssayScores.of(self.model, windows, labels)

    def explain(
        self,
        essays: Essays,
        prompt_ids: str | Sequence[str] | None = None,
        *,
        features: Features | None = None,
        columns: Mapping[str, str] | None = None,
        policy: Policy | Mapping[str, Action] | None = None,
        **options: Any,  # noqa: ANN401 - those of explain_essays
    ) -> list[Explanation]:
        """Explain scores: what each sentence and each group of features adds; takes several times as long as scoring.

        Args:
            essays: As :meth:`score` takes them, like all that is named there.
            prompt_ids: See there.
            features: See there.
            columns: See there.
            policy: See there.
            options: ``exact``, ``traits``, ``coverage``, ``language``, ``dialect`` and ``nearest`` of
                :func:`aes_dynloss.essays.explaining.explanation.explain_essays`.

        Returns:
            Explanations in the order of the essays.

        Raises:
            ConfigError: An option is not valid, or needs a package that is not installed.
            DataError: See :meth:`score`; or a trait is unknown.
        """
        with self._stream(essays, prompt_ids, features, columns or {}) as stream:
            return [*explain_essays(self.model, stream, policy=_policy(policy), **options)]

    @contextmanager
    def _stream(
        self,
        essays: Essays,
        prompt_ids: str | Sequence[str] | None,
        features: Features | None,
        columns: Mapping[str, str],
    ) -> Iterator[Iterator[UnscoredEssay]]:
        """The essays as rows of a table, as the commands read them."""
        prompt = prompt_ids if isinstance(prompt_ids, str) else None
        frame = essay_frame(
            essays, None if prompt is not None else prompt_ids, features, columns.get("prompt_id", "prompt_id")
        )
        if not len(frame):
            yield iter(())
            return
        with held_frame(frame) as source:
            yield essays_to_score([source], columns, say=logger.info, prompt=prompt, features=self.model.own_features)


def _config_sha256(folder: Path | None) -> str | None:
    """Digest of config.json, which holds those of a model's other files."""
    return file_sha256(folder / CONFIG) if folder is not None and (folder / CONFIG).is_file() else None


def _policy(policy: Policy | Mapping[str, Action] | None) -> Policy:
    return policy if isinstance(policy, Policy) else validate(Policy, policy or {}, "The policy of advisories")


def essay_frame(
    essays: Essays,
    prompt_ids: Sequence[str] | None = None,
    features: Features | None = None,
    prompt_column: str = "prompt_id",
) -> pd.DataFrame:
    """Essays with what is known of each, a row an essay; texts alone get numbers from 1 as ids.

    Args:
        essays: N texts, or a DataFrame.
        prompt_ids: The prompt of each, if the DataFrame does not say it.
        features: Numeric columns, if the DataFrame has none.
        prompt_column: The DataFrame's column of prompts, if it has one.

    Raises:
        DataError: It is one text, lengths differ, or prompts or a column are given twice.
    """
    if isinstance(essays, pd.DataFrame):
        table = essays.reset_index(drop=True)
    elif isinstance(essays, str):
        raise DataError("Expected a list of essays, found one text. Put it in a list: [text].")
    else:
        texts = list(essays)
        ids = [str(number) for number in range(1, len(texts) + 1)]
        table = pd.DataFrame({"essay_id": ids, "text": pd.Series(texts, dtype=object)})
    if prompt_ids is not None:
        if prompt_column in table:
            raise DataError(
                f"The DataFrame has a column {prompt_column!r}, and prompt_ids are given. Give one of the two."
            )
        answered = list(prompt_ids)
        check_lengths(table.index.tolist(), answered)
        table = table.assign(prompt_id=answered)
    if features is not None:
        numbers = pd.DataFrame(features).reset_index(drop=True)
        if len(numbers) != len(table):
            raise DataError(f"Expected features of {len(table)} essays, found those of {len(numbers)}.")
        known = [str(name) for name in numbers if str(name) in table]
        if known:
            raise DataError(
                f"features names {', '.join(known)}, which the essays have already. Leave it out, or rename it."
            )
        table = table.assign(**{str(name): numbers[name] for name in numbers})
    return table
