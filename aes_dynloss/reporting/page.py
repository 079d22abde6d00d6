"""The page of a report on predictions: a reader's summary, then tables and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aes_dynloss.reporting.adjudication_section import adjudication_sections
from aes_dynloss.reporting.blocks import Block, Bullets, Folded, Gallery, Pairs, Part, Section, Words
from aes_dynloss.reporting.fairness_tables import fairness_sections, multiplicity_words
from aes_dynloss.reporting.figures import report_figures
from aes_dynloss.reporting.measures import MEASURES
from aes_dynloss.reporting.pictures import Picture, picture_from_svg
from aes_dynloss.reporting.rendering import render_page, write_page
from aes_dynloss.reporting.report_tables import (
    agreement_tables,
    coverage_table,
    floor_table,
    human_tables,
    point_table,
    version_table,
    worst_table,
)
from aes_dynloss.reporting.robustness_section import robustness_section
from aes_dynloss.reporting.summary import light_table, light_words, prompt_light_table, summary_sentences
from aes_dynloss.reporting.tables import figure

__all__ = ["Picture", "picture_from_svg", "report_page", "write_page"]

Report = Mapping[str, Any]


def report_page(
    report: Report, *, title: str, pictures: Sequence[Picture] = (), about: Mapping[str, Any] | None = None
) -> str:
    """A report as one html page that opens from disk, asks for nothing and prints well.

    Args:
        report: What ``build_report`` returned.
        title: The page's title, such as the model's name.
        pictures: Further pictures, such as those that a training has left.
        about: Words for the foot by name: model, date, versions.

    Returns:
        Html.

    Raises:
        DataError: A picture is no svg.
    """
    essays = sum(entry["n"] for entry in report["prompts"].values())
    prompts = list(report["prompts"])
    named = f"Prompt {prompts[0]}" if len(prompts) == 1 else f"{len(prompts)} prompts"
    sections = [
        _summary(report),
        *_agreement(report),
        *adjudication_sections(report),
        *_fairness(report),
        *([robustness_section(report["robustness"])] if "robustness" in report else []),
        _pictures(report),
        *training_sections(pictures),
        *_worst(report),
        *_floors(report),
        *note_sections(report),
    ]
    return render_page(title, [f"{essays:,} essays", named], sections, about)


def training_sections(pictures: Sequence[Picture]) -> list[Section]:
    """A section of pictures that training has left; none without them."""
    if not pictures:
        return []
    words = "How the loss, and what it is made of, changed while the model was trained."
    return [Section("training", "Training", [Gallery("training-pictures", "", words, pictures, size="large")])]


def note_sections(report: Report, measures: Sequence[str] | None = None) -> list[Section]:
    """Notes, settings, and what the measures are: the end of every page.

    Args:
        report: A report of any kind.
        measures: Names of the measures to define; all by default.
    """
    settings = Pairs([(name.replace("_", " "), _setting(value)) for name, value in report["settings"].items()])
    chosen = [MEASURES[name] for name in measures or MEASURES]
    defined = [(one.title, f"{one.definition} {one.reference.rstrip('.')}.") for one in chosen]
    notes = [Section("notes", "Notes", [Bullets(report["notes"])])] if report["notes"] else []
    return [
        *notes,
        Section("settings", "Settings", [settings]),
        Section("measures", "Measures", [Pairs(defined)]),
    ]


def _setting(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) and value >= 10_000 else str(value)


def _summary(report: Report) -> Section:
    sentences = [Words(sentence, lead=True) for sentence in summary_sentences(report)]
    lights: list[Block] = [light_table(report), Words(light_words(report))] if report["flags"] else []
    each = prompt_light_table(report) if report["flags"] else None
    folded = [] if each is None else [Folded("Every prompt", [each])]
    return Section("summary", "Summary", [*sentences, *lights, *folded])


def _agreement(report: Report) -> list[Section]:
    fisher = report["mean"]["qwk_fisher"]
    extra = [Words(f"Fisher mean of the prompts' QWK: {figure(fisher)}.")] if len(report["prompts"]) > 1 else []
    coverage = coverage_table(report)
    covered = [] if coverage is None else [coverage]
    shares = Folded("Essays at each score point", [point_table(report)])
    return [
        Section("agreement", "Agreement", [*agreement_tables(report), *extra, *covered]),
        Section("versions", "Score versions", [version_table(report)]),
        Section("humans", "Human agreement and ceilings", human_tables(report)),
        Section("points", "Score points", [Words(_share_words(report)), shares]),
    ]


def _share_words(report: Report) -> str:
    """The largest gap of shares, and where."""
    rows = [(row, prompt) for prompt, entry in report["prompts"].items() for row in entry["score_points"]]
    row, prompt = max(rows, key=lambda one: abs(one[0]["gap"]))
    more = "more" if row["gap"] > 0 else "less"
    return (
        f"The largest gap between the machine's share of a score point and the humans' is at score {row['point']:g} of "
        f"prompt {prompt}, which the machine gives {abs(100 * row['gap']):.1f} percentage points {more} often."
    )


def _fairness(report: Report) -> list[Section]:
    found = fairness_sections(report)
    if not found:
        return []
    blocks: list[Block] = [Words(multiplicity_words(report))]
    for one in found:
        inside: list[Block] = [one.groups, one.tests]
        if one.pictures:
            words = "Dots with intervals; the band is the criterion. Hollow dots are small groups."
            inside.append(Gallery(f"{one.name}-pictures", "", words, one.pictures, size="medium"))
        blocks.append(Part(one.name, one.column, inside))
    return [Section("fairness", "Fairness by subgroups", blocks)]


def _pictures(report: Report) -> Section:
    galleries = report_figures(report)
    return Section("pictures", "Pictures", [Part(f"{one.name}-part", one.title, [one]) for one in galleries])


def _worst(report: Report) -> list[Section]:
    table = worst_table(report)
    if table is None:
        return []
    texts = [
        (f"Essay {row['essay_id']} of prompt {row['prompt_id']}", str(row["text"]))
        for row in report["worst"]
        if row.get("text")
    ]
    folded = [Folded("Texts of these essays", [Pairs(texts, essays=True)])] if texts else []
    return [Section("worst", "Worst disagreements", [table, *folded])]


def _floors(report: Report) -> list[Section]:
    table = floor_table(report)
    words = Words("What any machine should beat: scorers that read nothing of an essay, or little.")
    return [] if table is None else [Section("floors", "Floors", [words, table])]
