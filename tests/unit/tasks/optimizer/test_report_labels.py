"""Labels of points: beside them, never over one another, never outside."""

from hypothesis import given
from hypothesis import strategies as st

from tasks.optimizer.report_labels import Point, place_labels

SIZE = 8.5
FRAME = (0.0, 0.0, 200.0)
PLACES = st.lists(st.tuples(st.floats(10, 190), st.floats(10, 190)), max_size=25)


def box(point: Point, offset: tuple[float, float]) -> tuple[float, float, float, float]:
    x, y = point.x + offset[0], point.y + offset[1]
    return x, y, x + 0.64 * SIZE * len(point.label), y + 0.76 * SIZE


@given(PLACES)
def test_no_label_covers_another_or_a_point_or_leaves_the_frame(places: list[tuple[float, float]]) -> None:
    points = [Point(str(number), x, y, 4.0) for number, (x, y) in enumerate(places)]
    offsets = place_labels(points, SIZE, FRAME)
    boxes = [box(point, offset) for point, offset in zip(points, offsets, strict=True) if offset is not None]
    boxes_of_points = [(one.x - 4, one.y - 4, one.x + 4, one.y + 4) for one in points]
    for number, (left, bottom, right, top) in enumerate(boxes):
        assert left >= 0
        assert bottom >= 0
        assert right <= 200
        for other in [*boxes[:number], *boxes_of_points]:
            assert right <= other[0] or left >= other[2] or top <= other[1] or bottom >= other[3]


def test_the_first_is_served_first_and_what_has_no_room_has_no_label() -> None:
    crowd = [Point(str(number), 100.0, 100.0, 4.0) for number in range(20)]
    offsets = place_labels(crowd, SIZE, FRAME)
    assert offsets[0] is not None
    assert offsets[-1] is None
    assert place_labels([Point("1", 100.0, 100.0, 4.0)], SIZE, FRAME)[0] is not None
