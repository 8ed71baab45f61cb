"""Answers are kept by key on SQLite and on Postgres: once for each key, for a bounded time."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from registry.ledger import kept_answers
from registry.ledger.kept_answers import KeptAnswer, KeptAnswers, Refusal
from registry.ledger.ledger import Ledger
from registry.ledger.tables import KEPT_ANSWERS

ANSWER = KeptAnswer(202, {"etag": '"7"'}, '{"id": "1"}')


@pytest.fixture
def answers(ledger_url: str) -> Iterator[KeptAnswers]:
    opened = Ledger(ledger_url)
    opened.migrate()
    yield opened.answers
    opened.close()


def test_a_key_belongs_to_one_request_of_one_tenant(answers: KeptAnswers) -> None:
    assert answers.claim("default", "k", "a") is None
    assert answers.claim("default", "k", "a") is Refusal.IN_PROGRESS
    assert answers.claim("acme", "k", "b") is None
    answers.keep("default", "k", ANSWER)
    assert answers.claim("default", "k", "a") == ANSWER
    assert answers.claim("default", "k", "b") is Refusal.OTHER_REQUEST
    answers.release("default", "k")
    assert answers.claim("default", "k", "a") == ANSWER, "what was answered is not let go of"
    answers.release("acme", "k")
    assert answers.claim("acme", "k", "c") is None


def test_of_many_at_once_one_gets_the_key(answers: KeptAnswers) -> None:
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: answers.claim("default", "k", "a"), range(8)))
    assert sorted(map(str, found)) == ["None", *["in progress"] * 7]


def test_answers_and_lost_requests_are_forgotten_in_time(answers: KeptAnswers, ledger_url: str) -> None:
    for key in ("answered", "lost", "working"):
        assert answers.claim("default", key, "a") is None
    answers.keep("default", "answered", ANSWER)
    _make_older(ledger_url, kept_answers.ABANDONED, but="working")
    assert answers.claim("default", "lost", "a") is None
    assert answers.claim("default", "working", "a") is Refusal.IN_PROGRESS
    assert answers.claim("default", "answered", "a") == ANSWER
    _make_older(ledger_url, kept_answers.KEPT)
    assert answers.claim("default", "answered", "b") is None
    with sa.create_engine(ledger_url).connect() as connection:
        assert connection.execute(sa.select(KEPT_ANSWERS.c.key)).scalars().all() == ["answered"]


def _make_older(url: str, age: timedelta, but: str = "") -> None:
    then = datetime.now(UTC) - age - age / 10
    with sa.create_engine(url).begin() as connection:
        connection.execute(sa.update(KEPT_ANSWERS).where(KEPT_ANSWERS.c.key != but).values(at=then))
