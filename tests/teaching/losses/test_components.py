from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import cohen_kappa_score, log_loss, mean_absolute_error, mean_squared_error
from torch.nn import functional
from toy_elements import SPREADS, make_elements, random_elements

from aes_dynloss.errors import ShapeError
from aes_dynloss.teaching.losses.component_table import COMPONENTS, OF_CLASSES
from aes_dynloss.teaching.losses.components import binary_cross_entropy, cross_entropy

OVER_BATCH = {"ranking", "one_minus_qwk", "stde", "all_pairs_error"}


def value(name, elements):
    return float(COMPONENTS[name].function(elements).mean())


@pytest.fixture(params=[0, 1, 2])
def elements(request):
    return random_elements(seed=request.param)


def test_which_components_there_are():
    of_classes = {"cross_entropy", "label_smoothing", "focal", "large_margin", "smooth_error", "expected_error"}
    of_classes |= {"generalised_cross_entropy"}
    assert set(OF_CLASSES) == of_classes
    assert set(COMPONENTS) == {"mse", "mae", "huber", "binary_cross_entropy"} | of_classes | OVER_BATCH
    assert {name for name, component in COMPONENTS.items() if component.over_batch} == OVER_BATCH


@pytest.mark.parametrize("name", COMPONENTS)
def test_shapes(name, elements):
    found = COMPONENTS[name].function(elements)
    assert found.shape == (() if name in OVER_BATCH else (len(elements),))
    assert found.dtype == torch.float64


def test_squared_and_absolute_error(elements):
    y, p = elements.targets.numpy(), elements.scores.numpy()
    assert value("mse", elements) == pytest.approx(mean_squared_error(y, p), rel=1e-12)
    assert value("mae", elements) == pytest.approx(mean_absolute_error(y, p), rel=1e-12)


def test_huber_bends_at_half_a_standard_deviation(elements):
    for group in range(3):
        mine = elements.groups == group
        expected = torch.nn.functional.huber_loss(
            elements.scores[mine], elements.targets[mine], delta=0.5 * SPREADS[group], reduction="none"
        )
        torch.testing.assert_close(COMPONENTS["huber"].function(elements)[mine], expected, rtol=1e-12, atol=0)


def test_binary_cross_entropy(elements):
    y, p = elements.targets.numpy(), elements.scores.numpy()
    expected = -np.mean(y * np.log(p) + (1 - y) * np.log(1 - p))
    assert value("binary_cross_entropy", elements) == pytest.approx(expected, rel=1e-12)


def test_binary_cross_entropy_far_out():
    elements = make_elements([1.0, 0.0], [1.0, 1.0], logits=torch.tensor([800.0, -800.0], dtype=torch.float64))
    assert COMPONENTS["binary_cross_entropy"].function(elements).tolist() == [0.0, 800.0]


def test_cross_entropy(elements):
    expected = log_loss(elements.classes.numpy(), elements.log_probs.exp().numpy(), labels=[0, 1, 2])
    assert value("cross_entropy", elements) == pytest.approx(expected, rel=1e-12)


def test_label_smoothing_is_torch_s(elements):
    """Log-probabilities are logits too."""
    expected = functional.cross_entropy(elements.log_probs, elements.classes, label_smoothing=0.1)
    assert value("label_smoothing", elements) == pytest.approx(float(expected), rel=1e-12)


def test_focal_is_torchvision_s_for_two_classes():
    """sigmoid_focal_loss without alpha, from its formula, since torchvision is an extra: (1 - p_t)^2 ce."""
    logits = torch.linspace(-4, 4, 9, dtype=torch.float64)
    both = torch.stack([torch.zeros_like(logits), logits], dim=1)
    elements = make_elements(logits, logits, log_probs=both.log_softmax(1), classes=torch.arange(9) % 2)
    truth = (torch.arange(9) % 2).double()
    plain = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    sure = torch.sigmoid(logits) * truth + (1 - torch.sigmoid(logits)) * (1 - truth)
    torch.testing.assert_close(COMPONENTS["focal"].function(elements), (1 - sure) ** 2 * plain)


