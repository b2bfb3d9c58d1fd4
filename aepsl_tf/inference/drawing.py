"""Pictures for people: overlays, heat maps, contact sheets."""

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from aepsl_tf.classes import BACKGROUND, VOID
from aepsl_tf.errors import InputError

_INK, _PAPER = (45, 45, 45), (255, 255, 255)
_HATCH_PERIOD = 8  # pixels between the stripes of void
_HOTTEST = 225  # turbo's bright red; beyond it the map darkens to brown
_BORDER_SHADE = 0.3  # class borders keep this much of the picture's brightness


def overlay(image, mask, palette, alpha=0.55):
    """The image with each class tinted and outlined, void striped, background untouched.

    Args:
      image: uint8 `[H, W, 3]` RGB.
      mask: uint8 `[H, W]` class ids.
      palette: uint8 `[256, 3]` RGB by class id.
      alpha: the tint's opacity, 0..1.

    Returns:
      uint8 `[H, W, 3]` RGB.
    """
    _check_size(image, mask, "mask")
    # By OpenCV over all pixels: a quarter of the time of NumPy over those that are marked.
    colours = cv2.LUT(cv2.merge([mask] * 3), palette[None])
    drawn = cv2.addWeighted(image, 1 - alpha, colours, alpha, 0)
    # Borders lie inside their class, so they cover no background.
    around = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    border, void = np.zeros(mask.shape, bool), mask == VOID
    for neighbour in (around[:-2, 1:-1], around[2:, 1:-1], around[1:-1, :-2], around[1:-1, 2:]):
        border |= neighbour != mask
    shade = _BORDER_SHADE
    dark = cv2.addWeighted(image, shade * (1 - alpha), colours, shade * alpha, 0)
    _paint(drawn, border & ~void, dark)
    if void.any():
        rows, columns = np.ogrid[: mask.shape[0], : mask.shape[1]]
        between = (rows + columns) % _HATCH_PERIOD >= _HATCH_PERIOD // 2
        faint = 0.4 * alpha
        _paint(drawn, void & between, cv2.addWeighted(image, 1 - faint, colours, faint, 0))
    _paint(drawn, mask == BACKGROUND, image)
    return drawn


def _paint(drawn, where, picture):
    """Puts a picture's pixels where a bool `[H, W]` says onto another, in place."""
    cv2.copyTo(picture, where.view(np.uint8), drawn)


def heatmap_overlay(image, heatmap):
    """The image under a heat map: cold parts keep their colours, hot parts turn yellow to red.

    Args:
      image: uint8 `[H, W, 3]` RGB.
      heatmap: float `[H, W]`; negative counts as 0, the rest is scaled by its maximum.

    Returns:
      uint8 `[H, W, 3]` RGB.
    """
    _check_size(image, heatmap, "heatmap")
    heat = np.maximum(heatmap, 0)
    heat = heat / (heat.max() or 1)
    levels = np.rint(_HOTTEST * heat).astype(np.uint8)
    colours = cv2.applyColorMap(levels, cv2.COLORMAP_TURBO)
    opacity = 0.2 + 0.45 * heat  # turbo's cold end is dark; more of it would bury the picture
    return np.rint(_blend(image, colours[:, :, ::-1], opacity)).astype(np.uint8)


def _blend(image, colours, opacity):
    opacity = opacity[..., None]
    return (1 - opacity) * image + opacity * colours


def _check_size(image, drawn, name):
    if image.shape[:2] != drawn.shape:
        raise InputError(
            f"cannot draw a {name} {list(drawn.shape)} on an image {list(image.shape)}; "
            "resize it to the image first"
        )


