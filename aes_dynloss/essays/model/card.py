"""Model cards: the README.md of a model folder, with metadata in the form of the Hugging Face hub.

Scorers of every kind and ensembles share this form. A card is read by people and by the hub, never by this program's
scorers; whoever publishes a model may edit it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, StringConstraints

from aes_dynloss.configfile import ConfigModel
from aes_dynloss.essays.model.model_config import ModelConfig

if TYPE_CHECKING:  # the configuration of a run knows this module, and is read before anything heavy is imported
    from aes_dynloss.measures.scales import ConversionTable
    from aes_dynloss.reports.model import MeanEntry, PromptEntry, Report
    from aes_dynloss.tables.score_range import ScoreRange

_UNSTATED = "unknown"  # as the hub calls a licence
_FIGURES = ("prompt", "range", "n", "qwk", "qwk_interval", "exact_agreement", "pearson", "sd_ratio")
MeasuredOn = Literal["test", "dev", "out_of_fold"]
# Written here: a run's own notes may name essays and columns of its data, which are not for a card.
_MEASURED_ON: Mapping[MeasuredOn, str] = {
    "test": "The figures are agreement with human scores of essays that were not trained on.",
    "dev": "There is no test split. The figures are agreement with human scores of dev essays, which were not trained "
    "on, but may have chosen between weights.",
    "out_of_fold": "The figures are agreement of out-of-fold scores with human ones: each essay was scored without "
    "having been trained on. The model here is fitted to all of them.",
}
_STARTED = (
    "Training began with the weights of an earlier model. If that was trained on some of these essays, the figures "
    "flatter."
)
# The hub's name of a measure, and ours.
_INDEXED = {
    "qwk": ("quadratic_weighted_kappa", "Quadratic weighted kappa"),
    "pearson": ("pearsonr", "Pearson r of raw scores"),
}
_USE = """\
To score essays to these prompts by writers like those of its data: drafts, a second opinion beside human raters, or
research. Scores that an advisory withholds, and uncertain ones, are for humans (`aes-dynloss score --review`)."""
_LIMITS = """\
- It was trained on essays to these prompts, by the writers of that data. For other prompts, ages or languages nothing
  is known of its agreement.
- The card says nothing of fairness towards groups of writers: measure it on your own (`data.subgroups`).
- Do not use it as the only rater where a score has consequences for a person."""


class CardConfig(ConfigModel):
    """What a model's card states that nothing else in a run tells."""

    licence: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.+-]*$")] | None = Field(
        default=None,
        description="Licence of the model on its card, by the hub's name, such as apache-2.0 or cc-by-nc-4.0; null: "
        "not stated. Mind those of the encoder and the essays.",
    )
    languages: list[Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}$")]] = Field(
        default=[], description="Languages of the essays on the card, by their ISO 639 codes, such as [en]."
    )


@dataclass(frozen=True)
class CardFacts:
    """Where a model comes from; whatever is not known is left out.

    Args:
        licence: By the hub's name.
        languages: Codes by ISO 639.
        base_models: Encoders by their names on the hub.
        data_sha256: Digests of the essays and of their split, by name.
        training_essays: How many essays it was trained on.
        versions: Of packages.
        date: When it was made, as YYYY-MM-DD.
        started: Whether its training began with the weights of an earlier model.
    """

    licence: str | None = None
    languages: Sequence[str] = ()
    base_models: Sequence[str] = ()
    data_sha256: Mapping[str, str] = field(default_factory=dict)
    training_essays: int | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    date: str | None = None
    started: bool = False

    @classmethod
    def of_run(cls, card: CardConfig, manifest: Mapping[str, Any], base_model: str | None) -> CardFacts:
        """What the manifest of a run tells, and what its configuration states.

        Args:
            card: The section ``card``.
            manifest: manifest.json.
            base_model: The encoder's name on the hub, if there is one.
        """
        split = manifest["split"]
        return cls(
            card.licence,
            card.languages,
            [] if base_model is None else [base_model],
            {"data": manifest["data"]["sha256"], **split["sha256"]},
            manifest.get("training_essays", split.get("essays", {}).get("train")),
            {name: version for name, version in manifest["versions"].items() if version},
            str(manifest["started"])[:10],
            manifest.get("started_from") is not None,
        )

    @classmethod
    def read(cls, card: Path) -> CardFacts:
        """What a card's metadata say; nothing where there is none that can be read.

        Args:
            card: A README.md.
        """
        from huggingface_hub import ModelCard

        try:
            text = card.read_text(encoding="utf-8")
            if not text.startswith("---"):
                return cls()
            data = ModelCard(text, ignore_metadata_errors=True).data
        except Exception:  # whatever YAML, the hub's package and the file system make of a file that anyone may edit
            return cls()
        languages, base_models, sha256 = data.get("language", []), data.get("base_model", []), data.get("data_sha256")
        return cls(
            None if data.get("license") in {None, _UNSTATED} else str(data.get("license")),
            [languages] if isinstance(languages, str) else list(map(str, languages)),
            [base_models] if isinstance(base_models, str) else list(map(str, base_models)),
            sha256 if isinstance(sha256, dict) else {},
        )

    @classmethod
    def common(cls, members: Sequence[CardFacts], **own: Any) -> CardFacts:  # noqa: ANN401 - fields of any type
        """Those of an ensemble: a licence and digests that all members have, the languages and encoders of any.

        Args:
            members: Those of its members.
            own: Fields of its own.
        """
        licences, digests = {facts.licence for facts in members}, [dict(facts.data_sha256) for facts in members]
        return cls(
            licence=licences.pop() if len(licences) == 1 else None,
            languages=list(dict.fromkeys(one for facts in members for one in facts.languages)),
            base_models=list(dict.fromkeys(one for facts in members for one in facts.base_models)),
            data_sha256=digests[0] if digests.count(digests[0]) == len(digests) else {},
            **own,
        )


