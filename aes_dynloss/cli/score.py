"""``aes-dynloss score``."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aes_dynloss.cli.options import (
    EXISTING,
    MODEL,
    audit_option,
    check_sources,
    coverage_option,
    cpu_option,
    essay_input_options,
    force_precision_option,
    list_option,
    output_option,
    read_essays,
)
from aes_dynloss.cli.score_files import check_apart, check_explain, is_complete
from aes_dynloss.cli.score_folder import folder_of_parts, score_folder
from aes_dynloss.errors import ConfigError

if TYPE_CHECKING:
    from aes_dynloss.essays.data.readers import UnscoredEssay
    from aes_dynloss.essays.model.protocol import Scorer
    from aes_dynloss.essays.scoring.audit import ScoreAudit
    from aes_dynloss.essays.scoring.new_prompt import NewPrompt
    from aes_dynloss.essays.scoring.resume import Processes
    from aes_dynloss.essays.scoring.run import ReviewSheet, ScoreCounts, ScoreOptions
    from aes_dynloss.essays.scoring.worksheets import Feedback, Worksheet
    from aes_dynloss.measures.scales import ConversionTable
    from aes_dynloss.tables.provenance import Provenance
    from aes_dynloss.tables.score_range import ScoreRange
    from aes_dynloss.training.config import Precision

logger = logging.getLogger(__name__)

_ALONE = "--explain is for one process. Leave the launcher out, or use aes-dynloss explain."


def _kinds() -> list[tuple[str, str, str]]:
    from aes_dynloss.essays.screening.kinds import KINDS

    return [(name, kind.title, kind.default) for name, kind in KINDS.items()]


@click.command()
@click.argument("model", type=MODEL)
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@essay_input_options
@output_option
@click.option(
    "--format",
    "form",
    type=click.Choice(["csv", "jsonl", "parquet", "xlsx", "moodle", "canvas"]),
    help="Output format; moodle, canvas: --worksheet with grades.  [default: by the suffix of --output, else csv]",
)
@click.option(
    "--worksheet",
    "sheet",
    type=EXISTING,
    help="Grading worksheet of Moodle or gradebook of Canvas, as exported. Rows without a grade get one; nothing else "
    "changes.  [default with --format moodle: INPUT, column Online text]",
)
@click.option(
    "--grade-column",
    "grade_columns",
    multiple=True,
    metavar="[TRAIT=]COLUMN",
    help="With --worksheet: column of grades, of Canvas an assignment; of each of several traits that is wanted, if "
    "repeated.  [default: Grade, or the only assignment]",
)
@click.option(
    "--policy",
    multiple=True,
    metavar="KIND=ACTION",
    help="advise, withhold or off for a kind of advisory; may be repeated. --list shows the kinds.",
)
@list_option(_kinds, "List the kinds of advisories and what follows from them, and exit.")
@coverage_option
@click.option("--probabilities", is_flag=True, help="Add the probability of each score point, if the head provides it.")
@click.option(
    "--ood-distance",
    is_flag=True,
    help="Add the distance from the training essays, which 1 is for nearly all essays, if the model knows it.",
)
@click.option(
    "--keep-columns",
    is_flag=True,
    help="Add INPUT's columns behind those of the scores, unchanged, the essays too; input_ goes before a name that a "
    "column of scores has. essay_id and prompt_id are there already.",
)
@click.option(
    "--review",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write essays with advisories and uncertain ones to this csv, jsonl, parquet or xlsx file for human scorers.",
)
@click.option(
    "--uncertain",
    type=click.FloatRange(0, 1),
    default=0.05,
    help="With --review: the least certain share of essays like those of dev.",
)
@click.option(
    "--precision",
    type=click.Choice(["float32", "bf16"]),
    default="float32",
    help="bf16 is faster on processors that have it; refused on others, and if it changes more than 1 score in 200.",
)
@force_precision_option
@click.option(
    "--explain",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write why each essay got its score to this jsonl file; INPUT is read a second time for it. With --format "
    "moodle also as feedback.",
)
@click.option(
    "--scale",
    multiple=True,
    metavar="[ID=]LOW:HIGH[:STEP]",
    help="Report scores on this scale too, in the column reported: a line from the prompt's range. May be repeated.  "
    "[default: the model's own scale, if it has one]",
)
@click.option("--long", is_flag=True, help="With several traits: a row for each trait of an essay.")
@click.option(
    "--range",
    "span",
    metavar="[ID=]LOW:HIGH[:STEP]",
    help="Score points of --prompt, on which MODEL, of kind transfer, was not trained: it is adapted to INPUT.",
)
@click.option(
    "--target-labels", type=EXISTING, help="With --range: table of a few essays on --prompt with human scores."
)
@click.option(
    "--adapted", type=click.Path(path_type=Path, file_okay=False), help="With --range: folder for the adapted model."
)
@audit_option
@click.option(
    "--mark-first",
    type=(click.IntRange(min=1), click.Path(path_type=Path, dir_okay=False)),
    metavar="N FILE",
    help="With --range: write the N essays whose human scores would help most to FILE, for --target-labels.",
)
@click.option("--resume", is_flag=True, help="Resume an interrupted run into --output.")
@click.option("--force", is_flag=True, help="Overwrite what --output, --review, --mark-first and --adapted name.")
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    help="Of a folder of tables. ray: on the Ray cluster of --address or RAY_ADDRESS, or on one on this machine.",
)
@click.option("--address", metavar="HOST:PORT", help="With --engine ray: the head of a cluster.")
@cpu_option
def score(
    *,
    inputs: tuple[str, ...],
    engine: str,
    address: str | None,
    **options: Any,  # noqa: ANN401 - of one of the two functions
) -> None:
    """Score the essays of INPUT with MODEL: a run, its folder model/, an ensemble, a zip, or OWNER/NAME on the hub.

    INPUT is a .csv, .tsv, .jsonl, .parquet or .xlsx file, a folder of .txt files, or - for standard input; or a folder
    of such tables, the parts, whose scores go to tables of the same names in the folder --output. One row of
    output per essay, in the same order: essay_id, prompt_id, raw (continuous), score (a score point), low and high,
    between which the human score lies for --coverage of essays like those of dev, certainty (the chance that a human
    gives the same score), withheld (then there is no score), advisories and their reasons. A model of several traits
    gives NAME, NAME_raw, NAME_low, ... of each. With --range, MODEL is first adapted to a prompt that it does not know.
    """
    parts = folder_of_parts(inputs, options["output"], options["form"], engine, address)
    if parts is None:
        _score_tables(inputs=inputs, **options)
    elif (counted := score_folder(parts, engine=engine, address=address, **options)) is not None:
        _tell(*counted)


def _score_tables(
    *,
    model: Path,
    inputs: tuple[str, ...],
    output: Path,
    form: str | None,
    sheet: Path | None,
    grade_columns: tuple[str, ...],
    policy: tuple[str, ...],
    coverage: float,
    probabilities: bool,
    ood_distance: bool,
    keep_columns: bool,
    review: Path | None,
    uncertain: float,
    explain: Path | None,
    scale: tuple[str, ...],
    long: bool,
    span: str | None,
    target_labels: Path | None,
    adapted: Path | None,
    audit: Path | None,
    mark_first: tuple[int, Path] | None,
    precision: Precision,
    force_precision: bool,
    resume: bool,
    force: bool,
    cpu: bool,
    **layout: Any,  # noqa: ANN401 - of essay_input_options
) -> None:
    """Score tables into one table, or to standard output."""
    path = None if str(output) == "-" else output
    from aes_dynloss.essays.scoring.output import output_format
    from aes_dynloss.essays.screening.kinds import Policy
    from aes_dynloss.tables.score_range import parse_ranges

    form = output_format(form, path)
    sheet_form = None if review is None else output_format(None, review, "--review")
    filled = _worksheet(
        form,
        sheet,
        inputs,
        layout,
        grade_columns=grade_columns,
        unused=any((long, keep_columns, probabilities, ood_distance)),
    )
    chosen = Policy.from_words(policy)
    scales = parse_ranges(scale, "--scale")
    new = _new_prompt(
        layout["prompt"],
        span,
        target_labels,
        {"--adapted": adapted, "--mark-first": mark_first and mark_first[1]},
        replaceable=force or resume,
    )
    explained = check_explain(explain, (path, review), inputs, precision, resume=resume, force=force)
    check_apart(
        {"--output": path, "--review": review, "--explain": explain, "--audit": audit}
        | {"--mark-first": mark_first and mark_first[1]},
        {"INPUT": inputs, "--target-labels": [target_labels], "--worksheet": [sheet]},
    )
    complete = is_complete(path, review, inputs if sheet is None else (*inputs, str(sheet)), resume=resume, force=force)
    if complete and explained:
        logger.info("%s is complete; INPUT was not looked at. --force scores it anew.", path)
        return
    check_sources(inputs)
    # Heavy imports here keep --help and usage errors fast.
    from aes_dynloss.essays.model.model_folder import CONFIG
    from aes_dynloss.essays.model.sharing import locate_model
    from aes_dynloss.essays.scoring.audit import ScoreAudit
    from aes_dynloss.essays.scoring.opening import in_checked_precision, open_to_score
    from aes_dynloss.essays.scoring.run import ReviewSheet, ScoreOptions
    from aes_dynloss.essays.scoring.score import texts_of, warn_unless_screened
    from aes_dynloss.tables.atomic import file_sha256

    folder = locate_model(model)
    processes, scorer = open_to_score(
        folder, precision, cpu=cpu, force_precision=force_precision, alone=_ALONE if explain else None
    )
    digest = file_sha256(folder / CONFIG)
    read = partial(_essays, filled, inputs, layout, own=sheet is None)
    essays = read(scorer, processes.num_processes, keep=keep_columns)
    scorer, essays, state = _adapted(scorer, new, essays, digest)
    warn_unless_screened(scorer)
    tables = _scale(scorer, scales, filled)
    made = _made((*inputs, sheet, target_labels), digest)
    if processes.is_main_process:
        _keep(scorer, new, essays, adapted, mark_first, made, resume=resume)
    scorer, essays = in_checked_precision(scorer, essays, precision)
    review_sheet = None if review is None or sheet_form is None else ReviewSheet(review, sheet_form, uncertain)
    options = ScoreOptions(
        chosen.of(texts_of(scorer)), coverage, probabilities, precision, keep_columns, long, tables, ood_distance
    )
    trail = ScoreAudit.into(audit, folder, options.policy, digest)
    if complete:
        logger.info("%s is complete; INPUT is explained.", path)
    else:
        again = partial(read, scorer, processes.num_processes, keep=keep_columns, say=lambda _: None)
        file: dict[str, Any] = {
            "first": None if "-" in inputs else again,
            "model_digest": state,
            "review": review_sheet,
            "worksheet": filled,
            "made": made,
            "resume": resume,
            "force": force,
        }
        counts = _written(scorer, essays, path, form, options, processes, trail, **file)
        if processes.is_main_process:
            _tell(counts, review_sheet)
    if processes.is_main_process and explain is not None and not explained:
        feedback = None if filled is None else filled.feedback_into(path)
        _explain(scorer, read(scorer, 1), explain, options, state, feedback, made, resume=resume, force=force)


def _worksheet(
    form: str | None,
    sheet: Path | None,
    inputs: tuple[str, ...],
    layout: dict[str, Any],
    *,
    grade_columns: Sequence[str],
    unused: bool,
) -> Worksheet | None:
    """The learning platform's file that is filled in, if one is; as INPUT itself it brings names of its columns."""
    from aes_dynloss.essays.scoring.output import PLATFORMS

    platform = next((one for one in PLATFORMS if one == form), None)
    if platform is None:
        if sheet is not None or grade_columns:
            raise ConfigError(f"--worksheet and --grade-column go with --format {' or '.join(PLATFORMS)}. Add it.")
        return None
    from aes_dynloss.essays.scoring.worksheets import MOODLE_ID, MOODLE_TEXT, Worksheet

    if unused:
        raise ConfigError(
            f"--format {platform} fills in grades alone. Leave out --keep-columns, --long, --probabilities and "
            "--ood-distance."
        )
    if sheet is None:
        if platform != "moodle" or len(inputs) != 1 or inputs[0] == "-":
            raise ConfigError(
                f"--format {platform} fills in the file that {platform.capitalize()} exports. Name it with --worksheet."
            )
        layout |= {"text": layout["text"] or MOODLE_TEXT, "essay_id": layout["essay_id"] or MOODLE_ID}
    return Worksheet.read(sheet or Path(inputs[0]), platform, grade_columns, layout["encoding"])


