"""Weights to start from mean the same to detector and segmenter: an earlier student's, or a bare backbone's."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import small_boxes
import small_masks
import torch
from accelerate import Accelerator
from facts import facts
from safetensors.torch import load_file, save_file
from torch import Tensor

from aes_dynloss import ConfigError

TASKS = ("detection", "segmentation")
# Layers of ResNet-18 that each of them has, with more than one number a channel.
BACKBONES = {
    "detection": "conv1, layer1, layer2, layer3",
    "segmentation": "conv1, layer1, layer2, layer3, layer4",
}


def student_of(recipe: Any, task: str, folder: Path, **model: Any) -> Any:
    """The student that a task begins with."""
    if task == "detection":
        source = small_boxes.write_rows(folder / "boxes.parquet", small_boxes.small_rows())
        return small_boxes.built(recipe, small_boxes.configured(recipe, source, model=model)).student
    from segmentation import build

    source = small_masks.written(folder / "masks.parquet", small_masks.rows())
    return build(small_masks.configured(source, model=model), Accelerator(cpu=True)).student


def other(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same names and shapes with other values, so that it shows what was taken; sizes of anchors stay above 0."""
    return {name: tensor + (0.5 if tensor.is_floating_point() else 3) for name, tensor in tensors.items()}


def backbone_of(student: Any) -> dict[str, Tensor]:
    """A student's weights beneath its head, by the names that a bare backbone has."""
    plain = {name.removeprefix("backbone."): tensor for name, tensor in student.state_dict().items()}
    return {
        name: tensor
        for name, tensor in plain.items()
        if name.partition(".")[0] not in ("head", "mean", "deviation", "sizes")
    }


@pytest.mark.parametrize("backbone", ["light", "resnet18"])
@pytest.mark.parametrize("task", TASKS)
def test_an_earlier_students(recipe: Any, tmp_path: Path, caplog: Any, task: str, backbone: str) -> None:
    known = other(student_of(recipe, task, tmp_path, backbone=backbone).state_dict())
    save_file(known, file := tmp_path / "student.safetensors")
    with caplog.at_level(logging.INFO, "aes_dynloss.vision"):
        found = student_of(recipe, task, tmp_path, backbone=backbone, weights=str(file)).state_dict()
    assert found.keys() == known.keys()
    assert [name for name in known if not torch.equal(found[name], known[name])] == []
    (line,) = [record.getMessage() for record in caplog.records if "Weights from" in record.getMessage()]
    assert f"{len(known)} of the student's {len(known)} fitted (" in line
    assert line.endswith(f"), 0 of the file's {len(known)} were left.")


@pytest.mark.parametrize("task", TASKS)
def test_a_bare_backbones(recipe: Any, tmp_path: Path, caplog: Any, task: str) -> None:
    from torchvision.models import resnet18

    known = other(resnet18().state_dict())
    save_file(known, file := tmp_path / "resnet18.safetensors")
    with caplog.at_level(logging.INFO, "aes_dynloss.vision"):
        student = student_of(recipe, task, tmp_path, backbone="resnet18", weights=str(file))
    found, rest = backbone_of(student), student_of(recipe, task, tmp_path, backbone="resnet18").state_dict()
    assert [name for name in found if not torch.equal(found[name], known[name])] == []
    assert torch.equal(student.state_dict()["head.1.weight"], rest["head.1.weight"])
    (line,) = [record.getMessage() for record in caplog.records if "Weights from" in record.getMessage()]
    fitted = f"{len(found)} of the student's {len(rest)} fitted ({BACKBONES[task]})"
    assert line.endswith(f"{fitted}, {len(known) - len(found)} of the file's {len(known)} were left.")


@pytest.mark.parametrize("task", TASKS)
def test_the_other_tasks_students(recipe: Any, tmp_path: Path, task: str) -> None:
    """A backbone goes from task to task, by whatever name it was saved."""
    (giver,) = set(TASKS) - {task}
    known = other(student_of(recipe, giver, tmp_path, backbone="resnet18").state_dict())
    save_file(known, file := tmp_path / "student.safetensors")
    plain = {name.removeprefix("backbone."): tensor for name, tensor in load_file(file).items()}
    found = backbone_of(student_of(recipe, task, tmp_path, backbone="resnet18", weights=str(file)))
    layers = ("conv1", "bn1", "layer1", "layer2", "layer3")
    shared = [name for name in found if name.startswith(layers)]
    assert len(shared) > 60
    assert [name for name in shared if not torch.equal(found[name], plain[name])] == []


@pytest.mark.parametrize("task", TASKS)
def test_of_another_width(recipe: Any, tmp_path: Path, task: str) -> None:
    """Means of pixels, counters and the last biases fit any student; they are no weights."""
    known = student_of(recipe, task, tmp_path, width=5 if task == "detection" else 12).state_dict()
    save_file(known, file := tmp_path / "student.safetensors")
    with pytest.raises(ConfigError, match=r"nothing in .* fits this student, which has .*stem\.0\.weight \(.*width\.$"):
        student_of(recipe, task, tmp_path, weights=str(file))


@pytest.mark.parametrize("task", TASKS)
def test_that_fit_in_part_are_told(recipe: Any, tmp_path: Path, caplog: Any, task: str) -> None:
    known = dict(student_of(recipe, task, tmp_path).state_dict())
    odd = next(name for name in known if name.removeprefix("backbone.") == "stem.0.weight")
    known[odd] = known[odd][:2].contiguous()
    save_file(known, file := tmp_path / "student.safetensors")
    with caplog.at_level(logging.INFO, "aes_dynloss.vision"):
        student_of(recipe, task, tmp_path, weights=str(file))
    (warned,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warned.startswith("1 weights in ")
    assert warned.endswith("another shape (stem); those start at random.")
    (line,) = [record.getMessage() for record in caplog.records if "Weights from" in record.getMessage()]
    assert "fitted (stage1, " in line


@pytest.mark.parametrize("task", TASKS)
def test_imagenets(recipe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str) -> None:
    """What torchvision fetches is what the backbone starts with, and its pixels are centred as they were there."""
    from torchvision.models import resnet18
    from torchvision.models._api import WeightsEnum

    known = other(resnet18().state_dict())
    monkeypatch.setattr(WeightsEnum, "get_state_dict", lambda *_, **__: known)
    student = student_of(recipe, task, tmp_path, backbone="resnet18", pretrained=True)
    found = backbone_of(student)
    assert len(found) > 60
    assert [name for name in found if not torch.equal(found[name], known[name])] == []
    assert student.state_dict()["mean"].flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])


def test_a_damaged_download(recipe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    (tmp_path / "hub/checkpoints").mkdir(parents=True)
    (tmp_path / "hub/checkpoints/resnet18-f37072fd.pth").write_bytes(b"junk")
    with pytest.raises(ConfigError, match=facts("model.pretrained", "checkpoints/resnet18*")):
        student_of(recipe, "detection", tmp_path, backbone="resnet18", pretrained=True)
