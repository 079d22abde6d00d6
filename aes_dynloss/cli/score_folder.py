"""``aes-dynloss score`` of a folder of tables, its parts, into another folder."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from aes_dynloss.cli.options import check_sources
from aes_dynloss.cli.score_files import check_apart, check_path
from aes_dynloss.errors import ConfigError

if TYPE_CHECKING:
    from aes_dynloss.essays.scoring.part_folder import Engine
    from aes_dynloss.essays.scoring.part_tables import Reading
    from aes_dynloss.essays.scoring.run import ReviewSheet, ScoreCounts
    from aes_dynloss.training.config import Precision

logger = logging.getLogger(__name__)

# Options that need all essays at once, or a file that is filled in.
_OF_ONE_TABLE = {
    "sheet": "--worksheet",
    "grade_columns": "--grade-column",
    "explain": "--explain",
    "span": "--range",
    "target_labels": "--target-labels",
    "adapted": "--adapted",
    "mark_first": "--mark-first",
}


def folder_of_parts(
    inputs: tuple[str, ...], output: Path, form: str | None, engine: str, address: str | None
) -> Path | None:
    """The folder of tables that INPUT is; None where it is something else, such as a folder of .txt files.

    Raises:
        ConfigError: Something else goes with it, or is to be scored on a cluster or into a folder.
    """
    if address is not None and engine != "ray":
        raise ConfigError("--address names a Ray cluster. Give --engine ray with it.")
    folders = [one for one in inputs if Path(one).is_dir() and not _holds_texts(one)]
    if folders and len(inputs) > 1:
        raise ConfigError(f"{folders[0]} is a folder of tables, which is scored alone. Leave the other INPUT out.")
    if folders:
        return Path(folders[0])
    texts = next((one for one in inputs if _holds_texts(one)), None)
    why = "" if texts is None else f"; in {texts} the essays are the .txt files"
    if engine == "ray":
        check_sources(inputs)
        raise ConfigError(
            f"--engine ray scores the tables of a folder, and {inputs[0]} is none of tables{why}. Cut it up into files "
            "of a folder, or leave --engine out."
        )
    if form is None and str(output) != "-" and not output.suffix:
        check_sources(inputs)
        raise ConfigError(
            f"--output {output} has no suffix, as a folder of scores, and INPUT {inputs[0]} is no folder of tables here"
            f"{why}. Correct INPUT, or name a file of scores, such as {output}.csv."
        )
    return None


def _holds_texts(source: str) -> bool:
    return any(Path(source).glob("*.[tT][xX][tT]"))


def score_folder(
    folder: Path,
    *,
    model: Path,
    output: Path,
    form: str | None,
    policy: tuple[str, ...],
    coverage: float,
    probabilities: bool,
    ood_distance: bool,
    keep_columns: bool,
    review: Path | None,
    uncertain: float,
    scale: tuple[str, ...],
    long: bool,
    audit: Path | None,
    precision: Precision,
    force_precision: bool,
    resume: bool,
    force: bool,
    cpu: bool,
    engine: str,
    address: str | None,
    **layout: Any,  # noqa: ANN401 - of essay_input_options, and options that are refused
) -> tuple[ScoreCounts, ReviewSheet | None] | None:
    """Score the tables of a folder.

    Returns:
        Numbers of essays, and the review sheet; None where all was done before.

    Raises:
        ConfigError: An option makes no sense for a folder, or a path cannot be written.
        DataError: Parts cannot be read or scored, see :func:`aes_dynloss.essays.scoring.part_folder.score_folder`.
    """
    _check_options({name: layout.pop(name) for name in _OF_ONE_TABLE}, form)
    from aes_dynloss.essays.scoring.output import output_format
    from aes_dynloss.essays.screening.kinds import Policy
    from aes_dynloss.tables.score_range import parse_ranges

    chosen, scales = Policy.from_words(policy), parse_ranges(scale, "--scale")
    sheet_form = None if review is None else output_format(None, review, "--review")
    _check_apart(folder, output, review, audit)
    if _is_complete(output, review, resume=resume, force=force):
        return None
    from aes_dynloss.essays.ensembles.ensemble import needs_torch
    from aes_dynloss.essays.model.model_folder import CONFIG
    from aes_dynloss.essays.model.prompt_scales import linear_tables
    from aes_dynloss.essays.model.sharing import locate_model
    from aes_dynloss.essays.scoring import part_folder
    from aes_dynloss.essays.scoring.audit import ScoreAudit
    from aes_dynloss.essays.scoring.part_tables import list_parts
    from aes_dynloss.essays.scoring.run import ReviewSheet, ScoreOptions
    from aes_dynloss.essays.scoring.score import texts_of, warn_unless_screened
    from aes_dynloss.tables.atomic import file_sha256
    from aes_dynloss.tables.provenance import Provenance

    parts, local = list_parts(folder), locate_model(model)
    with _engine(engine, address, gpus=needs_torch(local) and not cpu) as run:
        digest = file_sha256(local / CONFIG)
        scorer = part_folder.open_once(model, digest, precision, cpu, force_precision)
        warn_unless_screened(scorer)
        chosen = chosen.of(texts_of(scorer))
        tables = linear_tables(scorer.prompts, scales)
        sheet = None if review is None or sheet_form is None else ReviewSheet(review, sheet_form, uncertain)
        scoring = part_folder.FolderScoring(
            model=model,
            digest=digest,
            output=output,
            reading=_reading(parts, scorer.own_features, keep=keep_columns, **layout),
            options=ScoreOptions(chosen, coverage, probabilities, precision, keep_columns, long, tables, ood_distance),
            form=form,
            review=sheet,
            audit=ScoreAudit.into(audit, local, chosen, digest),
            cpu=cpu,
            force_precision=force_precision,
        )
        made = Provenance.now((), digest)
        return part_folder.score_folder(scoring, parts, run, made, resume=resume, force=force), sheet


def _check_options(of_one_table: Mapping[str, Any], form: str | None) -> None:
    from aes_dynloss.essays.scoring.output import PLATFORMS

    given = [_OF_ONE_TABLE[name] for name, value in of_one_table.items() if value]
    if form in PLATFORMS:
        given.insert(0, f"--format {form}")
    if given:
        raise ConfigError(
            f"{given[0]} is for one table, and INPUT is a folder of them. Leave it out, or name one table."
        )


def _check_apart(folder: Path, output: Path, review: Path | None, audit: Path | None) -> None:
    """Refuse an output that is no folder, and one in another: what is written would be read as a part one day."""
    from aes_dynloss.tables.formats import SUFFIXES

    if str(output) == "-" or output.name in {"", ".."} or output.suffix.lower() in SUFFIXES or output.is_file():
        raise ConfigError(
            f"INPUT {folder} is a folder of tables, and their scores go to a folder, not to {output}. Name one with "
            "--output."
        )
    for option, path in {"--output": output, "--review": review, "--audit": audit}.items():
        for other, place in {"INPUT": folder, "--output": output}.items():
            # Path.resolve raises RuntimeError for a link to itself.
            inside = path is not None and Path(os.path.realpath(path)).is_relative_to(os.path.realpath(place))
            if inside and option != other:
                raise ConfigError(f"{option} {path} is {other}, or lies in it. Name another place with {option}.")
    check_apart({"--review": review, "--audit": audit}, {})


def _is_complete(output: Path, review: Path | None, *, resume: bool, force: bool) -> bool:
    """Whether --resume has nothing left to do; a folder that would be mixed with another run's is refused."""
    from aes_dynloss.essays.scoring.resume import remove_leftovers, unfinished
    from aes_dynloss.tables.provenance import provenance_path

    if resume and force:
        raise ConfigError("--resume resumes a run and --force begins it again; give one of them.")
    stopped = unfinished(output)
    complete = resume and not stopped and output.is_dir() and provenance_path(output).exists()
    if output.is_dir() and any(output.iterdir()) and not (force or stopped or complete):
        raise ConfigError(f"{output} is there already. Choose another --output, or replace it by --force.")
    if review is not None:
        check_path("--review", review, (), force or complete or (resume and stopped))
        if complete and not review.exists():
            raise ConfigError(f"{output} is complete, but there is no {review}. Score again with --force for both.")
    if complete:
        remove_leftovers(output)
        logger.info("%s is complete; INPUT was not looked at. --force scores it anew.", output)
    return complete


def _reading(
    parts: Sequence[Path],
    features: Sequence[str],
    *,
    keep: bool,
    prompt: str | None,
    encoding: str,
    quoting: Literal["minimal", "none"],
    **named: str | None,
) -> Reading:
    """How all parts are read: by the options, and with the columns of the first one that has rows."""
    from aes_dynloss.essays.data.data_config import Columns
    from aes_dynloss.essays.scoring.part_tables import Reading, first_columns

    columns = {name: column for name, column in named.items() if column is not None}
    reading = Reading(Columns(), prompt, encoding, quoting, tuple(features), keep)
    return first_columns(parts, columns, partial(click.echo, err=True), reading)


@contextmanager
def _engine(name: str, address: str | None, *, gpus: bool) -> Iterator[Engine]:
    """What maps a function over the parts."""
    if name == "local":
        yield map
        return
    from aes_dynloss.training.ray_cluster import connected_ray, map_on_ray

    with connected_ray(address) as ray:
        yield partial(map_on_ray, ray, gpus=1.0 if gpus and ray.cluster_resources().get("GPU") else 0.0)
