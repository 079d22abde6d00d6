"""Pictures of predictions beside labels."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from torch import Tensor

RIGHT, WRONG = "#009E73", "#D55E00"


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
        axes.imshow(image.permute(1, 2, 0).squeeze(-1), cmap="gray", interpolation="nearest")
        words = names[answer] if answer == label else f"{names[answer]}\n(is {names[label]})"
        axes.set_title(words, fontsize=9, color=RIGHT if answer == label else WRONG)
    return figure