def panel(rows, cell=180, title=""):
    """A contact sheet on white: captioned pictures in equal columns.

    Args:
      rows: lists of `(caption, picture)`, pictures uint8 `[H, W, 3]` RGB of any size; rows may
        differ in length, and are as high as their tallest picture.
      cell: side of the square that a picture is fitted into, in pixels.
      title: a heading above it all, if any.

    Returns:
      uint8 `[height, width, 3]` RGB.
    """
    gap = max(6, cell // 18)
    caption_font = ImageFont.load_default(size=max(10, cell / 14))
    title_font = ImageFont.load_default(size=max(13, cell / 9))
    caption_height = round(1.7 * caption_font.size)
    top = gap + (round(1.8 * title_font.size) if title else 0)

    fitted = [[(caption, _fit(picture, cell)) for caption, picture in row] for row in rows]
    heights = [max((picture.height for _, picture in row), default=0) for row in fitted]
    width = gap + max([1, *map(len, rows)]) * (cell + gap)
    height = top + sum(row_height + caption_height + gap for row_height in heights)
    sheet = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    if title:
        draw.text((gap, gap), _shorten(title, title_font, width - 2 * gap), _INK, title_font)
    y = top
    for row, row_height in zip(fitted, heights, strict=True):
        for column, (caption, picture) in enumerate(row):
            x = gap + column * (cell + gap)
            corner = (x + (cell - picture.width) // 2, y + (row_height - picture.height) // 2)
            sheet.paste(picture, corner)
            middle = (x + cell // 2, y + row_height + caption_height // 2)
            text = _shorten(caption, caption_font, cell)
            draw.text(middle, text, _INK, caption_font, anchor="mm")
        y += row_height + caption_height + gap
    return np.array(sheet)


_LINES = ((214, 39, 40), (31, 119, 180), (44, 160, 44), (148, 103, 189), (255, 127, 14),
          (23, 190, 207))  # fmt: skip


def curves(series, title, across, size=(720, 420)):
    """Lines over 1, 2, 3, … on white, with axes and a legend.

    Args:
      series: name → numbers; of different lengths if need be.
      title: a heading.
      across: what the horizontal axis counts.
      size: (width, height) in pixels.

    Returns:
      uint8 `[height, width, 3]` RGB.
    """
    width, height = size
    left, right, top, bottom = 60, 130, 44, 44
    font, heading = ImageFont.load_default(size=13), ImageFont.load_default(size=17)
    sheet = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((left, 12), title, _INK, heading)
    steps = max(map(len, series.values()))
    high = max((max(numbers) for numbers in series.values()), default=1) or 1

    def place(step, value):
        x = left + (width - left - right) * (step - 1) / max(steps - 1, 1)
        return x, height - bottom - (height - top - bottom) * value / high

    for part in range(5):
        value = high * part / 4
        _, y = place(1, value)
        draw.line([(left, y), (width - right, y)], (225, 225, 225))
        draw.text((left - 8, y), f"{value:.3g}", _INK, font, anchor="rm")
    for step in sorted({1, steps, *range(1, steps + 1, -(-steps // 10))}):
        x, y = place(step, 0)
        draw.text((x, y + 14), str(step), _INK, font, anchor="mm")
    draw.text(((left + width - right) / 2, height - 10), across, _INK, font, anchor="mm")
    for number, (name, numbers) in enumerate(series.items()):
        colour = _LINES[number % len(_LINES)]
        points = [place(step, value) for step, value in enumerate(numbers, start=1)]
        draw.line(points, colour, width=3, joint="curve")
        for x, y in points:
            draw.ellipse([x - 3, y - 3, x + 3, y + 3], colour)
        y = top + 20 * number
        draw.line([(width - right + 16, y), (width - right + 36, y)], colour, width=3)
        name = _shorten(name, font, right - 48)
        draw.text((width - right + 42, y), name, _INK, font, anchor="lm")
    return np.array(sheet)


def thumbnail(picture, side):
    """A picture uint8 `[H, W, 3]` scaled so that its longer side is `side`."""
    return np.array(_fit(picture, side))


def _fit(picture, cell):
    """The picture scaled so that its longer side is `cell`."""
    scale = cell / max(picture.shape[:2])
    size = [max(1, round(side * scale)) for side in (picture.shape[1], picture.shape[0])]
    return Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS)


def _shorten(text, font, width):
    """The text, cut with an ellipsis if it is wider than `width` pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text.rstrip() + "…"