_REPORTED = "\n## Reported scale\n"
_MOST_LISTED = 20


def with_reported_scale(card: str, tables: Mapping[str, ConversionTable]) -> str:
    """A card's text with a section on the reported scale, in the place of an earlier one.

    Args:
        card: The text.
        tables: By prompt; none for no section.
    """
    before, found, behind = card.partition(_REPORTED)
    if not (found or tables):
        return card
    next_section = behind.find("\n## ")
    rest = behind[next_section:] if found and next_section >= 0 else ""
    lines = []
    for prompt, table in tables.items():
        listed = [f"{value:g}" for value in table.reported]
        if len(listed) > _MOST_LISTED:
            listed = [*listed[:3], "...", *listed[-3:]]
        lines.append(f"- {prompt} ({table.method}): its score points are reported as {', '.join(listed)}.\n")
    section = f"{_REPORTED}\n{''.join(lines)}" if lines else ""
    return f"{before.rstrip()}\n{section}{rest}"


@dataclass(frozen=True)
class EssayModelCard:
    """A card.

    Args:
        title: Its heading.
        prompts: Score ranges of what the model scores, by prompt, or prompt and trait.
        summary: How scores come about, in the words behind "on the prompt's own scale".
        made_of: What it is made of, line by line.
        facts: Where it comes from.
        report: On scores of essays that it was not trained on, if there are such; its notes are left out, as they may
            name essays and columns of the data.
        measured_on: Which essays these are.
        encoder: How the one encoder in the folder is used that other libraries open; None for other models.
        sections: Further text, in Markdown.
        limits: A further limit.

    Example:
        >>> from aes_dynloss import ScoreRange
        >>> card = EssayModelCard("Essay scorer", {"phones": ScoreRange(1, 6)}, facts=CardFacts("apache-2.0", ["en"]))
        >>> from huggingface_hub import ModelCard
        >>> metadata = ModelCard(card.text()).data
        >>> metadata.language, metadata.license, metadata.library_name
        (['en'], 'apache-2.0', 'aes-dynloss')
    """

    title: str
    prompts: Mapping[str, ScoreRange]
    summary: str = ""
    made_of: Sequence[str] = ()
    facts: CardFacts = field(default_factory=CardFacts)
    report: Report | None = None
    measured_on: MeasuredOn = "test"
    encoder: ModelConfig | None = None
    sections: str = ""
    limits: str = ""

    def text(self) -> str:
        """Metadata and Markdown."""
        blocks = [f"---\n{self._metadata()}\n---", *self._blocks()]
        return "\n\n".join(block.strip("\n") for block in blocks if block) + "\n"

    def _metadata(self) -> str:
        from huggingface_hub import ModelCardData

        facts, results = self.facts, list(self._results())
        data = ModelCardData(
            language=list(facts.languages) or None,
            library_name="aes-dynloss",
            license=facts.licence or _UNSTATED,
            base_model=list(facts.base_models) or None,
            pipeline_tag="text-classification",
            tags=["automated-essay-scoring"],
            model_name=self.title if results else None,
            eval_results=results or None,
            data_sha256=dict(facts.data_sha256) or None,
            training_essays=facts.training_essays,
            versions=dict(facts.versions) or None,
            date=facts.date,
        )
        return str(data.to_yaml())

    def _results(self) -> Iterator[Any]:
        """The hub's entries of the figures: QWK and r of each prompt and in the mean, intervals in words."""
        from huggingface_hub import EvalResult

        from aes_dynloss.reports.table import figure_words
        from aes_dynloss.reports.traits import by_scale

        if self.report is None:
            return
        report = by_scale(self.report)
        entries: list[tuple[str | None, PromptEntry | MeanEntry]] = [(None, report.mean), *report.prompts.items()]
        for prompt, entry in entries:
            for measure, (metric, title) in _INDEXED.items():
                ends = entry[f"{measure}_interval"]
                level = "" if ends is None else f", {report.level} CI {' to '.join(map(figure_words, ends))}"
                if entry[measure] is not None:
                    yield EvalResult(
                        task_type="text-classification",
                        task_name="Automated essay scoring",
                        dataset_type="essays",
                        dataset_name="mean over prompts" if prompt is None else f"essays on {prompt}",
                        dataset_config=prompt,
                        dataset_revision=self.facts.data_sha256.get("data"),
                        metric_type=metric,
                        metric_name=f"{title}{level}",
                        metric_value=round(float(entry[measure]), 4),
                    )

    def _blocks(self) -> Iterator[str]:
        from aes_dynloss.reports.table import PROMPT, Table, markdown_table, words, words_column

        yield f"# {self.title}"
        yield f"Scores essays that answer one of these prompts, on the prompt's own scale{self.summary}."
        rows = [[words(prompt), words(str(points))] for prompt, points in self.prompts.items()]
        yield markdown_table(Table("prompts", "Prompts", [PROMPT, words_column("points", "score points")], rows))
        yield self.sections
        if self.report is not None:
            notes = [_MEASURED_ON[self.measured_on], *([_STARTED] if self.facts.started else [])]
            yield from _figure_blocks(self.report, notes)
        if self.made_of:
            yield "## How it was made"
            yield "\n".join(f"- {line}" for line in self.made_of)
        yield f"## Intended use\n\n{_USE}"
        yield f"## Limits\n\n{_LIMITS}"
        yield self.limits
        yield "## Use\n\n    aes-dynloss score PATH/TO/THIS/FOLDER essays.csv --output scores.csv"
        if self.encoder is not None:
            yield _encoder_words(self.encoder)
        yield from self._fact_blocks()

    def _fact_blocks(self) -> Iterator[str]:
        from aes_dynloss.reports.table import Table, markdown_table, words, words_column

        facts = self.facts
        known = {
            "licence": facts.licence or "not stated",
            "languages": ", ".join(facts.languages) or "not stated",
            "base model": ", ".join(facts.base_models),
            "training essays": "" if facts.training_essays is None else str(facts.training_essays),
            **{f"sha256 of {name}": digest for name, digest in facts.data_sha256.items()},
            "versions": ", ".join(f"{name} {version}" for name, version in facts.versions.items()),
            "made on": facts.date or "",
        }
        rows = [[words(name), words(value)] for name, value in known.items() if value]
        yield "## Data and versions"
        yield markdown_table(Table("facts", "Data and versions", [words_column("", ""), words_column("", "")], rows))


