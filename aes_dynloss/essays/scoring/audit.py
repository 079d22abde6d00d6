"""What an audit log says of scored essays: a line an essay, without its text."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from aes_dynloss.essays.data.readers import UnscoredEssay
from aes_dynloss.essays.model.model_folder import CONFIG
from aes_dynloss.essays.scoring.score import ScoredWindow
from aes_dynloss.essays.screening.kinds import Policy
from aes_dynloss.tables.atomic import file_sha256
from aes_dynloss.tables.audit_log import AuditLog
from aes_dynloss.tables.columns import TRAIT_COLUMN
from aes_dynloss.versions import package_version

Entry = dict[str, Any]

# Columns that stand beside the scores.
_BESIDE = ("essay_id", "prompt_id", "withheld", "advisories", "reasons", TRAIT_COLUMN)


class ScoreAudit:
    """One run's lines in an audit log. A run that is resumed adds those that it has not added yet.

    Args:
        log: The log.
        model: SHA-256 of the model.
        policy: What follows from advisories.
        run: Name of the run; None for a new one.
    """

    def __init__(self, log: AuditLog, model: str, policy: Policy, run: str | None = None) -> None:
        self.log = log
        self._policy = policy
        self._known = {
            "run": uuid.uuid4().hex if run is None else run,
            "version": package_version("aes-dynloss"),
            "model": model,
            "policy": policy.model_dump(),
        }
        self._logged = 0 if run is None else log.count("run", run)
        self._told = 0

    @property
    def run(self) -> str:
        """Name of the run."""
        return str(self._known["run"])

    def of_run(self, run: str) -> ScoreAudit:
        """The audit of an earlier run by the same model, which is gone on with.

        Args:
            run: Its name.

        Raises:
            DataError: The log was changed or cannot be written.
        """
        return ScoreAudit(self.log, str(self._known["model"]), self._policy, run)

    @classmethod
    def into(cls, path: Path | None, model: Path, policy: Policy, digest: str | None = None) -> ScoreAudit | None:
        """A new run's audit, where one is wanted and the log can be added to.

        Args:
            path: The log; None where none is wanted.
            model: The model's folder.
            policy: What follows from advisories.
            digest: SHA-256 of the model, if it is not that of its folder.

        Raises:
            DataError: The log was changed or cannot be written.
        """
        if path is None:
            return None
        log = AuditLog(path)
        log.check()
        return cls(log, file_sha256(model / CONFIG) if digest is None else digest, policy)

    def resumed(self, parts: Iterable[Sequence[Entry]]) -> ScoreAudit:
        """The audit of a run that is gone on with; what it saved and did not log yet is logged.

        Args:
            parts: The entries that the run saved, window by window; none where it begins.

        Raises:
            DataError: The log was changed or cannot be written.
        """
        audit = self
        for entries in parts:
            if audit is self and entries:
                audit = self.of_run(entries[0]["run"])
            audit.tell(entries)
        return audit

    def entries(self, window: ScoredWindow) -> list[Entry]:
        """The entries of some essays, one an essay.

        Args:
            window: Essays and scores.
        """
        prompt_ids, scores = window.by_essay("prompt_id"), _scores(window)
        withheld, advisories = window.by_essay("withheld", default=False), window.by_essay("advisories", default=[])
        return [
            self.entry("score", essay._replace(prompt_id=prompt), *rest)
            for essay, prompt, *rest in zip(window.essays, prompt_ids, scores, withheld, advisories, strict=True)
        ]

    def entry(
        self,
        event: str,
        essay: UnscoredEssay,
        scores: Mapping[str, Any],
        withheld: bool,
        advisories: Sequence[str],
    ) -> Entry:
        """The entry of an essay.

        Args:
            event: What was done, such as ``score``.
            essay: The essay, of which the log says ids and the text's hash.
            scores: What was told, plain values.
            withheld: Whether its score is withheld.
            advisories: Kinds.
        """
        return {
            "event": event,
            **self._known,
            "essay_id": essay.essay_id,
            "prompt_id": essay.prompt_id,
            "essay": text_sha256(essay.text),
            "scores": dict(scores),
            "withheld": withheld,
            "advisories": list(advisories),
        }

    def tell(self, entries: Sequence[Entry]) -> None:
        """Add the next entries of the run to the log, but those that are in it.

        Raises:
            DataError: The log was changed or cannot be written.
        """
        self.log.append(entries[max(0, self._logged - self._told) :])
        self._told += len(entries)

    def told(self, windows: Iterable[ScoredWindow]) -> Iterator[ScoredWindow]:
        """The same windows, each in the log before it is given on."""
        for window in windows:
            self.tell(self.entries(window))
            yield window


def text_sha256(text: str) -> str:
    """SHA-256 of an essay's text in UTF-8, in hexadecimal."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _scores(window: ScoredWindow) -> list[dict[str, Any]]:
    """What is said of each essay's scores; in the long form by trait."""
    columns = {name: values for name, values in window.columns.items() if name not in _BESIDE}
    found: list[dict[str, Any]] = [{} for _ in range(len(window))]
    for row, place in enumerate(window.owner):
        values = {name: column[row] for name, column in columns.items()}
        found[place] |= {window.columns[TRAIT_COLUMN][row]: values} if TRAIT_COLUMN in window.columns else values
    return found
