"""Pictures of what models see: tiles, and sheets of them to look at, as PNG or as parts of a page."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

TILE = 320  # pixels of the longer side of a tile
_GAP = 12
_MARGIN = 36
_LUMA = np.float32([.3, .59, .11])
_COLOURS = np.array([
    [230, 85, 60], [60, 170, 90], [245, 190, 40], [50, 120, 210], [245, 130, 45], [150, 85, 190], [65, 200, 210],
    [225, 95, 170], [165, 200, 60], [135, 70, 25]], np.uint8)


@dataclass
class Tile:
    """One picture and the words below it."""

    image: Image.Image
    note: str = ''


@dataclass
class Sheet:
    """Pictures to compare: groups of tiles, each group one example with a tile for each of ``columns``.

    Args:
        name: The name of its file.
        title: What it is.
        caption: What one sees, and what to look for.
        columns: What the tiles of each group are.
        groups: The examples.
        legend: Names and colours (red, green, blue).
        across: Groups side by side.
    """

    name: str
    title: str
    caption: str
    columns: Sequence[str]
    groups: list[list[Tile]]
    legend: list[tuple[str, tuple[int, int, int]]] = field(default_factory=list)
    across: int = 2

    def to_image(self) -> Image.Image:
        """The whole sheet, on white."""
        small, large = _font(22), _font(34, bold=True)
        width, height = (max(tile.image.size[i] for group in self.groups for tile in group) for i in (0, 1))
        lines = max(tile.note.count('\n') + 1 if tile.note else 0 for group in self.groups for tile in group)
        group_width = len(self.columns) * (width + _GAP) - _GAP
        row_height = height + 30 * lines + 2 * _GAP
        across = min(self.across, len(self.groups))
        rows = -(-len(self.groups) // across)
        top = _MARGIN + 60 + 40 * any(self.columns)
        size = (2 * _MARGIN + across * (group_width + _MARGIN) - _MARGIN,
                top + rows * row_height + 50 * bool(self.legend) + _MARGIN - _GAP)
        sheet = Image.new('RGB', size, 'white')
        draw = ImageDraw.Draw(sheet)
        draw.text((_MARGIN, _MARGIN - 8), self.title, fill='black', font=large)
        for i, group in enumerate(self.groups):
            y, x = top + i // across * row_height, _MARGIN + i % across * (group_width + _MARGIN)
            for column, tile in zip(self.columns, group, strict=True):
                if i < across:
                    draw.text((x, top - 36), column, fill='#555', font=small)
                sheet.paste(tile.image, (x, y))
                draw.multiline_text((x, y + tile.image.height + 6), tile.note, fill='#555', font=small)
                x += width + _GAP
        x = _MARGIN
        for name, colour in self.legend:
            y = top + rows * row_height
            draw.rectangle((x, y, x + 24, y + 24), fill=colour)
            draw.text((x + 32, y - 2), name, fill='#555', font=small)
            x += 56 + int(draw.textlength(name, small))
        return sheet


def photo(image: np.ndarray, side: int = TILE) -> Image.Image:
    """``image``, uint8 (H, W, 3), with ``side`` pixels on its longer side."""
    height, width = image.shape[:2]
    scale = side / max(height, width)
    return Image.fromarray(image).resize((round(width * scale), round(height * scale)), Image.BICUBIC)


def draw_objects(image: np.ndarray, boxes: np.ndarray, labels: np.ndarray, masks: np.ndarray | None,
                 scores: np.ndarray | None, classes: Sequence[str]) -> Image.Image:
    """A tile in grey with boxes (N, 4) of x1, y1, x2, y2, classes, scores (N,) in hundredths, and masks (N, H, W).

    Objects are drawn in the order of their scores, the best last.
    """
    tile = photo(_faded(image))
    scale = tile.width / image.shape[1]
    order = range(len(labels)) if scores is None else np.argsort(scores)
    for i in order if masks is not None else ():
        veil = Image.fromarray(masks[i].astype(np.uint8) * 190).resize(tile.size, Image.BILINEAR)
        tile.paste(colour_of(labels[i]), (0, 0), veil)
    draw, font, digits = ImageDraw.Draw(tile), _font(24, bold=True), _font(17)
    for i in order:
        colour = colour_of(labels[i])
        x1, y1, x2, y2 = (float(v) * scale for v in boxes[i])
        draw.rectangle((x1, y1, x2, y2), outline=colour, width=3)
        name = classes[labels[i]]
        score = '' if scores is None else f'{100 * scores[i]:.0f}'
        first = draw.textlength(name, font)
        width = first + (draw.textlength(score, digits) + 6 if score else 0) + 8
        x, y = min(max(x1, 0), tile.width - width), min(max(y1 - 28, 0), tile.height - 28)
        draw.rectangle((x, y, x + width, y + 28), fill=colour)
        ink = 'black' if np.dot(colour, _LUMA) > 140 else 'white'
        draw.text((x + 4, y + 23), name, fill=ink, font=font, anchor='ls')
        draw.text((x + first + 10, y + 22), score, fill=ink, font=digits, anchor='ls')
    return tile


def draw_segments(image: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> Image.Image:
    """A tile with the classes (H, W) of the pixels in colour over the grey picture; ``background`` has no colour."""
    faded = _faded(image)
    painted = faded.copy()
    for label, name in enumerate(classes):
        if name != 'background':
            where = labels == label
            painted[where] = .2 * faded[where] + .8 * np.array(colour_of(_place(label, classes)))
    return Image.fromarray(painted).resize(photo(image).size, Image.NEAREST)


def legend(classes: Sequence[str]) -> list[tuple[str, tuple[int, int, int]]]:
    """Names and colours of ``classes``, as the tiles show them."""
    return [(name, colour_of(_place(label, classes))) for label, name in enumerate(classes) if name != 'background']


def colour_of(number: int) -> tuple[int, int, int]:
    """A colour for each number; ten differ clearly, then they repeat darker."""
    colour = _COLOURS[number % len(_COLOURS)] * .75**(number // len(_COLOURS))
    return tuple(int(v) for v in colour)


def _faded(image: np.ndarray) -> np.ndarray:
    """``image`` in grey of little contrast, so that the colours of classes stand out."""
    return np.repeat((image @ _LUMA * .45 + 90)[..., None], 3, axis=-1).astype(np.uint8)


def _place(label: int, classes: Sequence[str]) -> int:
    """The number of a class without the background, so that detection and segmentation share their colours."""
    return label - ('background' in classes[:label])


@cache
def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    name = 'DejaVuSans-Bold.ttf' if bold else 'DejaVuSans.ttf'
    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), 'fonts', 'ttf', name)), size)
