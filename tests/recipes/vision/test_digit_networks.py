"""The students of MNIST: their sizes, what they show of a batch, and losses on it against their formulas."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from aes_dynloss.errors import ConfigError
from aes_dynloss.teaching.losses.bilinear_loss import BilinearLogLoss
from aes_dynloss.teaching.losses.components import focal, generalised_cross_entropy, label_smoothing
from aes_dynloss.teaching.losses.forward_correction import ForwardCorrection
from aes_dynloss.teaching.losses.rater_weights import weighted_by_rater

pytestmark = pytest.mark.usefixtures("recipes_in_reach")

CLASSES = 10
IMAGES = torch.randint(256, (30, 1, 28, 28), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
LABELS = torch.arange(30) % CLASSES
RATERS = ("trusted", "untrusted")


def student(kind: str) -> Any:
    from classification import CONFIGS, STUDENTS

    torch.manual_seed(0)
    return STUDENTS[kind](CONFIGS[kind](), IMAGES, LABELS, CLASSES)


@pytest.mark.parametrize(("kind", "weights"), [("mlp", 397_510), ("lenet", 61_706)])
def test_sizes(kind: str, weights: int) -> None:
    """LeNet-5's is that of LeCun et al. (1998) with whole connections."""
    made = student(kind)
    assert sum(parameter.numel() for parameter in made.parameters()) == weights
    assert made(IMAGES).shape == (30, CLASSES)
    assert sum(parameter.numel() for layer in made.parameter_stack() for _, parameter in layer) == weights


@pytest.mark.parametrize("kind", ["mlp", "lenet"])
def test_second_derivatives_are_those_of_differences(kind: str) -> None:
    """What a teacher needs: the product of the loss's curvature with a direction."""
    made = student(kind).double()
    weights = list(made.parameters())
    random = torch.Generator().manual_seed(1)
    direction = [torch.randn(weight.shape, dtype=torch.float64, generator=random) for weight in weights]

    def gradient(create: bool) -> tuple[torch.Tensor, ...]:
        loss = torch.nn.functional.cross_entropy(made(IMAGES), LABELS)
        return torch.autograd.grad(loss, weights, create_graph=create)

    product = torch.autograd.grad(gradient(True), weights, direction)
    size, sides = 1e-9, []  # small beside the distance to the next kink
    for sign in (1, -1):
        with torch.no_grad():
            for weight, step in zip(weights, direction, strict=True):
                weight.add_(sign * size * step)
        sides.append(gradient(False))
        with torch.no_grad():
            for weight, step in zip(weights, direction, strict=True):
                weight.sub_(sign * size * step)
    for exact, above, below in zip(product, *sides, strict=True):
        assert torch.allclose(exact, (above - below) / (2 * size), atol=1e-4)


def test_lenet_wants_its_size() -> None:
    from classification import CONFIGS, STUDENTS

    with pytest.raises(ConfigError, match=r"expects images of 28 x 28 pixels, found 6 x 5\. Take model.kind=mlp"):
        STUDENTS["lenet"](CONFIGS["lenet"](), IMAGES[:, :, :5, :6], LABELS, CLASSES)


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor, Any]:
    """Probabilities, classes, and elements of which every third is trusted."""
    logits = torch.randn(30, CLASSES, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    targets = torch.stack([LABELS, (torch.arange(30) % 3 > 0).long()], dim=1)
    return logits.softmax(1), LABELS, student("mlp").double().elements(logits, targets, 0 * LABELS)


def test_who_is_trusted_is_shown(batch: Any) -> None:
    _, classes, elements = batch
    assert torch.equal(elements.classes, classes)
    assert (elements.raters == 0).tolist() == [number % 3 == 0 for number in range(30)]
    assert student("mlp").elements(torch.zeros(30, CLASSES), LABELS, 0 * LABELS).raters is None


def test_labels_are_weighed_by_class_and_trust(batch: Any) -> None:
    """The weight of an untrusted label is its class's; trusted ones count 1. Errors are those without weights."""
    p, classes, elements = batch
    weights = torch.linspace(0.1, 2.0, CLASSES, dtype=torch.float64)
    loss = weighted_by_rater({"cross_entropy": 1.0}, RATERS, CLASSES, standardise=False, unit=RATERS[0])
    expected = -p[torch.arange(30), classes].log() * torch.where(torch.arange(30) % 3 == 0, 1.0, weights[classes])
    assert torch.allclose(loss(weights, elements), expected)
    plain = student("mlp").double().elements(p.log(), classes, 0 * classes)
    assert torch.allclose(elements.errors(), plain.errors())


def test_losses_against_their_formulas(batch: Any) -> None:
    """One element at a time, as the papers write them."""
    p, classes, elements = batch
    own = p[torch.arange(30), classes]
    assert torch.allclose(generalised_cross_entropy(elements), (1 - own**0.7) / 0.7)
    assert torch.allclose(focal(elements), -((1 - own) ** 2) * own.log())
    assert torch.allclose(label_smoothing(elements), -0.9 * own.log() - 0.1 * p.log().mean(1))


def test_corrected_and_bilinear_losses_against_their_formulas(batch: Any) -> None:
    from label_noise import pair45

    p, classes, elements = batch
    matrix = torch.from_numpy(pair45(CLASSES))
    forward = ForwardCorrection(groups=1, classes=CLASSES)(matrix.flatten(), elements)
    bias = torch.linspace(-1, 1, CLASSES, dtype=torch.float64)
    bilinear = BilinearLogLoss(CLASSES, floor=0.1)(torch.cat([matrix.flatten(), bias]), elements)
    for number, (row, y) in enumerate(zip(p, classes.tolist(), strict=True)):
        mixed = row[y] if number % 3 == 0 else 0.55 * row[y] + 0.45 * row[y - 1]
        assert forward[number] == pytest.approx(-float(mixed.log()))
        logit = 0.55 * row[y].log() + 0.45 * row[(y + 1) % CLASSES].log() + bias[y]
        assert bilinear[number] == pytest.approx(float(-0.1 * row[y].log() - torch.sigmoid(logit)))
