"""The detector: its elements, its loss and where it starts from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from small_boxes import built, configured, grid_of

from aes_dynloss import ConfigError
from aes_dynloss.teaching.losses.components import cross_entropy


def test_padding_changes_nothing(recipe: Any, source: Path) -> None:
    task = built(recipe, configured(recipe, source))
    known, grid = task.train.known, task.student.grid
    wide = recipe.box_data.BoxedImages(
        known.images,
        torch.nn.functional.pad(known.boxes, (0, 0, 0, 3), value=-1.0),
        torch.nn.functional.pad(known.labels, (0, 3), value=-1),
    )
    outputs = torch.randn(3, len(grid) * 7, generator=torch.Generator().manual_seed(0))
    losses = []
    for images in (known, wide):
        batch = recipe.box_data.BoxTable(images, grid, task.test.vary).batch([0, 1, 2])
        elements = task.student.elements(outputs, batch.targets, batch.groups)
        losses.append(elements.by_example(cross_entropy(elements)))
    torch.testing.assert_close(*losses)


def test_elements_weigh_as_configured(recipe: Any, source: Path) -> None:
    model = {"background_weight": 0.25, "class_weight": 3.0, "box_weight": 7.0}
    task = built(recipe, configured(recipe, source, model=model))
    task.student.sizes.copy_(torch.tensor([[12.0, 12.0], [16.0, 16.0]]))
    task.student.settle()
    grid = task.student.grid
    boxes = torch.tensor([[[1.0, 1.0, 13.0, 13.0], [32.0, 0.0, 48.0, 16.0]], [[-1.0] * 4, [-1.0] * 4]])
    matched = recipe.anchors.match(boxes, torch.tensor([[1, 0], [-1, -1]]), grid)
    assert set(matched.states[0].tolist()) == {-1, 0, 1}
    outputs = torch.randn(2, len(grid) * 7, generator=torch.Generator().manual_seed(0))
    elements = task.student.elements(outputs, matched.packed(), torch.zeros(2, dtype=torch.int64))
    of_class, of_anchor = elements.weights.split([2, len(grid)], dim=1)
    assert of_class.tolist() == [[1.5, 1.5], [0.0, 0.0]]
    expected = torch.tensor([0.25, 1.0, 0.0])[matched.states] / torch.tensor([[2.0], [1.0]])
    torch.testing.assert_close(of_anchor, expected)
    assert elements.classes.view(2, -1)[0, :2].tolist() == [1, 0]
    torch.testing.assert_close(elements.classes.view(2, -1)[:, 2:], 2 + (matched.states == 1).long())
    assert elements.kinds.view(2, -1).sum(1).tolist() == [len(grid)] * 2
    probabilities = elements.log_probs.exp().view(2, -1, 4)
    assert (probabilities[:, :2, 2:] == 0).all()
    assert (probabilities[:, 2:, :2] == 0).all()
    torch.testing.assert_close(probabilities.sum(2), torch.ones(2, 2 + len(grid)))
    raw = outputs.view(2, len(grid), 7)
    torch.testing.assert_close(probabilities[:, 2:, 3], raw[..., 4].sigmoid())
    own = matched.anchors[0]
    places = recipe.anchors.decode(raw[0, own, :4], grid.priors()[own], 16)
    distance = 1 - recipe.anchors.generalised_iou(places, boxes[0])
    torch.testing.assert_close(elements.other, torch.stack([7.0 * distance.mean(), torch.tensor(0.0)]))


def test_always_answering_none_and_the_commonest_class_has_an_error_of_one(recipe: Any, source: Path) -> None:
    task = built(recipe, configured(recipe, source, data={"teacher_dev_fraction": 0.0}))
    known, grid = task.train.known, task.student.grid
    commonest = int(known.labels[known.labels >= 0].bincount().argmax())
    raw = torch.zeros(len(known), len(grid), 7)
    raw[..., 4], raw[..., 5 + commonest] = -5.0, 5.0
    batch = task.test.__class__(known, grid, task.test.vary).batch(range(len(known)))
    elements = task.student.elements(raw.flatten(1), batch.targets, batch.groups)
    # In the mean over images of equal numbers of boxes; here they have one or two.
    assert float(elements.errors().mean()) == pytest.approx(1.0, abs=0.2)


def test_the_loss_can_be_differentiated_twice(recipe: Any, source: Path) -> None:
    task = built(recipe, configured(recipe, source))
    student = task.student.double()
    grid = grid_of(recipe, [[10.0, 12.0]], size=(16, 32))
    matched = recipe.anchors.match(torch.tensor([[[2.0, 1.0, 12.0, 14.0]]]), torch.tensor([[1]]), grid)
    student.priors = grid.priors().double()
    outputs = torch.randn(1, 14, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)

    def loss(values: torch.Tensor) -> torch.Tensor:
        elements = student.elements(values, matched.packed(), torch.zeros(1, dtype=torch.int64))
        return elements.by_example(cross_entropy(elements))

    assert torch.autograd.gradcheck(loss, outputs)
    assert torch.autograd.gradgradcheck(loss, outputs)


def test_outputs_are_those_of_the_cells_they_are_about(recipe: Any, source: Path) -> None:
    student = built(recipe, configured(recipe, source)).student
    maps = torch.arange(2 * 14 * 3 * 4).float().view(2, 14, 3, 4)
    student._trunk, student.head = [], torch.nn.Identity()
    student.mean, student.deviation = torch.zeros(1), torch.ones(1) / 255
    raw = student(maps).view(2, len(student.grid), 7)
    torch.testing.assert_close(raw[1, (2 * 4 + 3) * 2 + 1], maps[1, 7:, 2, 3])


def test_a_student_that_starts_from_a_file_keeps_its_anchors(recipe: Any, source: Path, tmp_path: Path) -> None:
    first = built(recipe, configured(recipe, source)).student
    state = first.state_dict() | {"sizes": torch.tensor([[5.0, 6.0], [20.0, 30.0]])}
    save_file(state, tmp_path / "student.safetensors")
    task = built(recipe, configured(recipe, source, model={"weights": str(tmp_path / "student.safetensors")}))
    assert torch.equal(task.train.grid.sizes, state["sizes"])
    assert torch.equal(task.student.priors, task.train.grid.priors())
    assert task.student.priors[1].tolist() == [8.0, 8.0, 20.0, 30.0]


def test_resnet18_takes_torchvisions_names(recipe: Any, source: Path, tmp_path: Path) -> None:
    from torchvision.models import resnet18

    whole = resnet18()
    save_file(whole.state_dict(), tmp_path / "resnet18.safetensors")
    model = {"backbone": "resnet18", "weights": str(tmp_path / "resnet18.safetensors"), "stride": 8}
    student = built(recipe, configured(recipe, source, model=model)).student
    assert torch.equal(student.layer2[0].conv1.weight, whole.layer2[0].conv1.weight)
    assert student(torch.zeros(1, 3, 48, 64, dtype=torch.uint8)).shape == (1, 6 * 8 * 2 * 7)
    assert [layer[0][0] for layer in student.parameter_stack()] == [
        "conv1.weight",
        "bn1.weight",
        "layer1.0.conv1.weight",
        "layer2.0.conv1.weight",
        "head.0.weight",
    ]


def test_weights_that_cannot_be_fetched(recipe: Any, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from urllib.error import URLError

    import torchvision.models

    def unreachable(**_: Any) -> None:
        raise URLError("no network")

    monkeypatch.setattr(torchvision.models, "resnet18", unreachable)
    with pytest.raises(ConfigError, match=r"model\.pretrained: torchvision cannot fetch .* no network"):
        built(recipe, configured(recipe, source, model={"backbone": "resnet18", "pretrained": True}))
