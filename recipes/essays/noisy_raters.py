"""ASAP with cheap ratings of unknown worth and a few trusted ones: its data, the grids on them, and their results.

    python recipes/essays/noisy_raters.py make KIND T DRAW -o data/noisy   # KIND_T/draw_D/fold_F/essays.parquet
    python recipes/essays/noisy_raters.py tune                             # runs/noisy/tuning/KIND.json
    python recipes/essays/noisy_raters.py run                              # runs/noisy/KIND_T, resumed where stopped
    python recipes/essays/noisy_raters.py collect --publish zero40_75_l2t_dlf_bilinear

In each of the five common folds, T essays a prompt of train are trusted: their resolved score stands, and their rater
is `adjudicated`. The other train essays have one cheap rating. T essays a prompt of dev are dev, with resolved scores;
the rest of dev is left out, so that all that is clean and seen counts as trusted. Test is whole, with resolved scores.
Beside each table: train_ids.txt, dev_ids.txt, test_ids.txt, and truth.csv (essay_id, score, changed: of train, to see
how many changed ratings are found, and for nothing else).

Which essays are trusted and dev depends on draw and fold alone, those for a small T are among those for a larger one. A
cheap rating depends on kind, draw, fold and essay, not on T or on what any model sees. The kinds, fixed before any run
(mean, SD and distribution are those of the prompt's train essays in the fold; all ratings are rounded to score points):

- zero40: each rating is the lowest score by mistake with probability .4 (one rater, `first`).
- half_bad: raters r1 to r8, one an essay at random. r1 to r4 are good: off by one score point with probability .2 up to
  12 score points, and by a Gaussian of .25 SD on wider scales. r5 and r6 are careless: a draw from the prompt's scores.
  r7 is reversed (low + high - score). r8 gives the lowest score always.
- half_scales: raters whose worth depends on the score. r1 to r4 are right where the resolved score is in the lower half
  of the range, and careless above it; r5 to r8 the other way round.
- lenient: r1 to r8 add -1 to +1 SD. central: r1 to r8 shrink towards the mean, by factors of 1 to .2.
- uniform50: each rating is a score point at random with probability .5. modal50: so is the prompt's commonest score.
- real: ASAP's own `rater1` or `rater2`, at random, where it is given. On prompts 1, 7 and 8 the resolved score is a sum
  over raters, so that a rater's range is mapped to its range linearly. Essays without that rating leave train.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from noisy_raters_results import collect
from numpy.typing import NDArray

from aes_dynloss.configfile import read_mapping, validate
from aes_dynloss.errors import AesDynlossError, DataError
from aes_dynloss.essays.benchmark.config import BenchmarkConfig
from aes_dynloss.essays.benchmark.results import REPORT
from aes_dynloss.essays.benchmark.run import benchmark
from aes_dynloss.essays.data.data_config import DataConfig
from aes_dynloss.essays.data.readers import read_essays
from aes_dynloss.essays.data.sources import ids_in
from aes_dynloss.tables.atomic import write_text
from aes_dynloss.tables.formats import write_table
from aes_dynloss.tables.score_range import ScoreRange
from aes_dynloss.training.grid import Cell, run_in_turn
from aes_dynloss.training.run_folder import write_json

HERE = Path(__file__).parent
GRID = HERE / "grids" / "asap_noisy_raters.yaml"
ASAP, FOLDS = Path("data/asap/asap_aes.parquet"), Path("data/asap/folds")
DATA, RUNS = Path("data/noisy"), Path("runs/noisy")

Scores = NDArray[np.float64]
Ratings = tuple[Scores, list[str]]  # scores before rounding, and who gave each

WIDE = 12  # a scale of more score points is wide
RATER_RANGES = {"1": (1, 6), "7": (0, 15), "8": (0, 30)}  # elsewhere, a rater's range is that of the resolved score

FEW = ["mse", "mae", "huber", "inverse_frequency", "l2t_dlf_rater", "l2t_dlf_score"]
# Kind, T, draws and arms (None: all) in the order of running.
QUEUE: list[tuple[str, int, int, list[str] | None]] = [
    *[(kind, 75, 5, None) for kind in ("zero40", "half_bad", "half_scales", "real")],
    *[(kind, 25, 5, None) for kind in ("zero40", "half_bad")],
    *[(kind, 75, 3, FEW) for kind in ("lenient", "central", "uniform50", "modal50")],
]
TUNED_ON = 75  # trusted essays a prompt, of draw 0, folds 0 and 1
# Settings of each arm that dev sees, as many for all arms.
RATES = [0.002, 0.004, 0.008, 0.016, 0.032]
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "trusted_weighted": [
        {"data.trusted_weight": weight, "training.head_learning_rate": rate}
        for weight, rate in ((3, 0.008), (3, 0.016), (10, 0.008), (10, 0.016), (30, 0.008))
    ],
    "mwn": [
        {"teacher.learning_rate": own, "training.head_learning_rate": rate}
        for own, rate in ((1e-3, 0.004), (1e-3, 0.008), (1e-3, 0.016), (1e-2, 0.008), (1e-2, 0.016))
    ],
    "exact_head": [{}],  # without a rate; it chooses its penalty on train
}


def zero40(random: np.random.Generator, clean: Scores, span: ScoreRange) -> Ratings:
    """Lowest scores by mistake."""
    return _replaced(random, clean, 0.4, np.full(len(clean), span.low))


def uniform50(random: np.random.Generator, clean: Scores, span: ScoreRange) -> Ratings:
    """Score points at random."""
    return _replaced(random, clean, 0.5, random.choice(span.points, len(clean)))


def modal50(random: np.random.Generator, clean: Scores, span: ScoreRange) -> Ratings:  # noqa: ARG001 - as the others
    """The commonest score."""
    values, counts = np.unique(clean, return_counts=True)
    return _replaced(random, clean, 0.5, np.full(len(clean), values[counts.argmax()]))


def _replaced(random: np.random.Generator, clean: Scores, share: float, other: Scores) -> Ratings:
    return np.where(random.random(len(clean)) < share, other, clean), ["first"] * len(clean)


def half_bad(random: np.random.Generator, clean: Scores, span: ScoreRange) -> Ratings:
    """Four good raters, two careless ones, a reversed one and one that gives the lowest score."""
    n, rater = len(clean), random.integers(8, size=len(clean))
    near = random.choice([-1.0, 0.0, 1.0], n, p=[0.1, 0.8, 0.1]) * span.step
    good = clean + (random.normal(0, 0.25 * clean.std(), n) if span.count > WIDE else near)
    others = [random.choice(clean, n), span.low + span.high - clean, np.full(n, span.low)]
    scores = np.select([rater < 4, rater < 6, rater == 6, rater == 7], [good, *others])
    return scores, [f"r{number + 1}" for number in rater]


def half_scales(random: np.random.Generator, clean: Scores, span: ScoreRange) -> Ratings:
    """Raters that know one half of the scale each."""
    n, rater = len(clean), random.integers(8, size=len(clean))
    upper = clean > (span.low + span.high) / 2
    return np.where(upper == (rater >= 4), clean, random.choice(clean, n)), [f"r{number + 1}" for number in rater]


def lenient(random: np.random.Generator, clean: Scores, span: ScoreRange) -> Ratings:  # noqa: ARG001 - as the others
    """Raters of eight severities."""
    rater = random.integers(8, size=len(clean))
    return clean + np.linspace(-1, 1, 8)[rater] * clean.std(), [f"r{number + 1}" for number in rater]


def central(random: np.random.Generator, clean: Scores, span: ScoreRange) -> Ratings:  # noqa: ARG001 - as the others
    """Raters that shrink towards the mean."""
    rater = random.integers(8, size=len(clean))
    mean = clean.mean()
    return mean + np.linspace(1, 0.2, 8)[rater] * (clean - mean), [f"r{number + 1}" for number in rater]


Noise = Callable[[np.random.Generator, Scores, ScoreRange], Ratings]
NOISE: dict[str, Noise] = {
    noise.__name__: noise for noise in (zero40, half_bad, half_scales, lenient, central, uniform50, modal50)
}
KINDS = [*NOISE, "real"]


def single_ratings(random: np.random.Generator, rows: pd.DataFrame, prompt: str, span: ScoreRange) -> Ratings:
    """One of ASAP's two raters an essay, on the resolved score's range; NaN where that rating is not given."""
    second = random.random(len(rows)) < 0.5
    given = np.where(second, rows["rater2"], rows["rater1"]).astype(np.float64)
    low, high = RATER_RANGES.get(prompt, (span.low, span.high))
    scores = span.low + (given - low) * (span.high - span.low) / (high - low)
    return scores, [f"rater{1 + one}" for one in second]


def generator(*names: object) -> np.random.Generator:
    """A generator that depends on some names, and on no machine or version of Python."""
    digest = hashlib.sha256("/".join(map(str, names)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


def make(kind: str, trusted: int, draw: int, folder: Path, prompts: list[str] | None = None) -> None:
    """Write the tables of one draw, for all folds.

    Args:
        kind: One of KINDS.
        trusted: T, the number of trusted essays a prompt in train, and of essays a prompt in dev.
        draw: Number of the draw.
        folder: Where KIND_T/draw_D is written.
        prompts: Only these; None: all.
    """
    asap = read_essays(DataConfig(source=str(ASAP), format="asap", keep_prompts=prompts))
    spans = {prompt.id: prompt.range for prompt in asap.prompts.values()}
    essays = pd.DataFrame(asap.all_values()).set_index("essay_id", drop=False)
    for fold in sorted(FOLDS.glob("fold_*")):
        ids = {part: [one for one in ids_in(fold / f"{part}_ids.txt") if one in essays.index] for part in PARTS}
        tables = {part: essays.loc[sorted(own)].assign(rater="adjudicated", trusted=1) for part, own in ids.items()}
        train, dev = [], []
        for prompt, span in spans.items():
            own = {part: table[table["prompt_id"] == prompt] for part, table in tables.items()}
            fewest = min(len(own["train"]), len(own["dev"]))
            if trusted > fewest:
                raise DataError(f"T is {trusted}, but {fold} has {fewest} train or dev essays of prompt {prompt}.")
            chosen = {
                part: generator(part, draw, fold.name, prompt).permutation(len(own[part]))[:trusted]
                for part in ("train", "dev")
            }
            train.append(_rated(kind, own["train"], chosen["train"], span, generator(kind, draw, fold.name, prompt)))
            dev.append(own["dev"].iloc[np.sort(chosen["dev"])])
        _write_fold(folder / f"{kind}_{trusted}" / f"draw_{draw}" / fold.name, pd.concat(train), pd.concat(dev), tables)


PARTS = ("train", "dev", "test")
COLUMNS = ["essay_id", "prompt_id", "text", "score", "rater", "trusted"]


def _rated(
    kind: str, rows: pd.DataFrame, trusted: NDArray[np.int64], span: ScoreRange, random: np.random.Generator
) -> pd.DataFrame:
    """A prompt's train essays with their ratings, and their resolved scores as ``clean``."""
    clean = rows["score"].to_numpy(dtype=np.float64)
    prompt = str(rows["prompt_id"].iloc[0])
    scores, raters = single_ratings(random, rows, prompt, span) if kind == "real" else NOISE[kind](random, clean, span)
    is_trusted = np.zeros(len(rows), dtype=bool)
    is_trusted[trusted] = True
    given = np.isfinite(scores) | is_trusted
    rated = np.where(is_trusted, clean, span.to_point(np.nan_to_num(scores)))
    rated_by = np.where(is_trusted, "adjudicated", raters)
    table = rows.assign(clean=clean, score=rated, rater=rated_by, trusted=is_trusted.astype(int))
    if not given.all():
        logging.warning("Prompt %s: %d essays without single ratings are left out of train.", prompt, (~given).sum())
    return table[given]


