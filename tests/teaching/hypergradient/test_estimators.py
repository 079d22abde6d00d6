"""Names and settings of the estimators."""

from __future__ import annotations

from typing import get_args

import pytest
from pydantic import ValidationError

from aes_dynloss.teaching.hypergradient.differences import Differences
from aes_dynloss.teaching.hypergradient.estimators import ESTIMATORS, HypergradientConfig
from aes_dynloss.teaching.hypergradient.exact import Exact, UnrolledGraph
from aes_dynloss.teaching.hypergradient.one_step import OneStep
from aes_dynloss.teaching.unrolling.memory import Memory

BUILT = {
    "exact": ({}, Exact()),
    "truncated": ({"last": 3}, Exact(last=3)),
    "central": ({"difference_size": 0.01}, Differences(size=0.01)),
    "one_sided": ({"difference_size": 0.02}, Differences(one_sided=True, size=0.02)),
    "one_step": ({"difference_size": 0.03}, OneStep(size=0.03)),
    "unrolled_graph": ({}, UnrolledGraph()),
}


@pytest.mark.parametrize("name", BUILT)
def test_every_name_builds_its_estimator(name):
    settings, expected = BUILT[name]
    assert HypergradientConfig(estimator=name, **settings).build() == expected


def test_the_names_are_those_of_the_configuration():
    names = set(get_args(HypergradientConfig.model_fields["estimator"].annotation))
    assert names == set(ESTIMATORS) == set(BUILT)


def test_the_default_is_exact_without_more_memory():
    config = HypergradientConfig()
    assert config.build() == Exact()
    assert config.memory(needs_gradient=True) == Memory()


@pytest.mark.parametrize(
    ("estimator", "needs_gradient", "kept"),
    [
        ("exact", True, False),
        ("truncated", True, False),
        ("unrolled_graph", True, False),
        ("central", False, False),
        ("central", True, True),
        ("one_step", False, False),
        ("one_step", True, True),
        ("one_sided", False, True),
        ("one_sided", True, True),
    ],
)
def test_gradients_are_kept_where_they_are_read(estimator, needs_gradient, kept):
    config = HypergradientConfig(estimator=estimator, last=2 if estimator == "truncated" else None)
    assert config.memory(needs_gradient=needs_gradient).gradients is kept


def test_memory():
    config = HypergradientConfig(storage="bf16", snapshots=True)
    assert config.memory(needs_gradient=False) == Memory(storage="bf16", snapshots=True)
    assert HypergradientConfig(graph_budget=3).memory(needs_gradient=False) == Memory(kept_graphs=3 * 2**20)


def test_by_differences():
    found = {name: HypergradientConfig(estimator=name, **given).by_differences for name, (given, _) in BUILT.items()}
    assert {name for name, is_so in found.items() if is_so} == {"central", "one_sided", "one_step"}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"estimator": "truncated"}, "last belongs to the estimator truncated, which needs it"),
        ({"last": 3}, "last belongs to the estimator truncated"),
        ({"estimator": "truncated", "last": 0}, "greater than or equal to 1"),
        ({"estimator": "central", "graph_budget": 5}, "graph_budget serves exact products; leave it out"),
        ({"estimator": "unrolled_graph", "graph_budget": 5}, "graph_budget serves exact products"),
        ({"graph_budget": 5, "snapshots": True}, "graph_budget and snapshots exclude each other"),
        ({"graph_budget": -1}, "greater than or equal to 0"),
        ({"difference_size": 0.0}, "greater than 0"),
        ({"difference_size": float("nan")}, "finite number"),
        ({"storage": "disk"}, "'device', 'host' or 'bf16'"),
        ({"estimator": "guess"}, "'exact', 'truncated'"),
        ({"estimater": "exact"}, "Extra inputs are not permitted"),
    ],
)
def test_settings_that_do_not_go_together(settings, words):
    with pytest.raises(ValidationError, match=words):
        HypergradientConfig(**settings)


def test_truncated_may_keep_graphs():
    assert HypergradientConfig(estimator="truncated", last=2, graph_budget=1).memory(needs_gradient=False).kept_graphs
