"""Runs forwards: the steps of an ordinary training loop, remembered."""

from __future__ import annotations

import pytest
import torch
from taught_runs import BITING, SMOOTH, error_of, taught_run
from taught_students import SmallConvNet, SmallTransformer

from aes_dynloss.errors import ConfigError
from aes_dynloss.teaching.unrolling.memory import Memory
from aes_dynloss.teaching.unrolling.unroll import unroll

MUCH = 2**30


def plainly(run, build, clip):
    """The run by torch.optim on the live module; its weights at the end."""
    settings = settings_of(run)
    optimizer = build([{"params": [one]} | own for one, own in zip(run.live.parameters, settings, strict=True)])
    for plan, phi in zip(run.plans, run.phi, strict=True):
        for group, own in zip(optimizer.param_groups, settings, strict=True):
            group["lr"] = plan.factor * own["lr"]
        optimizer.zero_grad()
        run.live.module.train()
        torch.set_rng_state(plan.random.cpu)
        outputs = torch.cat([run.live.module(**batch.inputs) for batch in plan.batches])
        targets, groups_of = (torch.cat([getattr(b, name) for b in plan.batches]) for name in ("targets", "groups"))
        value = run.objective.loss(phi, run.live.student.elements(outputs, targets, groups_of))
        value.mean().backward()
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(run.live.parameters, clip)
        optimizer.step()
    return run.live.weights()


def settings_of(run):
    """Learning rate and decay of each parameter, which the rule knows for each weight."""
    rates = run.rule._rates
    views = zip(run.live.views(rates.rate), run.live.views(rates.decay), strict=True)
    return [{"lr": float(rate.mean()), "weight_decay": float(decay.mean())} for rate, decay in views]


OPTIMIZERS = {
    "sgd": torch.optim.SGD,
    "momentum": lambda groups: torch.optim.SGD(groups, momentum=0.9),
    "clipped": lambda groups: torch.optim.SGD(groups, momentum=0.8),
    "adamw": lambda groups: torch.optim.AdamW(groups, betas=(0.8, 0.9)),
    "clipped adamw": lambda groups: torch.optim.AdamW(groups, betas=(0.8, 0.9), eps=SMOOTH),
}


@pytest.mark.parametrize("loss", ["elements", "batch"])
@pytest.mark.parametrize("rule", OPTIMIZERS)
def test_a_run_is_an_ordinary_training(rule, loss):
    run = taught_run(rule=rule, loss=loss, micro=4)
    end = run.walk().end.weights
    assert torch.equal(run.live.weights(), end)
    run.live.put(run.start.weights)
    plain = plainly(run, OPTIMIZERS[rule], BITING if "clipped" in rule else None)
    torch.testing.assert_close(end, plain, rtol=0, atol=1e-11)


def test_clipping_bites_in_these_runs():
    for rule in ("clipped", "clipped adamw"):
        steps = taught_run(rule=rule).walk(gradients=True).steps
        assert min(float(step.gradient.weights.norm()) for step in steps) > 2 * BITING


def test_batch_norm_learns_its_statistics_on_the_way():
    student = SmallConvNet()
    taught_run(student=student).walk()
    assert int(student.body[1].num_batches_tracked) == 3


def test_what_is_remembered():
    run = taught_run()
    plain, kept = run.walk(), run.walk(gradients=True)
    assert len(plain) == 3
    assert torch.equal(plain.coefficients, run.phi)
    assert all(step.gradient is None and step.product is None and step.kept is not None for step in plain.steps)
    for step, point in zip(kept.steps, [step.kept() for step in plain.steps], strict=True):
        run.live.put(point.weights)
        assert torch.equal(step.gradient.weights, run.objective.gradient(step.plan, step.coefficients).weights)
    assert [step.kept().step for step in plain.steps] == [0, 1, 2]
    assert plain.end.step == 3


def test_a_plan_without_a_state_gets_the_one_it_met():
    run = taught_run(student=SmallTransformer(dropout=0.4))
    loose = [type(plan)(plan.batches, plan.count) for plan in run.plans]
    torch.manual_seed(5)
    first = run.walk(plans=loose)
    assert all(step.plan.random is not None for step in first.steps)
    torch.manual_seed(6)
    again = run.walk(plans=[step.plan for step in first.steps])
    assert torch.equal(again.end.weights, first.end.weights)
    other = run.walk(plans=loose)
    assert not torch.equal(other.end.weights, first.end.weights)