def _write_fold(place: Path, train: pd.DataFrame, dev: pd.DataFrame, tables: dict[str, pd.DataFrame]) -> None:
    """Write a fold's table, its lists of ids, and the truth."""
    place.mkdir(parents=True, exist_ok=True)
    parts = {"train": train, "dev": dev, "test": tables["test"]}
    for part, table in parts.items():
        write_text(place / f"{part}_ids.txt", "".join(f"{one}\n" for one in table["essay_id"]))
    truth = pd.DataFrame({"essay_id": train["essay_id"], "score": train["clean"]})
    write_table(truth.assign(changed=(train["clean"] != train["score"]).astype(int)), place / "truth.csv")
    write_table(pd.concat(parts.values())[COLUMNS].reset_index(drop=True), place / "essays.parquet")


def grid_values(kind: str, trusted: int, **changes: object) -> dict[str, Any]:
    """The grid's configuration on the data of a kind and T."""
    values = read_mapping(GRID)
    place = f"{DATA.as_posix()}/{kind}_{trusted}/draw_{{seed}}"
    values["finetune"]["data"]["source"] = f"{place}/fold_{{fold}}/essays.parquet"
    return values | {"splits_dir": place} | changes


def settings_of(arm: str) -> dict[str, dict[str, Any]]:
    """The settings of an arm that dev sees, by the arm's name in the tuning grid."""
    settings = SETTINGS.get(arm) or [{"training.head_learning_rate": rate} for rate in RATES]
    return {f"{arm}.{number}": setting for number, setting in enumerate(settings)}


