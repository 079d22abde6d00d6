"""TF-IDF and support vector regression, as scikit-learn's documentation writes it: a Pipeline in a GridSearchCV.

    python recipes/essays/peers/tfidf_svr.py --data data/asap

Words and pairs of words; C is chosen by three-fold cross-validation on the train essays alone.
"""

from __future__ import annotations

import numpy as np
from common_folds import Predictions, PromptFold, measure, parser, prompt_folds, read_asap, rescale, run, write_results
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import Pipeline
from sklearn.svm import SVR


def main() -> None:
    """From the command line."""
    words = parser(__doc__, "tfidf_svr.json").parse_args()
    essays = read_asap(words.data)
    texts, scores = np.array(essays.values("text"), dtype=object), essays.scores

    def predict(fold: PromptFold) -> Predictions:
        train_texts, train_scores = texts[fold.train], scores[fold.train]
        pipeline = Pipeline([("tfidf", TfidfVectorizer(ngram_range=(1, 2))), ("svr", SVR())])
        search = GridSearchCV(pipeline, {"svr__C": [1, 10, 100]}, cv=3).fit(train_texts, train_scores)
        plain = search.predict(texts[fold.test])
        out_of_fold = cross_val_predict(search.best_estimator_, train_texts, train_scores, cv=3)
        return Predictions(plain, rescale(plain, out_of_fold, train_scores))

    found = measure(prompt_folds(essays, words.data), scores, predict, "TF-IDF, SVR")
    write_results(
        words.output,
        {"scikit-learn: TfidfVectorizer, SVR": found},
        rescaled_by="this script, from out-of-fold predictions of the train essays",
        packages=["scikit-learn", "numpy", "scipy"],
    )


if __name__ == "__main__":
    run(main)
