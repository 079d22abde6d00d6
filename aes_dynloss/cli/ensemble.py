"""``aes-dynloss ensemble``: several runs' models as one."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from aes_dynloss.cli.options import FILE, MODEL
from aes_dynloss.errors import ConfigError

if TYPE_CHECKING:
    from aes_dynloss.essays.model.prompt_scales import Rule

logger = logging.getLogger(__name__)


@click.command()
@click.argument("runs", type=MODEL, nargs=-1, required=True, metavar="RUN RUN [RUN ...]")
@click.option("--output-dir", "-o", type=FILE, required=True, help="Folder of the ensemble, for `score`.")
@click.option(
    "--weights",
    type=click.Choice(["equal", "nnls"]),
    default="equal",
    help="Of the RUNs: equal; or non-negative ones by prompt (stacking), fitted on out-of-fold predictions, or on dev "
    "where a RUN has none. The RUNs must have one split.",
)
@click.option(
    "--postprocessing",
    type=click.Choice(["none", "rescale", "cut_points"]),
    default="none",
    help="From the mean to a score: rounded, or rescaled or cut as fitted on essays that are dev in every RUN, or on "
    "those that --weights nnls is fitted on.",
)
@click.option("--force", is_flag=True, help="Replace an existing model.")
def ensemble(
    runs: tuple[Path, ...],
    output_dir: Path,
    weights: Literal["equal", "nnls"],
    postprocessing: Rule,
    force: bool,
) -> None:
    """Make one model of the models of several RUNs, such as seeds or folds: it scores by the mean of their raw scores.

    A RUN is a folder that finetune wrote, or its model/. The models are copied, and `aes-dynloss score` takes the new
    folder like any model. It scores the prompts that all of them know. Cross-fitted RUNs (data.split.cross_fit) must
    have the same parts: then the folder has out-of-fold predictions and a report too, for `compare` and `calibrate`.
    """
    if not force and output_dir.exists() and not (output_dir.is_dir() and not any(output_dir.iterdir())):
        raise ConfigError(f"{output_dir} is there already. Choose another --output-dir, or replace it by --force.")
    target = Path(os.path.realpath(output_dir))  # Path.resolve raises RuntimeError for a link to itself
    for run in runs:
        source = Path(os.path.realpath(run))
        if source.is_relative_to(target) or source / "model" == target:
            raise ConfigError(
                f"--output-dir {output_dir} holds the RUN {run}, which would be lost. Choose another --output-dir."
            )
    from accelerate import Accelerator

    from aes_dynloss.essays.ensembles.ensembling import measured_ensemble
    from aes_dynloss.reports.report_files import REPORT
    from aes_dynloss.reports.table import figure_words
    from aes_dynloss.tables.provenance import Provenance, seal

    accelerator = Accelerator(cpu=True)  # nothing is computed here
    if not accelerator.is_main_process:
        return
    made, figures = measured_ensemble(runs, postprocessing, weights, accelerator=accelerator)
    name = output_dir.absolute().name
    origin = Provenance.now(runs)
    made.save_pretrained(output_dir, figures=None if figures is None else lambda folder: figures.write(folder, name))
    seal(output_dir, origin)  # the folder is a new one, in which nothing was told yet
    prompts = f"the prompt{'s' if len(made.prompts) > 1 else ''} {', '.join(made.prompts)}"
    logger.info("Ensemble: %s, %d members, for %s.", output_dir, len(made.members), prompts)
    if figures is not None:
        logger.info("Out of fold, its mean QWK is %s: %s.", figure_words(figures.report.mean.qwk), output_dir / REPORT)
