"""Heads in closed form: whole runs, what they leave behind, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from sklearn.linear_model import Ridge
from small_run import check_scores, read_rows, report_of, small_essays, tune, write_rows
from tiny_scorer import random_essays, scoring_model

from aes_dynloss.configfile import validate
from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.essays.classical.ridge import SCALE, fit_kernel_ridge, fit_ridge
from aes_dynloss.essays.finetune.config import FinetuneConfig
from aes_dynloss.essays.finetune.exact_head import fit_exact_head
from aes_dynloss.essays.model.activations import pooled_features
from aes_dynloss.essays.model.kernel_head import KernelHead

EXACT = ["model.frozen_layers=all", "model.postprocessing=rescale"]
HEADS = {
    "ridge": ["model.solver=ridge"],
    "ridge, features, strings": ["model.solver=ridge", "model.linguistic=true", "model.strings=true"],
    "shared": ["model.solver=ridge", "model.prompts=shared", "model.linguistic=[counts, spelling]"],
    "kernel": ["model.solver=kernel_ridge", "model.pooling=cls"],
    "kernel, features, strings": ["model.solver=kernel_ridge", "model.linguistic=true", "model.strings=true"],
}


@pytest.mark.parametrize("name", HEADS)
def test_runs_fit_together(run_yaml, tmp_path, name):
    """The folder's model gives the scores of the predictions, and the left-out predictions set their spread."""
    folder = tmp_path / "run"
    outcome = tune(run_yaml, folder, *EXACT, *HEADS[name])
    assert outcome.code == 0, outcome.err
    essays = write_rows(tmp_path / "essays.csv", small_essays())
    for part in ("test", "dev"):
        check_scores(folder, essays, part)
    rows = read_rows(folder / "predictions_oof.csv")
    assert len(rows) == 36  # train
    raw, human = (np.array([float(row[key]) for row in rows]) for key in ("raw", "reference"))
    assert np.isfinite(raw).all()
    assert set(human) <= {float(row["score"]) for row in small_essays()}
    assert report_of(folder)["mean"]["qwk"] is not None
    assert not (folder / "plots").exists()
    assert tune(run_yaml, folder, *EXACT, *HEADS[name], "--resume").code == 0  # complete, and known to be


def frozen(**config):
    model = scoring_model(frozen_layers="all", **config)
    essays = random_essays([5, 9, 12, 20, 7, 15, 8, 11, 30, 6, 14, 10] * 3)
    return model, replace(essays, features=pooled_features(Accelerator(), model, essays))


def test_the_ridge_head_is_the_ridge_of_scikit_learn():
    model, train = frozen(solver="ridge")
    head = fit_exact_head(model, train, [""] * len(train))
    batch = train.batch(range(len(train)))
    with torch.no_grad():
        inputs, outputs = model.head_inputs(batch.inputs).double().numpy(), model(**batch.inputs).double().numpy()
    for number, scale in enumerate(model.scales):
        rows = train.groups == number
        targets = (train.targets[rows] - scale.mean) / scale.sd
        fit = fit_ridge(inputs[rows], targets)
        centred = inputs[rows] - inputs[rows].mean(0)
        alpha = fit.penalty * (centred**2).sum() / rows.sum()
        peer = Ridge(alpha=alpha).fit(inputs[rows], targets)
        np.testing.assert_allclose(outputs[rows, 0], peer.predict(inputs[rows]), atol=1e-4)
        np.testing.assert_allclose(head.left_out[torch.from_numpy(rows), 0].numpy(), fit.leave_one_out, atol=1e-5)


def test_the_kernel_head_predicts_what_was_fitted():
    model, train = frozen(solver="kernel_ridge")
    fit_exact_head(model, train, [""] * len(train))
    batch = train.batch(range(len(train)))
    with torch.no_grad():
        inputs = model.head_inputs(batch.inputs).double().numpy()
        outputs = model(**batch.inputs)[:, 0].double().numpy()
    for number, scale in enumerate(model.scales):
        rows = train.groups == number
        targets = (train.targets[rows] - scale.mean) / scale.sd
        distances = ((inputs[rows][:, None] - inputs[rows][None]) ** 2).sum(-1)
        kernel = np.exp(-distances / (SCALE * np.median(distances[np.triu_indices(rows.sum(), 1)])))
        fit = fit_kernel_ridge(kernel, targets)
        np.testing.assert_allclose(outputs[rows], kernel @ fit.coefficients + fit.intercept, atol=2e-3)  # float16
    assert len(model.kernel.owner) == len(train)
    again = scoring_model(frozen_layers="all", solver="kernel_ridge")
    again.kernel.make_room(model.state_dict(), "kernel.")
    again.load_state_dict(model.state_dict())
    with torch.no_grad():
        np.testing.assert_array_equal(again(**batch.inputs)[:, 0].double().numpy(), outputs)


