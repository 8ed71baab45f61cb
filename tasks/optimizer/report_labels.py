"""Where the numbers of points stand in a plot, so that they cover neither one another nor a point."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

Box = tuple[float, float, float, float]
"""Left, bottom, right, top, in points."""

_GAP_PT = 2.0
_DIGIT_WIDTH = 0.64
"""Width of a digit as a share of the font's size."""
_CAP_HEIGHT = 0.76


@dataclass(frozen=True)
class Point:
    """A point with its label; the coordinates are in points (1/72 inch)."""

    label: str
    x: float
    y: float
    radius: float


def place_labels(
    points: Sequence[Point], font_pt: float, within: tuple[float, float, float]
) -> list[tuple[float, float] | None]:
    """Return for each label the offset of its lower left corner from its point; None where there is no room.

    Labels are placed in the order given, each on the first of eight sides that is free.

    Args:
        points: the labels in the order of importance.
        font_pt: size of the font.
        within: left, bottom and right edge that labels keep inside of.
    """
    taken = [(one.x - one.radius, one.y - one.radius, one.x + one.radius, one.y + one.radius) for one in points]
    found: list[tuple[float, float] | None] = []
    for point in points:
        width, height = _DIGIT_WIDTH * font_pt * len(point.label), _CAP_HEIGHT * font_pt
        offset = next(
            (
                (x, y)
                for x, y in _sides(point.radius + _GAP_PT, width, height)
                if _is_free(_box(point, x, y, width, height), taken, within)
            ),
            None,
        )
        if offset is not None:
            taken.append(_box(point, *offset, width, height))
        found.append(offset)
    return found


def _sides(distance: float, width: float, height: float) -> Iterator[tuple[float, float]]:
    near = 0.7 * distance
    yield near, near
    yield -near - width, near
    yield near, -near - height
    yield -near - width, -near - height
    yield -width / 2, distance
    yield -width / 2, -distance - height
    yield distance, -height / 2
    yield -distance - width, -height / 2


def _box(point: Point, x: float, y: float, width: float, height: float) -> Box:
    return point.x + x, point.y + y, point.x + x + width, point.y + y + height


def _is_free(box: Box, taken: Sequence[Box], within: tuple[float, float, float]) -> bool:
    left, bottom, right, top = box
    if left < within[0] or bottom < within[1] or right > within[2]:
        return False
    return not any(left < other[2] and right > other[0] and bottom < other[3] and top > other[1] for other in taken)
