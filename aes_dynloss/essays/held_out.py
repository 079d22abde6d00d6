"""Whether the essays that a run is measured on were held out of the run whose weights it starts with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from aes_dynloss.essays.data.essay_table import EssayTable
from aes_dynloss.essays.model.warm_start import MODEL, WarmStart
from aes_dynloss.evaluation.table_files import read_cells

PREDICTIONS_DEV, PREDICTIONS_TEST = "predictions_dev.csv", "predictions_test.csv"
# In which parts of the first run an essay may have been, to be new to its weights and to their choice.
_CLEAN = {"dev": (PREDICTIONS_DEV, PREDICTIONS_TEST), "test": (PREDICTIONS_TEST,)}


def contamination_notes(start: WarmStart | None, parts: Mapping[str, EssayTable]) -> list[str]:
    """Words on dev and test essays that the first model may have been trained on, or chosen by.

    A run does not keep the ids that it was trained on; but of a prompt that it knows, an essay which is not among its
    held-out predictions may have been.

    Args:
        start: The first model, if there is one.
        parts: This run's essays by part.

    Returns:
        A note for each part with such essays.

    Raises:
        DataError: The first run's predictions are damaged.
    """
    if start is None:
        return []
    prompts = {scale.prompt.id for scale in start.model.scales}
    run = start.folder.parent if start.folder.name == MODEL else None
    notes = []
    for name, clean in _CLEAN.items():
        if name not in parts:
            continue
        part = parts[name]
        essays = [key for key in zip(part.values("prompt_id"), part.essay_ids, strict=True) if key[0] in prompts]
        held_out = {key for file in clean if run is not None for key in _essays_of(run / file)}
        doubtful = [essay for prompt, essay in essays if (prompt, essay) not in held_out]
        if doubtful:
            notes.append(
                f"{len(doubtful)} of {len(part)} {name} essays, such as {doubtful[0]}, are not known to be held out of "
                "the run whose weights this one starts with: it may have been trained on them, and then the figures "
                "flatter. Split both runs by the same files (data.split), and start from the run's own folder."
            )
    return notes


def _essays_of(path: Path) -> set[tuple[str, str]]:
    """Prompt and id of the essays of a file of predictions; none where it is not there."""
    if not path.exists():
        return set()
    cells = read_cells(path)
    return set(zip(cells["prompt_id"].astype(str), cells["essay_id"].astype(str), strict=True))