def test_a_kernel_head_sums_over_its_own_prompt():
    head = KernelHead(2, 1)
    head.set_prompts([1], torch.tensor([[0.0], [2.0]]), torch.tensor([[1.0], [-3.0]]), 4.0)
    head.set_prompts([0], torch.tensor([[5.0]]), torch.tensor([[7.0]]), 1.0)
    # In the place of the first.
    head.set_prompts([1], torch.tensor([[0.0], [2.0]]), torch.tensor([[1.0], [-2.0]]), 4.0)
    assert head.coefficients.tolist() == [7.0, 1.0, -2.0]
    answers = head(torch.tensor([[1.0], [5.0]]), torch.tensor([1, 0]))
    expected = [[(1 - 2) * np.exp(-0.25)], [7.0]]
    np.testing.assert_allclose(answers.numpy(), expected, rtol=1e-6)


def test_traits_of_the_same_essays_share_their_vectors():
    random = torch.Generator().manual_seed(0)
    vectors, others = torch.randn(5, 3, generator=random), torch.randn(4, 3, generator=random)
    coefficients, own = torch.randn(5, 2, generator=random), torch.randn(4, 1, generator=random)
    together, apart = KernelHead(3, 3), KernelHead(3, 3)
    together.set_prompts([1], others, own, 3.0)
    together.set_prompts([0, 2], others, own.expand(4, 2), 3.0)  # is replaced
    together.set_prompts([0, 2], vectors, coefficients, 2.0)
    apart.set_prompts([1], others, own, 3.0)
    for column, number in enumerate((0, 2)):
        apart.set_prompts([number], vectors, coefficients[:, [column]], 2.0)
    assert (len(together.support), len(apart.support)) == (9, 14)
    essays, prompts = torch.randn(6, 3, generator=random), torch.tensor([0, 1, 2, 2, 1, 0])
    np.testing.assert_allclose(together(essays, prompts), apart(essays, prompts), rtol=1e-6)
    again = KernelHead(3, 3)
    again.make_room(together.state_dict())
    again.load_state_dict(together.state_dict())
    np.testing.assert_array_equal(again(essays, prompts), together(essays, prompts))
    # Folders of before hold each trait's vectors apart; a coefficient of 0 says nothing wherever it stands.
    again.make_room(apart.state_dict())
    again.load_state_dict(apart.state_dict())
    np.testing.assert_array_equal(again(essays, prompts), apart(essays, prompts))
    coefficients[2] = 0
    together.set_prompts([0, 2], vectors, coefficients, 2.0)
    apart.set_prompts([0], vectors, coefficients[:, :1], 2.0)
    apart.set_prompts([2], vectors, coefficients[:, 1:], 2.0)
    np.testing.assert_allclose(together(essays, prompts), apart(essays, prompts), rtol=1e-6)


def test_too_few_essays_are_told():
    model, train = frozen(solver="ridge")
    few = train.select(np.concatenate([np.flatnonzero(train.groups == 0), np.flatnonzero(train.groups == 1)[:2]]))
    with pytest.raises(DataError, match=r"2 training essays.*ridge.*at least 3.*keep_prompts"):
        fit_exact_head(model, few, [""] * len(few))


@pytest.mark.parametrize(
    ("model", "more", "facts"),
    [
        ({"solver": "ridge"}, {}, "solver ridge needs frozen_layers: all"),
        ({"solver": "ridge", "frozen_layers": "all", "hidden": 4}, {}, "needs hidden: null"),
        ({"solver": "ridge", "frozen_layers": "all", "head": "softmax"}, {}, "needs head: regression"),
        ({"solver": "ridge", "frozen_layers": "all", "pooling": "attention"}, {}, "needs pooling mean or cls"),
        ({"strings": True}, {}, "strings: true needs an exact head"),
        ({"solver": "kernel_ridge", "frozen_layers": "all", "prompts": "shared"}, {}, "need prompts: own_head"),
        ({"linguistic": ["counts", "magic"]}, {}, "found magic"),
        ({"linguistic": []}, {}, "some of the groups"),
        ({"solver": "ridge", "frozen_layers": "all"}, {"loss": {"terms": {"mae": 1.0}}}, "leave the sections loss"),
        (
            {"solver": "ridge", "frozen_layers": "all"},
            {"data": {"source": "x.csv", "augmentation": {"kinds": ["misspell"]}}},
            "data.augmentation",
        ),
    ],
)
def test_what_cannot_be_solved_is_refused(model, more, facts):
    with pytest.raises(ConfigError, match=facts):
        validate(FinetuneConfig, {"data": {"source": "x.csv"}, "model": model, **more}, "run.yaml")
