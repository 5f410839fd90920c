"""Random crops of pictures as feeds of a graph that reads pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from olivine.passes.errors import UsageError
from olivine.passes.graphs.graph_inputs import Feed, GraphInput

DEMO = "demo:photos"
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
#: ImageNet's, which most models of photographs were trained with.
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
#: Least share of a picture's shorter side that a crop takes.
LEAST_SIDE = 0.4


def picture_feeds(name: str, inputs: Sequence[GraphInput], count: int, seed: int, part: int, parts: int) -> list[Feed]:
    """Square crops, normalized as ImageNet's are, one a batch.

    Of several pictures each belongs to one part; of fewer pictures than parts each is cut into vertical strips, one a
    part, so that no part sees another's.

    Args:
        name: ``demo:photos`` (two photographs that scikit-learn brings), or a folder.
        inputs: of the graph: one, of [batch, 3, height, width].
        count: of crops.
        seed: of the choice of crops.
        part: number of the part, from 0.
        parts: number of all parts.

    Raises:
        UsageError: when there are no pictures, or the graph reads something else.
    """
    from PIL import Image

    if len(inputs) != 1 or len(inputs[0].dims) != 4 or inputs[0].dims[1] != 3:
        raise UsageError("inputs.pictures: the graph does not read one array of [batch, 3, height, width] alone")
    pixels = inputs[0]
    height, width = pixels.dims[2:]
    if isinstance(height, str) or isinstance(width, str):
        raise UsageError("inputs.pictures: height and width of the graph's input are open; give inputs.data instead")
    files = _files(name)
    strips = len(files) < parts
    own = files if strips else files[part::parts]
    rng = np.random.default_rng([seed, part])
    feeds = []
    for number in range(count):
        with Image.open(own[number % len(own)]) as opened:
            picture = opened.convert("RGB")
        if strips:
            edge = picture.width // parts
            picture = picture.crop((part * edge, 0, (part + 1) * edge, picture.height))
        side = round(min(picture.size) * rng.uniform(LEAST_SIDE, 1))
        left, top = (int(rng.integers(0, size - side + 1)) for size in picture.size)
        crop = picture.resize((width, height), box=(left, top, left + side, top + side))
        values = (np.asarray(crop, dtype=np.float64) / 255 - MEAN) / DEVIATION
        feeds.append({pixels.name: values.transpose(2, 0, 1)[None].astype(pixels.dtype)})
    return feeds


def _files(name: str) -> list[Path]:
    if name == DEMO:
        import sklearn

        folder = Path(sklearn.__file__).parent / "datasets" / "images"
    else:
        folder = Path(name).expanduser()
        if not folder.is_dir():
            raise UsageError(f"inputs.pictures: there is no folder '{name}'; name one, or {DEMO}")
    pictures = sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES)
    if not pictures:
        raise UsageError(f"inputs.pictures: {folder} has no picture ({', '.join(SUFFIXES)})")
    return pictures
