"""The pyramid pooling network: its elements, its sizes, its first weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import save_file
from small_masks import (
    HEIGHT,
    WIDTH,
    configured,
    student_of,
    tables,
)
from torch.nn import functional

from aes_dynloss import ConfigError

pytestmark = pytest.mark.usefixtures("recipes_in_reach")


def test_elements_of_all_pixels_give_the_cross_entropy_of_full_logits(mask_source: Path) -> None:
    from mask_data import Masks

    student, test = student_of(mask_source), tables(mask_source)["test"]
    masks = test.masks.clone()
    masks[1] = -1
    batch = Masks(test.images, masks, HEIGHT * WIDTH).batch(range(3))
    outputs = torch.randn(3, 3 * 3 * 4)
    elements = student.elements(outputs, batch.targets, batch.groups)
    full = functional.interpolate(outputs.view(3, 3, 3, 4), (HEIGHT, WIDTH), mode="bilinear", align_corners=False)
    plain = functional.cross_entropy(full, masks.long(), ignore_index=-1, reduction="none").flatten(1)
    known = (masks >= 0).flatten(1)
    losses = -elements.log_probs.gather(1, elements.classes[:, None]).squeeze(1)
    expected = [float(plain[0][known[0]].mean()), 0.0, float(plain[2][known[2]].mean())]
    assert elements.by_example(losses).tolist() == pytest.approx(expected, abs=1e-5)
    assert torch.equal(elements.weights > 0, known)
    assert elements.weights.sum(1).tolist() == pytest.approx([1.0, 0.0, 1.0])
    # The unit of errors: always to answer train's commonest class costs 1.
    counts = torch.bincount(tables(mask_source)["train"].masks[tables(mask_source)["train"].masks >= 0])
    assert float(student.chance_error) == pytest.approx(1 - float(counts.max() / counts.sum()))
    wrong = (full.argmax(1).flatten(1) != masks.flatten(1)) & known
    error = wrong.sum(1) / known.sum(1).clamp(min=1) / student.chance_error
    assert elements.errors().tolist() == pytest.approx(error.tolist(), abs=1e-5)


def test_elements_have_second_derivatives_and_repeat(mask_source: Path) -> None:
    student, train = student_of(mask_source).double(), tables(mask_source, pixels=5)["train"]
    batch = train.batch([0])
    outputs = torch.randn(1, 36, dtype=torch.float64, requires_grad=True)
    shown = [student.elements(outputs, batch.targets, batch.groups) for _ in range(2)]
    assert torch.equal(shown[0].log_probs, shown[1].log_probs)
    assert torch.equal(shown[0].weights, shown[1].weights)
    assert torch.autograd.gradgradcheck(
        lambda given: student.elements(given, batch.targets, batch.groups).log_probs, (outputs,)
    )


def test_a_step_can_be_replayed(mask_source: Path) -> None:
    student, train = student_of(mask_source), tables(mask_source, flip=True, zoom=2.0)["train"]
    batch = train.batch([0, 3, 5])
    answers = []
    for _ in range(2):
        torch.manual_seed(7)
        elements = student.elements(student(**batch.inputs), batch.targets, batch.groups)
        answers.append(elements.log_probs.detach())
    assert torch.equal(*answers)


@pytest.mark.parametrize("backbone", ["light", "resnet18"])
@pytest.mark.parametrize("size", [(16, 24), (45, 61)])
def test_coarse_logits_fit_every_size(mask_source: Path, backbone: str, size: tuple[int, int]) -> None:
    from pyramid_network import PyramidNetwork, PyramidNetworkConfig

    if backbone == "resnet18":
        pytest.importorskip("torchvision")
    images = torch.randint(256, (2, 3, *size), dtype=torch.uint8)
    masks = torch.randint(-1, 3, (2, *size)).to(torch.int16)
    student = PyramidNetwork(PyramidNetworkConfig(backbone=backbone, width=8), images, masks, 3)
    outputs = student(images)
    assert outputs.shape == (2, 3 * -(-size[0] // 8) * -(-size[1] // 8))
    assert student.full_size(outputs).shape == (2, 3, *size)
    named = {name for layer in student.parameter_stack() for name, _ in layer}
    assert named == dict(student.named_parameters()).keys()
    assert all(name.startswith("head.") for name, _ in student.parameter_stack()[-1])
    # A micro-batch may be one image.
    student(images[:1]).sum().backward()
    assert all(parameter.grad is not None for parameter in student.parameters())


def test_resnet18_starts_from_a_backbones_file(mask_source: Path, tmp_path: Path) -> None:
    torchvision = pytest.importorskip("torchvision")
    from segmentation import build

    torch.manual_seed(1)
    known = torchvision.models.resnet18().state_dict()
    save_file(known, tmp_path / "resnet18.safetensors")
    model = {"backbone": "resnet18", "weights": str(tmp_path / "resnet18.safetensors")}
    task = build(configured(mask_source, model=model), Accelerator(cpu=True))
    for name, tensor in task.student.backbone.state_dict().items():
        assert torch.equal(tensor, known[name])


def test_light_starts_from_an_earlier_student(mask_source: Path, tmp_path: Path) -> None:
    from segmentation import build

    earlier = student_of(mask_source)
    save_file(earlier.state_dict(), tmp_path / "student.safetensors")
    config = configured(mask_source, model={"weights": str(tmp_path / "student.safetensors")}, training={"seed": 5})
    task = build(config, Accelerator(cpu=True))
    for name, tensor in task.student.state_dict().items():
        assert torch.equal(tensor, earlier.state_dict()[name])


def test_weights_that_cannot_be_had_are_refused(mask_source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = pytest.importorskip("torchvision.models")

    def unreachable(**_: Any) -> None:
        raise URLError("no route")

    monkeypatch.setattr(models, "resnet18", unreachable)
    with pytest.raises(ConfigError, match=r"model.pretrained: torchvision cannot fetch .*no route"):
        student_of(mask_source, {"backbone": "resnet18", "pretrained": True})