def _essays(
    filled: Worksheet | None,
    inputs: tuple[str, ...],
    layout: dict[str, Any],
    scorer: Scorer,
    processes: int,
    *,
    own: bool,
    **how: Any,  # noqa: ANN401 - further options of read_essays
) -> Iterable[UnscoredEssay]:
    """The essays of INPUT; those of a worksheet have a row in it, and may be its own."""
    essays = read_essays(inputs, processes, scorer.own_features, **how, **layout)
    return essays if filled is None else filled.essays(essays, own=own)


def _scale(scorer: Scorer, scales: dict[str, ScoreRange], filled: Worksheet | None) -> dict[str, ConversionTable]:
    """The tables of --scale; scores that would be no grades of a worksheet are refused."""
    from aes_dynloss.essays.model.prompt_scales import linear_tables

    tables = linear_tables(scorer.prompts, scales)
    if filled is not None:
        filled.check_scale(scorer.prompts, {**scorer.postprocessing.reported, **tables})
    return tables


def _written(
    scorer: Scorer,
    essays: Iterable[UnscoredEssay],
    path: Path | None,
    form: str,
    options: ScoreOptions,
    processes: Processes,
    audit: ScoreAudit | None,
    *,
    review: ReviewSheet | None,
    first: Callable[[], Iterable[UnscoredEssay]] | None,
    **of_a_file: Any,  # noqa: ANN401 - what score_to_files alone takes
) -> ScoreCounts:
    """Score into a file, or to standard output; what can be read twice is looked at first, see `check_fit`."""
    from aes_dynloss.essays.scoring.run import check_fit, score_to_files, score_to_stream

    if first is not None:
        check_fit(first, form, options, review)
    if path is None:
        return score_to_stream(scorer, essays, form, options, processes=processes, audit=audit)
    return score_to_files(
        scorer, essays, path, form, options, processes=processes, audit=audit, review=review, **of_a_file
    )


