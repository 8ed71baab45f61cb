import pytest
from fastapi import HTTPException

from flows import api_etags
from registry.errors import InputError, VersionConflict


@pytest.mark.parametrize(
    ("if_match", "body", "expected"),
    [
        (None, None, None),
        (None, 3, 3),
        ('"7"', None, 7),
        ('"6", "7"', None, 7),
        ('"7-abc123"', None, 7),
        ("*", None, 7),
        ('"7"', 7, 7),
    ],
)
def test_what_the_caller_has_seen_is_the_generation_to_replace(
    if_match: str | None, body: int | None, expected: int | None
) -> None:
    assert api_etags.expected(if_match, body, current=7) == expected


@pytest.mark.parametrize("if_match", ['"6"', 'W/"7"', "7", '"seven"', '"7-"', '""', '"99999999999999999999"'])
def test_a_tag_that_is_not_the_routes_is_412(if_match: str) -> None:
    with pytest.raises(HTTPException) as caught:
        api_etags.expected(if_match, None, current=7)
    assert caught.value.status_code == 412


def test_any_tag_matches_no_route_that_is_not_there() -> None:
    with pytest.raises(HTTPException, match="412"):
        api_etags.expected("*", None, current=0)
    assert api_etags.expected('"0"', None, current=0) == 0


def test_header_and_body_that_expect_different_generations_are_refused() -> None:
    with pytest.raises(InputError, match="give one of the two"):
        api_etags.expected('"7"', 6, current=7)


def test_a_lost_race_is_412_only_for_those_who_sent_a_tag() -> None:
    with pytest.raises(HTTPException, match="another won"), api_etags.precondition('"7"'):
        raise VersionConflict("another won")
    with pytest.raises(VersionConflict), api_etags.precondition(None):
        raise VersionConflict("another won")