def test_large_margin_lowers_the_true_logit(elements):
    lowered = elements.log_probs.clone()
    lowered[torch.arange(len(elements)), elements.classes] -= 1.0
    expected = functional.cross_entropy(lowered, elements.classes)
    assert value("large_margin", elements) == pytest.approx(float(expected), rel=1e-12)
    assert value("large_margin", elements) > value("cross_entropy", elements)


@pytest.mark.parametrize("name", OF_CLASSES)
def test_classes_that_an_element_does_not_have_change_nothing(name, elements):
    wider = torch.cat([elements.log_probs, torch.full((len(elements), 2), -1e4, dtype=torch.float64)], dim=1)
    found = COMPONENTS[name].function(replace(elements, log_probs=wider))
    torch.testing.assert_close(found, COMPONENTS[name].function(elements))


def test_ranking_by_loops(elements):
    p, y, groups = elements.scores.numpy(), elements.targets.numpy(), elements.groups.numpy()
    losses = [
        np.log1p(np.exp(-(p[i] - p[j]) / SPREADS[groups[i]]))
        for i in range(len(p))
        for j in range(len(p))
        if groups[i] == groups[j] and y[i] > y[j]
    ]
    assert len(losses) > 5
    assert value("ranking", elements) == pytest.approx(np.mean(losses), rel=1e-12)


def test_ranking_without_a_pair():
    tied = make_elements([0.1, 0.9], [0.5, 0.5])
    apart = make_elements([0.1, 0.9], [0.2, 0.5], [0, 1])
    assert value("ranking", tied) == value("ranking", apart) == 0.0


@pytest.mark.parametrize("seed", range(5))
def test_qwk_equals_the_counted_kappa_with_all_labels(seed):
    generator = np.random.default_rng(seed)
    # Score points 1, 3 and 5 never occur: without `labels` they would be squeezed out, and the kappa wrong.
    y, p = generator.choice([0, 2, 4, 6], 30), generator.choice([0, 2, 4, 5, 6], 30)
    expected = cohen_kappa_score(y, p, weights="quadratic", labels=list(range(7)))
    found = 1.0 - value("one_minus_qwk", make_elements(p / 6, y / 6))
    assert found == pytest.approx(expected, abs=1e-9)
    assert abs(found - cohen_kappa_score(y, p, weights="quadratic")) > 1e-4


@pytest.mark.parametrize("name", ["one_minus_qwk", "stde"])
def test_group_standardised_form(name, elements):
    centre, spread = elements.centre.numpy(), elements.spread.numpy()
    p, y = ((scores.numpy() - centre) / spread for scores in (elements.scores, elements.targets))
    if name == "stde":
        expected = np.sqrt(np.mean(spread**2)) * abs(p.std() - y.std())
    else:
        expected = 1 - 2 * np.cov(p, y, bias=True)[0, 1] / (p.var() + y.var() + (p.mean() - y.mean()) ** 2)
    assert value(name, elements) == pytest.approx(expected, rel=1e-8)


def test_stde_of_one_group_is_that_of_the_scores_as_they_are(elements):
    alone = replace(elements, groups=torch.zeros(12, dtype=torch.int64), centre=elements.centre[:1].expand(12))
    alone = replace(alone, spread=elements.spread[:1].expand(12))
    expected = abs(elements.scores.numpy().std() - elements.targets.numpy().std())
    assert value("stde", alone) == pytest.approx(expected, rel=1e-8)


def test_qwk_of_one_group_is_that_of_the_scores_as_they_are():
    scores, targets = [0.1, 0.4, 0.8, 0.3], [0.2, 0.3, 0.9, 0.6]
    plain = make_elements(scores, targets, centres=[0.0], spreads=[1.0])
    assert value("one_minus_qwk", make_elements(scores, targets)) == pytest.approx(
        value("one_minus_qwk", plain), rel=1e-8
    )


