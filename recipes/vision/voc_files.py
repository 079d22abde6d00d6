"""Images with labelled boxes in Pascal VOC's folders, as torchvision.datasets.VOCDetection knows them."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from box_files import SPLITS, BoxedImage, checked

from aes_dynloss import DataError

LISTS, ANNOTATIONS, IMAGES = Path("ImageSets/Main"), Path("Annotations"), Path("JPEGImages")


def is_voc(folder: Path) -> bool:
    """Whether a folder has the parts of such a data set, such as VOCdevkit/VOC2012."""
    return (folder / LISTS).is_dir() and (folder / ANNOTATIONS).is_dir()


def read_voc(folder: Path) -> dict[str, list[BoxedImage]]:
    """The images of each part that a list in ImageSets/Main names.

    Args:
        folder: With ImageSets/Main/train.txt and val.txt or test.txt, Annotations/ID.xml and JPEGImages/ID.jpg.

    Raises:
        DataError: A list or an annotation cannot be read, or an image is missing.
    """
    parts: dict[str, list[BoxedImage]] = {name: [] for name in SPLITS}
    for name, images in parts.items():
        path = folder / LISTS / f"{name}.txt"
        if path.is_file():
            try:
                lines = path.read_text(encoding="utf-8").split("\n")
            except (OSError, UnicodeDecodeError) as error:
                raise DataError(f"{path} cannot be read: {error}. Expected an image's id on each line.") from None
            images += [_image(folder, line.split()[0]) for line in lines if line.strip()]
    return parts


def _image(folder: Path, name: str) -> BoxedImage:
    path = folder / ANNOTATIONS / f"{name}.xml"
    try:
        root = ElementTree.parse(path).getroot()  # noqa: S314 - expat itself limits what entities may grow to
        size = [root.findtext(f"size/{side}", "") for side in ("width", "height")]
        objects = [(_corners(known), known.findtext("name", "").strip()) for known in root.iter("object")]
        image = folder / IMAGES / f"{name}.jpg"
    except (OSError, ElementTree.ParseError, ValueError) as error:
        raise DataError(f"{path} cannot be read as VOC's annotation: {error}. Mend or complete it.") from None
    if not image.is_file():
        raise DataError(f"There is no image {image}, which {LISTS} names. Complete data.source.")
    boxes, labels = [box for box, _ in objects], [label for _, label in objects]
    return checked(str(path), image, {"width": size[0], "height": size[1], "boxes": boxes, "labels": labels})


def _corners(known: ElementTree.Element) -> list[float]:
    """VOC's pixels count from 1, and xmax and ymax are the last ones inside."""
    left, top, right, bottom = (float(known.findtext(f"bndbox/{end}", "")) for end in ("xmin", "ymin", "xmax", "ymax"))
    return [left - 1, top - 1, right, bottom]
