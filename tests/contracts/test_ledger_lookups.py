"""What is looked up in the ledger from the end: a version by its bytes, feedback by its request."""

from registry.ledger.ledger import Ledger
from registry.records.release import Feedback
from tests.drafts import served


def test_versions_are_found_by_the_bytes_they_are_made_of(ledger: Ledger) -> None:
    for model, number in (("b", 1), ("a", 1), ("a", 2)):
        ledger.admit(model, served(number))
    for digits in (served(1).artifact.sha256, "0" * 63 + "1"):
        assert [(model, one.version) for model, one in ledger.made_of(digits)] == [("a", 1), ("b", 1)]
    assert [one.version for _, one in ledger.made_of("0" * 8)] == [1, 2, 1]
    assert ledger.made_of("%") == ledger.made_of("1") == ledger.made_of("f" * 64) == ()


def test_feedback_on_one_request_is_found(ledger: Ledger) -> None:
    ledger.admit("a", served(1))
    told = Feedback(model="a", request_id="1", labels=(2, 3))
    ledger.add_feedback(told)
    assert ledger.feedback_on("a", "1") == told
    assert (ledger.feedback_on("a", "2"), ledger.feedback_on("b", "1")) == (None, None)