def _explain(
    scorer: Scorer,
    essays: Iterable[UnscoredEssay],
    path: Path,
    options: ScoreOptions,
    digest: str,
    feedback: Feedback | None,
    made: Provenance,
    *,
    resume: bool,
    force: bool,
) -> None:
    """Write why each essay got its score, also as feedback into a worksheet."""
    from aes_dynloss.essays.explaining.run import explain_to_file
    from aes_dynloss.tables.provenance import sealed

    known = {"coverage": options.coverage, "policy": options.policy, "scale": options.scale}
    also: dict[str, Any] = {}
    if feedback is not None:
        also = {"seen": lambda _number, line, _explained: feedback.add(line), "finish": partial(feedback.write, made)}
    run: dict[str, Any] = {"model_digest": digest, "resume": resume, "force": force}
    count = explain_to_file(scorer, essays, path, known, sealing=sealed(made, path), **run, **also)
    logger.info("%d essays are explained: %s.", count, path)


def _new_prompt(
    prompt: str | None, span: str | None, labels: Path | None, beside: Mapping[str, Path | None], *, replaceable: bool
) -> NewPrompt | None:
    """The prompt that the model is to be adapted to; None where it is to score those that it knows.

    What is written beside its scores must not be there already, unless it is replaceable.
    """
    if span is None:
        for option, given in {"--target-labels": labels, **beside}.items():
            if given is not None:
                raise ConfigError(
                    f"{option} goes with --range, the score points of a prompt that MODEL does not know. Give both."
                )
        return None
    for option, path in beside.items():
        if path is not None and path.exists() and not replaceable:
            raise ConfigError(f"{path} is there already. Choose another {option}, or replace it by --force.")
    from aes_dynloss.essays.scoring.new_prompt import NewPrompt

    return NewPrompt.of(prompt, span, labels)