def tune(kinds: Sequence[str]) -> None:
    """Choose each arm's setting for each kind by dev alone, on TUNED_ON.

    The figure is the mean QWK on each half of dev, rescaled by the other.
    """
    for kind in kinds:
        values = grid_values(kind, TUNED_ON, seeds=[0], folds=[0, 1], measured_on="dev", chosen={}, control=None)
        values["arms"] = _arms_of(kind, values["arms"])
        named = {arm: settings_of(arm) for arm in values["arms"]}
        values["arms"] = {
            name: entry | {"set": entry.get("set", {}) | setting}
            for arm, entry in values["arms"].items()
            for name, setting in named[arm].items()
        }
        _make_missing(kind, TUNED_ON, [0])
        report = benchmark(validate(BenchmarkConfig, values, GRID.name), RUNS / "tuning" / kind, run_in_turn)
        figures = {name: entry.mean.qwk_rescaled for name, entry in report.arms.items()}
        chosen = {}
        for arm, settings in named.items():
            best = max(settings, key=lambda name: figures[name] or 0.0)
            chosen[arm] = {"chosen": settings[best], "dev_qwk": {json.dumps(settings[n]): figures[n] for n in settings}}
            print(f"{kind} {arm}: {settings[best]} ({figures[best] or 0.0:.4f})")  # noqa: T201
        write_json(RUNS / "tuning" / f"{kind}.json", chosen)