def test_who_asks_is_told():
    """Coefficients are asked for before each step, and the gradient is told after it, at the next point."""
    run, told = taught_run(), []
    answers = iter(run.phi)

    def ask():
        told.append("asked")
        return next(answers)

    def taken(number, gradient):
        told.append((number, float(gradient.value), run.live.weights()))

    end = unroll(run.objective, run.rule, run.start, run.plans, ask, on_step=taken).end
    assert [entry if entry == "asked" else entry[0] for entry in told] == ["asked", 0, "asked", 1, "asked", 2]
    assert torch.equal(told[-1][2], end.weights)


@pytest.mark.parametrize("storage", ["device", "host"])
@pytest.mark.parametrize("steps", [1, 2, 5, 7])
def test_points_between_snapshots_are_computed_again(steps, storage):
    run = taught_run(student=SmallTransformer(dropout=0.3), steps=steps, rule="adamw", size=4)
    every, some = run.walk(), run.walk(snapshots=True, storage=storage)
    assert sum(step.kept is not None for step in some.steps) == {1: 1, 2: 1, 5: 2, 7: 3}[steps]
    pairs = zip(every.backwards(run.objective, run.rule), some.backwards(run.objective, run.rule), strict=True)
    for (number, _, right), (other, step, point) in pairs:
        assert number == other
        assert step is some.steps[number]
        assert torch.equal(point.weights, right.weights)
        assert all(map(torch.equal, point.slots, right.slots))


def kept(trajectory):
    return [step.product is not None for step in trajectory.steps]


@pytest.mark.parametrize("loss", ["elements", "batch"])
@pytest.mark.parametrize("rule", ["momentum", "adamw"])
def test_graphs_of_the_last_steps_are_kept(rule, loss):
    run = taught_run(steps=6, rule=rule, loss=loss)
    right, numbers = run.walk().end.weights, []
    for budget in (0, 100, *(30_000 * times for times in range(1, 12)), MUCH):
        trajectory = run.walk(kept_graphs=budget)
        number = sum(kept(trajectory))
        assert kept(trajectory) == [False] * (6 - number) + [True] * number
        # On every step, whatever is kept: processes may keep different numbers of graphs and still must talk in step.
        needed = budget > 0 and run.rule.needs_gradient
        assert all((step.gradient is not None) == needed for step in trajectory.steps)
        assert error_of(trajectory.end.weights, right) < 1e-13
        numbers.append(number)
    assert numbers == sorted(numbers)
    assert numbers[:2] == [0, 0]
    assert {1, 2, 3, 5} <= set(numbers)
    assert numbers[-1] == 5, "the first is measured"


def test_graphs_over_several_micro_batches_are_not_kept():
    assert kept(taught_run(micro=4).walk(kept_graphs=MUCH)) == [False] * 3


def test_graphs_of_recomputed_activations_are_refused():
    run = taught_run(student=SmallTransformer(checkpointing=True))
    with pytest.raises(ConfigError, match=r"(?s)checkpoints its activations.*graph_budget=0"):
        run.walk(kept_graphs=MUCH)


def test_nothing_is_remembered_that_was_not_asked_for():
    assert Memory() == Memory(storage="device", snapshots=False, gradients=False, kept_graphs=0)


@pytest.mark.parametrize(("rule", "kept"), [("momentum", [1, 0, 0, 0]), ("adamw", [2, 2, 2, 2])])
def test_slots_are_kept_only_where_the_way_back_reads_them(rule, kept):
    """Else they would double what a trajectory takes; the first point is whole, so that a run can start again."""
    run = taught_run(rule=rule, steps=4)
    with run.live.undisturbed():
        trajectory = run.walk()
        walked = [len(point.slots) for _, _, point in trajectory.backwards(run.objective, run.rule)]
    assert [len(step.kept().slots) for step in trajectory.steps] == kept
    assert walked == ([0] * 4 if rule == "momentum" else [2] * 4)
