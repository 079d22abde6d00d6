"""Measure the advisory unlike_training: how many real essays it flags, and how many essays on other prompts.

    python recipes/benchmarks/unlike_training.py runs/asap_minilm/cells/minilm_frozen/fold_0/seed_0 --results FILE

Takes a run on ASAP whose model is kept (``keep_models=true``): its test essays are held against what the model knows of
their own prompt and of every other one; ``withheld`` counts all kinds of advisories under the default policy. Prints
the table of the README.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from result_table import result_table

from aes_dynloss.essays.data.data_config import DataConfig
from aes_dynloss.essays.data.readers import read_essays
from aes_dynloss.essays.model.examples import EssayExamples
from aes_dynloss.essays.model.ood_distance import Vectors
from aes_dynloss.essays.model.scorer import EncoderScorer
from aes_dynloss.essays.screening.kinds import Policy
from aes_dynloss.tables.atomic import atomic_file
from aes_dynloss.training.prediction import predict


def ood_distance(scorer: EncoderScorer, texts: list[str]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Of each essay, against each prompt of the model, (N, P); above 1 is flagged."""
    import torch

    screening = scorer.screening
    if screening is None:
        raise SystemExit("The model has learned nothing of its training essays: train it with this version.")
    nowhere = np.zeros(len(texts), dtype=np.int64)
    pad = int(scorer.tokenizer.pad_token_id)
    examples = EssayExamples(scorer.chunker(texts), nowhere, np.zeros(len(texts)), pad)
    model = scorer.model.to(scorer.accelerator.device)
    vectors = predict(scorer.accelerator, Vectors(model), examples, progress="read essays")
    prompts = range(len(scorer.prompts))
    columns = [screening.ood_distance(vectors, torch.full((len(texts),), prompt)) for prompt in prompts]
    return torch.stack(columns, dim=1).double().numpy()


def measure(run: Path, source: str, names: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Shares by prompt.

    Args:
        run: The run's folder.
        source: ASAP's table.
        names: The model's names of the table's prompts, where they differ.
    """
    scorer = EncoderScorer.from_pretrained(run / "model")
    wanted = pd.read_csv(run / "predictions_test.csv", dtype=str)["essay_id"]
    table = read_essays(DataConfig(source=source, format="asap"))
    texts = dict(zip(table.essay_ids, table.values("text"), strict=True))
    known = names or {}
    on = {essay: known.get(own, own) for essay, own in zip(table.essay_ids, table.values("prompt_id"), strict=True)}
    ids = [essay for essay in wanted if essay in texts]
    essays, prompts = [texts[essay] for essay in ids], np.array([on[essay] for essay in ids], dtype=object)
    multiples = ood_distance(scorer, essays)
    screen, policy = scorer.screen, Policy()
    found = {}
    for place, prompt in enumerate(scorer.prompts):
        own = prompts == prompt
        beyond = multiples[:, place] > 1
        told = screen.examine(essays, [prompt] * len(essays)) if screen is not None else [()] * len(essays)
        withheld = beyond | np.array([policy.withholds(one) for one in told])
        found[prompt] = {
            "real": int(own.sum()),
            "real_flagged": float(beyond[own].mean()),
            "real_withheld": float(withheld[own].mean()),
            "others": int((~own).sum()),
            "others_flagged": float(beyond[~own].mean()),
            "others_withheld": float(withheld[~own].mean()),
        }
    return {"prompts": found}


def table(result: dict[str, Any]) -> str:
    """The README's table."""
    rows = []
    for prompt, own in result["prompts"].items():
        real, others = (
            [str(own[who]), *(f"{100 * own[f'{who}_{what}']:.1f} %" for what in ("flagged", "withheld"))]
            for who in ("real", "others")
        )
        rows.append([prompt, *real, *others])
    titles = ["prompt", "real essays", "flagged", "withheld", "essays on other prompts", "flagged", "withheld"]
    return result_table(titles, rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--source", default="data/asap/asap_aes.parquet")
    parser.add_argument("--results", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    made = measure(arguments.run, arguments.source)
    if arguments.results:
        with atomic_file(arguments.results) as temporary:
            temporary.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(table(made) + "\n")