def test_all_pairs_error_by_loops(elements):
    p, y = elements.scores.numpy(), elements.targets.numpy()
    errors = np.mean([(a - b) ** 2 for a in p for b in y])
    assert value("all_pairs_error", elements) == pytest.approx(
        np.sqrt(errors) - 0.0007 * (1 - errors / y.var()), rel=1e-8
    )


def test_all_pairs_error_is_what_broadcasting_gives(elements):
    p, y = elements.scores[:, None], elements.targets
    with pytest.warns(UserWarning, match="target size"):
        released = torch.nn.functional.mse_loss(p, y)
    expected = released.sqrt() - 0.0007 * (1 - released / y.var(unbiased=False))
    assert value("all_pairs_error", elements) == pytest.approx(float(expected), rel=1e-8)


@pytest.mark.parametrize("name", COMPONENTS)
def test_gradients(name):
    """Against finite differences, in float64."""
    elements = random_elements(6)

    def of_student(numbers):
        logits, log_probs = numbers[:, 0], torch.log_softmax(numbers[:, 1:], dim=1)
        return COMPONENTS[name].function(
            replace(elements, scores=torch.sigmoid(logits), logits=logits, log_probs=log_probs)
        )

    generator = torch.Generator().manual_seed(7)
    numbers = torch.randn(6, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(of_student, (numbers,))


# Every prediction and target the same: sd, kappa and rank are 0 / 0 there.
CONSTANTS = {
    "mse": 0.0,
    "mae": 0.0,
    "huber": 0.0,
    "binary_cross_entropy": np.log(2.0),
    "cross_entropy": np.log(3.0),
    "label_smoothing": np.log(3.0),
    "focal": (2 / 3) ** 2 * np.log(3.0),
    "large_margin": np.log(1 + 2 * np.e),
    "ranking": 0.0,
    "one_minus_qwk": 0.0,
    "stde": 0.0,
    "all_pairs_error": 1e-6 - 0.0007,
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("name", "expected"), CONSTANTS.items())
def test_identical_constants(name, expected, dtype):
    numbers = torch.zeros(5, 4, dtype=dtype, requires_grad=True)
    elements = make_elements(
        torch.sigmoid(numbers[:, 0]),
        np.full(5, 0.5),
        dtype=dtype,
        logits=numbers[:, 0],
        log_probs=torch.log_softmax(numbers[:, 1:], dim=1),
        classes=torch.ones(5, dtype=torch.int64),
    )
    loss = COMPONENTS[name].function(elements).mean()
    loss.backward()
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-6)
    assert numbers.grad.isfinite().all()


@pytest.mark.parametrize("name", COMPONENTS)
@pytest.mark.parametrize("size", [1, 7])
def test_constant_predictions_have_finite_gradients(name, size):
    generator = torch.Generator().manual_seed(3)
    numbers = torch.zeros(size, 4, dtype=torch.float64, requires_grad=True)
    elements = make_elements(
        torch.sigmoid(numbers[:, 0]),
        torch.rand(size, generator=generator, dtype=torch.float64),
        logits=numbers[:, 0],
        log_probs=torch.log_softmax(numbers[:, 1:], dim=1),
        classes=torch.ones(size, dtype=torch.int64),
    )
    COMPONENTS[name].function(elements).mean().backward()
    assert numbers.grad.isfinite().all()


def test_what_a_student_does_not_have():
    bare = make_elements([0.1, 0.2], [0.3, 0.4])
    with pytest.raises(ShapeError, match=r"needs a student with a sigmoid link; set model.link=sigmoid"):
        binary_cross_entropy(bare)
    for missing in (bare, replace(bare, log_probs=torch.zeros(2, 3)), replace(bare, classes=torch.tensor([0, 1]))):
        with pytest.raises(ShapeError, match=r"needs a student with a distribution; set model.head=softmax"):
            cross_entropy(missing)
