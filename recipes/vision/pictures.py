"""Pictures of predictions beside labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from torch import Tensor

if TYPE_CHECKING:
    from box_measures import Boxes

RIGHT, WRONG = "#009E73", "#D55E00"
# A detector answers many boxes that it hardly believes in; they would hide the others.
DRAWN_ABOVE = 0.3


def draw_classes(images: Tensor, labels: Tensor, outputs: Tensor, names: Sequence[str]) -> Figure:
    """Images with what was answered, and where that is wrong what is true.

    Args:
        images: (N, C, H, W) uint8.
        labels: (N,).
        outputs: Logits, (N, classes).
        names: Of the classes.
    """
    columns = min(8, len(images))
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(1.5 * columns, 1.8 * rows), layout="constrained")
    for axes in (panels := figure.subplots(rows, columns, squeeze=False)).flat:
        axes.set_axis_off()
    answers = outputs.argmax(1).tolist()
    for axes, image, label, answer in zip(panels.flat, images, labels.tolist(), answers, strict=False):
        axes.imshow(image.permute(1, 2, 0).squeeze(-1).numpy(), cmap="gray", interpolation="nearest")
        title = names[answer] if answer == label else f"{names[answer]}\n(is {names[label]})"
        axes.set_title(title, fontsize=9, color=RIGHT if answer == label else WRONG)
    return figure


def draw_masks(images: Tensor, masks: Tensor, answers: Tensor, names: Sequence[str]) -> Figure:
    """Images, alone and under their true and their answered classes.

    Args:
        images: (N, 3, H, W) uint8.
        masks: True class of each pixel, (N, H, W); -1 where none is true, which stays as it is.
        answers: Answered class of each pixel, (N, H, W).
        names: Of the classes.
    """
    wheel = matplotlib.colormaps["tab20"]
    colours = np.stack([wheel(number % wheel.N)[:3] for number in range(len(names))])
    figure = Figure(figsize=(10.5, 2.6 * len(images) + 0.7), layout="constrained")
    panels = figure.subplots(len(images), 3, squeeze=False)
    for row, image, mask, answer in zip(panels, images, masks, answers, strict=True):
        plain = image.permute(1, 2, 0).numpy() / 255
        titles = ("image", "true", "answered")
        for axes, title, classes in zip(row, titles, (None, mask.numpy(), answer.numpy()), strict=True):
            laid = plain
            if classes is not None:
                laid = np.where((classes >= 0)[..., None], 0.4 * plain + 0.6 * colours[classes.clip(min=0)], plain)
            axes.imshow(laid, interpolation="nearest")
            axes.set_title(title, fontsize=9)
            axes.set_axis_off()
    patches = [Patch(color=colour, label=name) for colour, name in zip(colours, names, strict=True)]
    figure.legend(handles=patches, loc="outside lower center", ncols=min(6, len(names)), fontsize=9)
    return figure


def draw_boxes(images: Tensor, truths: Sequence[Boxes], answers: Sequence[Boxes], names: Sequence[str]) -> Figure:
    """Each image twice: with its true boxes, and with those that were answered with some confidence.

    Args:
        images: (N, 3, H, W) uint8.
        truths: Boxes of each image.
        answers: Boxes of each image, with scores.
        names: Of the classes.
    """
    wheel = matplotlib.colormaps["tab10"]
    figure = Figure(figsize=(9, 3.4 * len(images)), layout="constrained")
    panels = figure.subplots(len(images), 2, squeeze=False)
    for row, image, true, answered in zip(panels, images, truths, answers, strict=True):
        for axes, title, boxes in zip(row, ("true", "answered"), (true, answered), strict=True):
            axes.imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest")
            axes.set_title(title, fontsize=9)
            axes.set_axis_off()
            drawn = zip(boxes.places.tolist(), boxes.labels.tolist(), boxes.scores.tolist(), strict=True)
            for (left, top, right, bottom), label, score in drawn:
                if score < DRAWN_ABOVE:
                    continue
                colour = wheel(label % wheel.N)
                axes.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=colour))
                caption = names[label] if boxes is true else f"{names[label]} {score:.2f}"
                axes.text(
                    left, top, caption, fontsize=6, va="bottom", color="white", backgroundcolor=(*colour[:3], 0.7)
                )
    return figure
