"""``aes-dynloss explain``."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aes_dynloss.cli.options import (
    FOLDER,
    MODEL,
    check_sources,
    coverage_option,
    cpu_option,
    essay_input_options,
    is_given,
    read_essays,
)
from aes_dynloss.errors import ConfigError, DataError

if TYPE_CHECKING:
    from aes_dynloss.essays.data.readers import UnscoredEssay
    from aes_dynloss.essays.model.protocol import Scorer

logger = logging.getLogger(__name__)
CHECK = "check.json"
# Options of explanations, by their parameters' names, which --check has no use for.
_OF_PAGES = {
    "--exact": "exact",
    "--feedback": "dialect",
    "--language": "language",
    "--no-neighbours": "no_neighbours",
    "--coverage": "coverage",
}


@click.command()
@click.argument("model", type=MODEL)
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@essay_input_options
@click.option(
    "--output-dir", "-o", type=FOLDER, required=True, help="Write index.html, essays/ and explanations.jsonl here."
)
@click.option("--essays", "ids", metavar="ID,ID", help="Explain these essays only.")
@click.option("--trait", "traits", multiple=True, metavar="NAME", help="Explain this trait only; may be repeated.")
@click.option(
    "--exact",
    is_flag=True,
    help="Read each essay anew without each sentence. Else an encoder reads it once, which takes a fifth of the time.",
)
@click.option("--no-neighbours", is_flag=True, help="Do not look for the nearest training essays.")
@click.option("--language", default="en", metavar="CODE", help="ISO 639 code of the essays' language.")
@click.option(
    "--feedback",
    "dialect",
    metavar="DIALECT",
    help="Add remarks on spelling and grammar: american, australian, british, canadian or indian English.",
)
@click.option(
    "--check",
    is_flag=True,
    help=f"Test the explanations instead, on some essays of each prompt: {CHECK}, and a table. An hour for 90 essays.",
)
@click.option("--most", type=click.IntRange(min=1), default=30, help="With --check: essays of a prompt, at most.")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="With --check: of the draw and of random orders.")
@coverage_option
@click.option("--resume", is_flag=True, help="Go on with a run that was stopped.")
@click.option("--force", is_flag=True, help="Overwrite existing files.")
@cpu_option
def explain(
    *,
    model: Path,
    inputs: tuple[str, ...],
    output_dir: Path,
    ids: str | None,
    traits: tuple[str, ...],
    exact: bool,
    no_neighbours: bool,
    language: str,
    dialect: str | None,
    check: bool,
    most: int,
    seed: int,
    coverage: float,
    resume: bool,
    force: bool,
    cpu: bool,
    **layout: Any,  # noqa: ANN401 - of essay_input_options
) -> None:
    """Explain the scores of INPUT's essays by MODEL: what each sentence and each group of features adds.

    A page an essay with its sentences tinted, an index that can be searched, and a line of JSON an essay.
    """
    check_sources(inputs)
    wanted = None if ids is None else _listed(ids)
    _refuse_unfit(output_dir, check=check, resume=resume, force=force)
    from aes_dynloss.essays.ensembles.ensemble import open_scorer
    from aes_dynloss.essays.explaining.explanation import check_options
    from aes_dynloss.essays.model.model_folder import CONFIG
    from aes_dynloss.essays.model.sharing import locate_model
    from aes_dynloss.tables.atomic import file_sha256
    from aes_dynloss.tables.provenance import Provenance, sealed
    from aes_dynloss.training.accelerator import plain_accelerator

    accelerator = plain_accelerator(cpu=cpu)
    if accelerator.num_processes > 1:
        raise ConfigError("aes-dynloss explain is one process. Start it without a launcher.")
    folder = locate_model(model)
    scorer = open_scorer(folder, accelerator)
    check_options(scorer, traits, language, dialect)
    digest = file_sha256(folder / CONFIG)
    made = Provenance.now(map(Path, inputs), digest)
    essays = read_essays(inputs, 1, scorer.own_features, **layout)
    chosen = essays if wanted is None else _named(essays, wanted)
    if check:
        with sealed(made, output_dir, names=[CHECK]):
            _check(scorer, chosen, output_dir, most=most, seed=seed, traits=traits)
        return
    from aes_dynloss.essays.explaining.run import INDEX, explain_to_folder

    options = {
        "exact": exact,
        "traits": traits,
        "coverage": coverage,
        "language": language,
        "dialect": dialect,
        "nearest": not no_neighbours,
    }
    name = model.absolute().parent.name if model.name == "model" else model.absolute().name
    known: dict[str, Any] = {"model": name, "model_digest": digest, "made": made}
    count = explain_to_folder(scorer, chosen, output_dir, options, **known, resume=resume, force=force)
    if count is None:
        logger.info("%s is complete; INPUT was not looked at. --force explains it anew.", output_dir)
    else:
        logger.info("Explained %d essays: %s.", count, output_dir / INDEX)


def _refuse_unfit(output_dir: Path, *, check: bool, resume: bool, force: bool) -> None:
    """Refuse options that exclude each other, and a file that is in the way."""
    if resume and (force or check):
        other = "force" if force else "check"
        raise ConfigError(f"--resume goes on with a run, --{other} begins one. Give one of them.")
    unfit = [option for option, name in _OF_PAGES.items() if is_given(name)]
    if check and unfit:
        raise ConfigError(f"--check tests both ways to explain and writes no pages: leave out {', '.join(unfit)}.")
    if check and not force and (output_dir / CHECK).exists():
        raise ConfigError(f"{output_dir / CHECK} is there already. Choose another --output-dir, or give --force.")


def _listed(ids: str) -> list[str]:
    """The ids of --essays."""
    listed = list(dict.fromkeys(filter(None, (one.strip() for one in ids.split(",")))))
    if not listed:
        raise ConfigError("--essays names no essay. Give ids with commas between them, such as 17,23.")
    return listed


def _check(
    scorer: Scorer, essays: Iterator[UnscoredEssay], folder: Path, *, most: int, seed: int, traits: tuple[str, ...]
) -> None:
    """Test a scorer's explanations, and show and keep what comes of it."""
    from aes_dynloss.essays.explaining.check import check_scorer, check_table
    from aes_dynloss.reports.prompts import write_report
    from aes_dynloss.reports.table import text_table

    tested = check_scorer(scorer, essays, most=most, seed=seed, traits=traits, progress=True)
    write_report(tested.to_dict(), folder / CHECK)
    click.echo("\n".join(text_table(check_table(tested))))


def _named(essays: Iterator[UnscoredEssay], ids: list[str]) -> Iterator[UnscoredEssay]:
    """The essays of these ids, as they come; all of them must be there before the first is given."""
    found = [essay for essay in essays if essay.essay_id in ids]
    known = {essay.essay_id for essay in found}
    missing = [one for one in ids if one not in known]
    if missing:
        raise DataError(f"--essays: there is no essay {', '.join(missing)} in INPUT. Look at the column of ids.")
    yield from found
