from __future__ import annotations

import pytest
from taught_runs import taught_run
from taught_students import SmallTransformer

from aes_dynloss.errors import ConfigError
from aes_dynloss.teaching.hypergradient.exact import UnrolledGraph
from aes_dynloss.teaching.unrolling.step_plan import Processes


def test_it_is_for_one_process():
    class Two(Processes):
        world_size = 2

    run = taught_run(processes=Two())
    with pytest.raises(ConfigError, match="one process; choose the exact estimator"):
        run.estimate(UnrolledGraph())


def test_recomputed_activations_are_refused():
    """Around such a student functional_call is wrong."""
    run = taught_run(student=SmallTransformer(checkpointing=True))
    with pytest.raises(ConfigError, match=r"(?s)checkpoints its activations.*exact estimator"):
        run.estimate(UnrolledGraph())


def test_it_can_be_asked_again():
    run = taught_run()
    with run.live.undisturbed():
        trajectory = run.walk(snapshots=True)
        first, second = (UnrolledGraph()(run.objective, run.rule, trajectory, run.measure) for _ in range(2))
    assert first.coefficients.tolist() == second.coefficients.tolist()
    assert not trajectory.coefficients.requires_grad