def _figure_blocks(report: Report, notes: Sequence[str]) -> Iterator[str]:
    from aes_dynloss.reports.report_tables import agreement_table, floor_table
    from aes_dynloss.reports.table import markdown_table
    from aes_dynloss.reports.traits import by_scale
    from aes_dynloss.reports.verdict import verdict_sentence

    yield f"## Figures\n\n{verdict_sentence(report)}"
    report = by_scale(report)
    yield markdown_table(agreement_table(report).chosen(*_FIGURES))
    yield "\n".join(f"- {note}" for note in [*notes, "QWK is not comparable between prompts with different scales."])
    if report.floors:
        yield "QWK of simple scorers on the same essays:"
        yield markdown_table(floor_table(report))


def _encoder_words(config: ModelConfig) -> str:
    """What other libraries make of the folder's encoder."""
    if config.kind != "encoder" or config.int8:
        return ""
    last = config.pooled_layers == 1
    parts = [] if last else ["the scorer pools several layers, of which that is the last"]
    if config.pooling == "attention":
        parts.append("the scorer weighs tokens by an attention that sentence-transformers has no form for")
    kind = "first token" if config.pooling == "cls" else "mean over the tokens"
    but = f" That is not the scorer's own vector: {'; '.join(parts)}." if parts else ""
    return (
        "The encoder alone: `transformers.AutoModel` and `AutoTokenizer` open the folder (a pooler that they add was "
        f"never trained), and sentence-transformers gives the {kind} of the last layer, of one window.{but}"
    )
