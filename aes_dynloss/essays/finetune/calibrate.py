"""``aes-dynloss calibrate`` of a run: model folder, predictions, report and manifest with another post-processing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from aes_dynloss.configfile import read_mapping, validate
from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.essays.finetune.calibration import Recalibration, recalibrate
from aes_dynloss.essays.finetune.config import FinetuneConfig
from aes_dynloss.essays.finetune.held_out import OUT_OF_FOLD
from aes_dynloss.essays.finetune.products import model_card, write_run_report
from aes_dynloss.essays.finetune.reported import with_reported, write_reported
from aes_dynloss.essays.model.model_folder import MODEL, read_fitted, set_calibration
from aes_dynloss.essays.model.prompt_scales import AskedRule, Rule
from aes_dynloss.reports.report_files import REPORT
from aes_dynloss.tables.atomic import atomic_copy, file_sha256
from aes_dynloss.tables.provenance import Provenance, files_of, seal
from aes_dynloss.training.run_folder import CONFIG, MANIFEST, held_folder


def calibrate_run(run: Path, rule: Rule | None = None, on: Path | None = None) -> Recalibration:
    """Give a run that is done another post-processing; its folder is the old one or the new one, whole.

    Post-processing is fitted on what the run itself fitted it on: predictions of dev, of train essays each made without
    it, or, of a cross-fitted run, all out-of-fold predictions; then the scores of each part are by one that was fitted
    without the part's essays. config.yaml stays what the run was made with.

    Args:
        run: Folder of a run of finetune.
        rule: none, rescale or cut_points; None: that of the model, fitted again.
        on: A table of predictions with human scores to fit it on instead, intervals and certainty too. Its essays are
            new to the run's figures and to the model, as far as the run knows what that was trained on.

    Raises:
        AesDynlossError: The folder holds no complete run, or not what the run wrote, or ``on`` does not serve.

    Example:
        >>> done = calibrate_run(Path("runs/first"), "rescale")  # doctest: +SKIP
        >>> done.before.mean.qwk, done.after.mean.qwk  # doctest: +SKIP
        (0.404, 0.502)
    """
    for name in (CONFIG, MANIFEST, MODEL, REPORT):
        if not (run / name).exists():
            raise DataError(
                f"{run} holds no complete run: it lacks {name}. Name the folder that `aes-dynloss finetune` wrote "
                "(--output-dir), or go on with a stopped run by --resume."
            )
    with held_folder(run):
        config = validate(FinetuneConfig, read_mapping(run / CONFIG), str(run / CONFIG))
        fitted = read_fitted(run / MODEL)
        if fitted.config.kind == "transfer":
            raise ConfigError(
                f"The model of {run} is of kind transfer, which sets the level of each prompt's scores itself. Give it "
                "scored essays of the prompt instead: aes-dynloss score --target-labels FILE."
            )
        prompts = {scale.prompt.id: scale.prompt for scale in fitted.scales}
        asked = chosen_rule(run, rule, fitted.config.postprocessing, on)
        has_chances = fitted.config.kind == "encoder" and fitted.config.head != "regression"
        made = recalibrate(run, prompts, asked, on, probabilities=has_chances)
        if config.data.untrusted == "standardise" and on is None and OUT_OF_FOLD in made.predictions:
            raise DataError(
                f"{run} has learned from standardised scores (data.untrusted), and was post-processed by them, but "
                "its predictions hold those that humans gave. Name a table of predictions with --on."
            )
        with rewritten(run, [on]) as new:
            manifest = made.write(new)
            calibration = made.calibration
            way = calibration.postprocessing.on_scale_of(fitted.postprocessing)
            write_reported(new, prompts, way.reported)
            report = with_reported(made.after, prompts, way.reported)
            card = model_card(config, prompts, made.after, way, made.fitted_on, manifest)
            set_calibration(new / MODEL, asked, way, calibration.intervals, calibration.certainty, card)
            write_run_report(config, report, new, run.absolute().name, manifest)
    return made


def chosen_rule(folder: Path, rule: Rule | None, own: AskedRule, on: Path | None) -> AskedRule:
    """The rule that is asked for, else the model's own, unless there is nothing to fit.

    Args:
        folder: Of the model, for the message.
        rule: What is asked for.
        own: The model's.
        on: A table to fit it on.

    Raises:
        ConfigError: The model plainly rounds, and nothing else is asked for.
    """
    if rule is None and on is None and own == "none":
        raise ConfigError(
            f"The model of {folder} plainly rounds its raw predictions, so there is nothing to fit again. Name "
            "--postprocessing rescale or cut_points."
        )
    return rule or own


@contextmanager
def rewritten(folder: Path, sources: Sequence[Path | None] = ()) -> Iterator[Path]:
    """A copy of a folder to change, which takes its place as a whole when the block ends without an error.

    It then tells where the files that were changed come from; what was told of the others stays.

    Args:
        folder: The folder.
        sources: Files that the changes are made from; None for none.

    Raises:
        DataError: The folder cannot be written.
    """
    try:
        with atomic_copy(folder) as new:
            yield new
            changed = [name for name in files_of(new) if not _is_same(folder / name, new / name)]
            seal(new, Provenance.now(path for path in sources if path is not None and path.is_file()), changed)
    except OSError as error:
        raise DataError(
            f"{folder} cannot be replaced: {error.strerror or error}. It is as it was; its parent folder needs room, "
            "and the right to write there."
        ) from error


def _is_same(before: Path, after: Path) -> bool:
    return before.is_file() and (before.samefile(after) or file_sha256(before) == file_sha256(after))
