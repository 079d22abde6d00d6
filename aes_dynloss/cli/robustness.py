"""``aes-dynloss robustness``: scores before and after changes that should lower them, or leave them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aes_dynloss.cli.options import (
    EXISTING,
    FOLDER,
    MODEL,
    check_sources,
    comma_separated,
    cpu_option,
    essay_input_options,
    list_option,
    read_essays,
)
from aes_dynloss.errors import ConfigError, DataError

if TYPE_CHECKING:
    from aes_dynloss.essays.data.readers import UnscoredEssay

RESULT, TABLE, PAGE = "robustness.json", "robustness.csv", "robustness.html"


def _titles() -> list[tuple[str, str]]:
    from aes_dynloss.essays.perturbing.perturbations import PERTURBATIONS
    from aes_dynloss.reports.robustness import EXPECTATIONS

    return [(name, f"{kind.title} ({EXPECTATIONS[kind.expected]})") for name, kind in PERTURBATIONS.items()]


@click.command()
@click.argument("model", type=MODEL)
@click.argument("data", metavar="DATA")
@essay_input_options
@click.option(
    "--kinds",
    metavar="KIND,...",
    callback=comma_separated,
    help="Kinds of change, separated by commas; --list shows them.  [default: all]",
)
@list_option(_titles, "List the kinds of change, and exit.")
@click.option(
    "--ids",
    type=EXISTING,
    help="File of essay ids, one per line, such as a fold's test_ids.txt: only these are used.  [default: all]",
)
@click.option(
    "--keep-prompts",
    metavar="ID,...",
    callback=comma_separated,
    help="Prompts whose essays are used; others are left out.  [default: all]",
)
@click.option("--most", type=click.IntRange(min=1), default=100, help="Maximum number of essays drawn per prompt.")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Seed of the sample and the changes.")
@click.option(
    "--prompts",
    type=EXISTING,
    help="YAML or JSON file with the prompts' own words: {ID: {text: ...}}.  [default: those stored in the model]",
)
@click.option(
    "--output-dir",
    "-o",
    type=FOLDER,
    help=f"Write {PAGE}, {RESULT} and {TABLE}, with results by prompt, into this folder.",
)
@click.option("--force", is_flag=True, help="Overwrite existing files.")
@click.option("--json", "as_json", is_flag=True, help=f"Print {RESULT} instead of the table.")
@cpu_option
def robustness(
    *,
    model: Path,
    data: str,
    kinds: list[str] | None,
    ids: Path | None,
    keep_prompts: list[str] | None,
    most: int,
    seed: int,
    prompts: Path | None,
    output_dir: Path | None,
    force: bool,
    as_json: bool,
    cpu: bool,
    **layout: Any,  # noqa: ANN401 - of essay_input_options
) -> None:
    """Measure how often MODEL is fooled: its scores for the essays of DATA before and after changes.

    Changes such as nonsense, another prompt's essay, repetition or shuffled words should lower a score, or at least not
    raise it; synonyms or capitals should leave it. DATA is what `aes-dynloss score` reads; human scores are not needed.
    """
    from aes_dynloss.essays.perturbing.perturbations import check_kinds

    check_sources([data])
    # Heavy imports here keep --help and usage errors fast.
    import pandas as pd

    from aes_dynloss.reports.page import write_page
    from aes_dynloss.reports.prompts import report_json, write_report
    from aes_dynloss.reports.report_files import refuse_existing
    from aes_dynloss.reports.robustness import robustness_page, robustness_rows, robustness_text
    from aes_dynloss.tables.formats import write_table
    from aes_dynloss.tables.provenance import Provenance, sealed

    if kinds is not None:
        check_kinds(kinds)
        if not kinds:
            raise ConfigError("--kinds names no kind of change. Name one at least; --list shows them.")
    if output_dir is not None and not force:
        refuse_existing(output_dir, (RESULT, TABLE, PAGE))
    prompt_texts = _prompt_texts(prompts) if prompts is not None else {}
    from aes_dynloss.essays.ensembles.ensemble import open_scorer
    from aes_dynloss.essays.model.model_folder import CONFIG
    from aes_dynloss.essays.model.sharing import locate_model
    from aes_dynloss.essays.robustness import measure_robustness
    from aes_dynloss.tables.atomic import file_sha256
    from aes_dynloss.training.accelerator import plain_accelerator

    # In the precision of the environment: scores are compared with others in the same one.
    accelerator = plain_accelerator(cpu=cpu, mixed_precision=None)
    scorer = open_scorer(model, accelerator)
    stream = read_essays([data], accelerator.num_processes, scorer.own_features, **layout)
    essays = list(stream)
    essays = essays if ids is None else _named_essays(essays, ids)
    essays = essays if keep_prompts is None else _kept_essays(essays, keep_prompts)
    measured = measure_robustness(scorer, essays, kinds=kinds, seed=seed, most=most, prompt_texts=prompt_texts)
    if not accelerator.is_main_process:
        return
    if output_dir is not None:
        name = model.absolute().parent.name if model.name == "model" else model.absolute().name
        sources = [Path(data), model, *([] if prompts is None else [prompts])]
        made = Provenance.now(sources, file_sha256(locate_model(model) / CONFIG))
        page = robustness_page(measured, title=f"Robustness of {name}", about=made.about())
        with sealed(made, output_dir, names=(RESULT, TABLE, PAGE)):
            # The table and the page first: the result marks them complete.
            write_table(pd.DataFrame(robustness_rows(measured)), output_dir / TABLE)
            write_page(page, output_dir / PAGE)
            write_report(measured, output_dir / RESULT)
        click.echo(f"Wrote {output_dir / RESULT}, {output_dir / TABLE} and {output_dir / PAGE}", err=True)
    click.echo(report_json(measured) if as_json else robustness_text(measured), nl=not as_json)


def _prompt_texts(path: Path) -> dict[str, str]:
    """The words of prompts by id, under the key text or prompt, or alone; entries without are of no use here."""
    from aes_dynloss.configfile import read_mapping

    texts = {}
    for prompt, entry in read_mapping(path).items():
        text = entry.get("text", entry.get("prompt")) if isinstance(entry, dict) else entry
        if text is not None and not isinstance(text, str):
            raise ConfigError(f"--prompts {path}: the text of prompt {prompt} is no text. Write it in quotation marks.")
        if text is not None:
            texts[str(prompt)] = text
    if not texts:
        raise ConfigError(f"--prompts {path}: there is no text of a prompt in it. Write {{ID: {{text: ...}}}}.")
    return texts


def _named_essays(essays: list[UnscoredEssay], path: Path) -> list[UnscoredEssay]:
    """The essays that a file names, all of which must be there."""
    from aes_dynloss.essays.data.sources import ids_in

    wanted = set(ids_in(path))
    missing = sorted(wanted - {essay.essay_id for essay in essays})
    if missing or not wanted:
        fault = f"{len(missing)} that are not there, such as {missing[0]}" if missing else "none"
        raise DataError(f"--ids {path}: expected ids of essays of the data, found {fault}. Are they of other data?")
    return [essay for essay in essays if essay.essay_id in wanted]


def _kept_essays(essays: list[UnscoredEssay], prompts: list[str]) -> list[UnscoredEssay]:
    """The essays to some prompts, each of which must have one."""
    known = dict.fromkeys(str(essay.prompt_id) for essay in essays)
    missing = [prompt for prompt in prompts if prompt not in known]
    if missing or not prompts:
        fault = f"{missing[0]!r}, which has no essay" if missing else "none"
        raise DataError(f"--keep-prompts: expected prompts out of {', '.join(known)}, found {fault}.")
    return [essay for essay in essays if essay.prompt_id in prompts]