def _adapted(
    scorer: Scorer, new: NewPrompt | None, essays: Iterable[UnscoredEssay], digest: str
) -> tuple[Scorer, Iterable[UnscoredEssay], str]:
    """The scorer, adapted to a new prompt if there is one, the essays, and a digest of what their scores depend on."""
    if new is None:
        return scorer, essays, digest
    from aes_dynloss.essays.scoring.new_prompt import adapted_scorer

    every = list(essays)
    return adapted_scorer(scorer, new, every), every, new.digest(digest, every)


def _keep(
    scorer: Scorer,
    new: NewPrompt | None,
    essays: Iterable[UnscoredEssay],
    folder: Path | None,
    mark_first: tuple[int, Path] | None,
    made: Provenance,
    *,
    resume: bool,
) -> None:
    """Write the adapted scorer, and the essays to mark, if they are wanted; a list may be filled in by now."""
    from aes_dynloss.essays.model.classical_scorer import ClassicalScorer
    from aes_dynloss.essays.scoring.new_prompt import write_essays_to_mark
    from aes_dynloss.tables.provenance import seal, sealed

    if new is None or not isinstance(scorer, ClassicalScorer):
        return
    if mark_first is not None and not (resume and mark_first[1].exists()):
        with sealed(made, mark_first[1]):
            write_essays_to_mark(scorer, new, list(essays), *mark_first)
    if folder is not None:
        scorer.save_pretrained(folder)
        seal(folder, made)  # the folder is a new one, in which nothing was told yet


def _made(sources: Sequence[str | Path | None], digest: str) -> Provenance:
    """Where the scores come from; told before they are written, lest they lie in a folder that is read."""
    from aes_dynloss.tables.provenance import Provenance

    return Provenance.now((Path(source) for source in sources if source is not None), digest)


def _tell(counts: ScoreCounts, sheet: ReviewSheet | None) -> None:
    """Say how many essays have a score, how many have none, and how many are for review."""
    logger.info("Scored %d essays.", counts.essays - counts.withheld)
    if counts.withheld:
        logger.info("%d more have no score: it is withheld, and their reasons say why.", counts.withheld)
    if sheet is not None:
        logger.info("%d essays are for review: %s.", counts.reviewed, sheet.path)
