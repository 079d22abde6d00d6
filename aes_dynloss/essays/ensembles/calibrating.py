"""``aes-dynloss calibrate`` of whatever finetune and ensemble write: a run, or an ensemble."""

from __future__ import annotations

from pathlib import Path

from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.essays.ensembles.cross_fitted import write_ensemble_report
from aes_dynloss.essays.ensembles.ensemble import EssayEnsemble
from aes_dynloss.essays.finetune.calibrate import calibrate_run, chosen_rule, rewritten
from aes_dynloss.essays.finetune.calibration import Fit, Recalibration, fit_on, recalibrate
from aes_dynloss.essays.finetune.reported import with_reported, write_reported
from aes_dynloss.essays.model.model_folder import CONFIG, ENSEMBLE_FORMAT, FORMAT, read_config
from aes_dynloss.essays.model.prompt_scales import Rule
from aes_dynloss.reports.report_files import REPORT
from aes_dynloss.training.run_folder import held_folder


def calibrate_folder(folder: Path, rule: Rule | None = None, on: Path | None = None) -> Fit:
    """Give a run or an ensemble another post-processing; its folder is the old one or the new one, whole.

    Args:
        folder: What ``finetune`` or ``ensemble`` wrote.
        rule: none, rescale or cut_points; None: that of the model, fitted again.
        on: A table of predictions with human scores to fit it on; None: what it was fitted on, which an ensemble has
            only if its members are cross-fitted runs.

    Raises:
        AesDynlossError: The folder holds nothing of the kind or not what was written, or ``on`` does not serve.
    """
    if not (folder / CONFIG).is_file():
        return calibrate_run(folder, rule, on)
    if read_config(folder, FORMAT, ENSEMBLE_FORMAT)["format"] == FORMAT:
        raise ConfigError(
            f"{folder} holds a model alone, without the predictions that post-processing is fitted on. Name the run's "
            f"own folder{f', {folder.parent}' if (folder.parent / REPORT).is_file() else ''}."
        )
    return _calibrate_ensemble(folder, rule, on)


def _calibrate_ensemble(folder: Path, rule: Rule | None, on: Path | None) -> Fit:
    from accelerate import Accelerator

    is_measured = (folder / REPORT).is_file()
    if on is None and not is_measured:
        raise DataError(
            f"The ensemble {folder} is not of cross-fitted runs, so its folder holds no predictions to fit on. Name a "
            "table of its predictions with human scores with --on, or make it again by `aes-dynloss ensemble "
            "--postprocessing`."
        )
    with held_folder(folder):
        ensemble = EssayEnsemble.from_pretrained(folder, accelerator=Accelerator(cpu=True))  # nothing is computed here
        asked = chosen_rule(folder, rule, ensemble.postprocessing.kind, on)
        made: Fit
        if on is None or is_measured:
            made = recalibrate(folder, ensemble.prompts, asked, on, probabilities=False)
        else:
            made = fit_on(on, asked, ensemble.prompts, probabilities=False)
        ensemble.postprocessing = made.calibration.postprocessing.on_scale_of(ensemble.postprocessing)
        ensemble.intervals, ensemble.certainty = made.calibration.intervals, made.calibration.certainty
        ensemble.calibrated.append({**made.record, "fitted_on": made.fitted_on})
        with rewritten(folder, [on]) as new:
            if isinstance(made, Recalibration):
                made.write(new)
                tables = ensemble.postprocessing.reported
                write_reported(new, ensemble.prompts, tables)
                report = with_reported(made.after, ensemble.prompts, tables)
                write_ensemble_report(report, new, folder.absolute().name)
            ensemble.write_description(new)
    return made