def run(names: Sequence[str], most: int | None = None) -> None:
    """Run the grids of some KIND_T, or of all, one draw after the other; what is done is not done again.

    Args:
        names: KIND_T; none for all.
        most: Draws of each, at most.
    """
    for kind, trusted, wanted, _ in QUEUE:
        if names and f"{kind}_{trusted}" not in names:
            continue
        draws = wanted if most is None else min(most, wanted)
        values = grid_values(kind, trusted, seeds=draws)
        choices = RUNS / "tuning" / f"{kind}.json"
        if not choices.exists():
            raise DataError(f"{choices} is not there. Run `python recipes/essays/noisy_raters.py tune {kind}` first.")
        tuned = read_mapping(choices)
        values["arms"] = {
            arm: entry | {"set": entry.get("set", {}) | tuned[arm]["chosen"]}
            for arm, entry in _arms_of(kind, values["arms"]).items()
        }
        values["chosen"] = {
            name: [arm for arm in own if arm in values["arms"]] for name, own in values["chosen"].items()
        }
        _make_missing(kind, trusted, range(draws))
        benchmark(validate(BenchmarkConfig, values, GRID.name), RUNS / f"{kind}_{trusted}", _draw_by_draw)


def _arms_of(kind: str, arms: dict[str, Any]) -> dict[str, Any]:
    """Those of the grid's arms that are run for a kind."""
    wanted = next((own for name, _, _, own in QUEUE if name == kind), None)
    return arms if wanted is None else {arm: arms[arm] for arm in wanted}


def _draw_by_draw(cells: Sequence[Cell]) -> None:
    run_in_turn(sorted(cells, key=lambda cell: cell.folder.name))  # seed_0, seed_1, ...


def _make_missing(kind: str, trusted: int, draws: Sequence[int]) -> None:
    for draw in draws:
        place = DATA / f"{kind}_{trusted}" / f"draw_{draw}"
        if len(list(place.glob("fold_*/essays.parquet"))) < len(list(FOLDS.glob("fold_*"))):
            make(kind, trusted, draw, DATA)


def collect_results(published: Sequence[str], draws: int) -> None:
    """Collect the results of the grids that are complete, in the order of the queue."""
    found = [name for name in (f"{kind}_{trusted}" for kind, trusted, *_ in QUEUE) if (RUNS / name / REPORT).exists()]
    if not found:
        raise DataError(f"{RUNS} holds no KIND_T/{REPORT}. Run `python recipes/essays/noisy_raters.py run` first.")
    collect(found, GRID, DATA, RUNS, HERE / "results", published, draws)


def main() -> None:
    """Run one of the four commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("make", help="write the tables of one draw")
    making.add_argument("kind", choices=KINDS)
    making.add_argument("trusted", type=int, metavar="T")
    making.add_argument("draw", type=int)
    making.add_argument("-o", "--output-dir", type=Path, default=DATA)
    tuning = commands.add_parser("tune", help="choose each arm's setting by dev")
    tuning.add_argument("kinds", nargs="*", metavar="KIND", help="default: all")
    running = commands.add_parser("run", help="run the grids")
    running.add_argument("names", nargs="*", metavar="KIND_T", help="default: all, in the order of the queue")
    running.add_argument("--draws", type=int, help="of each KIND_T, at most; the others can be run later")
    collecting = commands.add_parser("collect", help="merge the reports")
    collecting.add_argument("--publish", nargs="*", default=[], metavar="KIND_T_ARM")
    collecting.add_argument("--draws", type=int, default=3, help="of published predictions; 3 fit a file's limit")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    commands_run: dict[str, Callable[[], None]] = {
        "make": lambda: make(options.kind, options.trusted, options.draw, options.output_dir),
        "tune": lambda: tune(options.kinds or KINDS),
        "run": lambda: run(options.names, options.draws),
        "collect": lambda: collect_results(options.publish, options.draws),
    }
    try:
        commands_run[options.command]()
    except AesDynlossError as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
