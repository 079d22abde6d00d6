"""``aes-dynloss calibrate``: another post-processing, or a reported scale, for a run that is done."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from aes_dynloss.cli.options import EXISTING, FILE
from aes_dynloss.errors import ConfigError

if TYPE_CHECKING:
    from aes_dynloss.essays.model.prompt_scales import Rule
    from aes_dynloss.reports.model import Report


@click.command()
@click.argument("run", type=FILE, metavar="RUN")
@click.option(
    "--postprocessing",
    "rule",
    type=click.Choice(["rescale", "cut_points", "none"]),
    help="From raw predictions to scores.  [default: the model's own, fitted again]",
)
@click.option(
    "--on",
    type=FILE,
    metavar="FILE",
    help="Fit it on these predictions with human scores (essay_id, prompt_id, reference, raw) of other essays.  "
    "[default: what the run fitted it on]",
)
@click.option(
    "--scale",
    "scales",
    multiple=True,
    metavar="[ID=]LOW:HIGH[:STEP]|FILE|none",
    help="Scale on which scores are reported beside the score points: a line from the prompt's range, or a table with "
    "the columns score, reported and, if it is not for all prompts, prompt_id. Post-processing stays.",
)
@click.option(
    "--reference-form",
    "form",
    type=EXISTING,
    help="Report scores on the scale of this form: a table of its scores, column score and perhaps prompt_id, to which "
    "the run's are equated (equipercentile).",
)
@click.option(
    "--smoothing",
    type=click.IntRange(1, 10),
    metavar="MOMENTS",
    help="With --reference-form: smooth both distributions first (log-linear), so that so many of their moments stay.",
)
def calibrate(
    run: Path,
    rule: Rule | None,
    on: Path | None,
    scales: tuple[str, ...],
    form: Path | None,
    smoothing: int | None,
) -> None:
    """Change how a finished RUN makes scores of its raw predictions; nothing is trained, no essay is read.

    RUN is a folder that finetune or ensemble wrote. Model, predictions, report and model card are rewritten together.
    With --scale or --reference-form the model gets a reported scale, and nothing else changes; RUN may be a model too.
    """
    if not run.is_dir():
        raise ConfigError(f"There is no folder {run}. Name one that finetune or ensemble wrote.")
    if on is not None and not on.is_file():
        raise ConfigError(f"--on: there is no file {on}. Name a table of predictions with human scores.")
    if smoothing is not None and form is None:
        raise ConfigError("--smoothing is of the scores that --reference-form equates. Give both.")
    if scales or form is not None:
        if rule is not None or on is not None or (scales and form is not None):
            raise ConfigError(
                "--scale and --reference-form each go alone: they set the reported scale of the scores that "
                "--postprocessing and --on make. Call calibrate twice."
            )
        from aes_dynloss.essays.ensembles.reported_scale import calibrate_scale

        tables = calibrate_scale(run if form is not None else _whole(run), scales, form, smoothing)
        for prompt, table in tables.items():
            click.echo(f"{prompt}: {', '.join(f'{value:g}' for value in table.reported)}")
        click.echo(f"{run}: {'scores are reported on a scale' if tables else 'there is no reported scale'}.", err=True)
        return
    from aes_dynloss.essays.ensembles.calibrating import calibrate_folder
    from aes_dynloss.essays.finetune.calibration import Recalibration

    made = calibrate_folder(run, rule, on)
    if isinstance(made, Recalibration):
        click.echo("\n".join(_figures(made.before, made.after)))
    fitted = "" if made.rule == "none" else f" fitted on {made.fitted_on}"
    click.echo(f"{run}: scores are now by {made.rule}{fitted}.", err=True)


def _whole(folder: Path) -> Path:
    """The run that a model is part of, whose files and what tells where they come from are rewritten together."""
    from aes_dynloss.tables.provenance import PROVENANCE

    here = folder.resolve()
    in_run = here.name == "model" and not (here / PROVENANCE).exists() and (here.parent / PROVENANCE).exists()
    return here.parent if in_run else folder


def _figures(before: Report, after: Report) -> list[str]:
    """QWK before and after, prompt by prompt and in the mean."""
    from aes_dynloss.reports.table import aligned, figure_words, signed_words

    rows = [("prompt", "n", "QWK before", "after", "change")]
    entries = [(name, str(entry.n), before.prompts[name].qwk, entry.qwk) for name, entry in after.prompts.items()]
    for name, n, old, new in (*entries, ("mean", "", before.mean.qwk, after.mean.qwk)):
        change = "" if old is None or new is None else signed_words(new - old)
        rows.append((name, n, figure_words(old), figure_words(new), change))
    return aligned(list(zip(*rows, strict=True)))
