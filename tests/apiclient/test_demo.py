"""The demonstration, on virtual time and real sockets."""

import pytest

from apiclient import demo
from apiclient.demo import Account, Kind, Tally, kinds, run_demo


def _quiet(_tally: Tally, _groups: list[Kind]) -> None:
    pass


async def _account(paced: int = 15) -> Account:
    return await run_demo(_quiet, paced=paced, concurrency=40)


@pytest.mark.looptime
async def test_every_request_ends_as_it_should_and_both_sides_count_alike() -> None:
    """Each outcome is the expected one, and wire and token requests are the same number by both counts."""
    account = await _account()
    assert account.tally.surprises == []
    assert account.served == account.tally.wire
    assert account.tokens_served == account.tally.tokens
    assert account.ok
    assert account.tally.calls == sum(len(kind.requests) for kind in kinds(15))


@pytest.mark.looptime
async def test_it_takes_hardly_longer_than_the_quotas_demand() -> None:
    """The time taken is within a fifth of the least that the quotas allow, and never below it."""
    account = await _account(30)
    assert account.least <= account.seconds <= account.least * 1.2


@pytest.mark.looptime
async def test_it_meets_what_it_is_there_to_show() -> None:
    """There are retries, 429s, more than one token, and every kind of final failure, each with its hint."""
    account = await _account(30)
    assert account.tally.retries > 0
    assert account.answered_429 > 0
    assert account.tokens_served > 1
    expected = {str(kind.expected) for kind in kinds() if isinstance(kind.expected, str)}
    assert set(account.tally.failed) == expected
    text = "\n".join(account.lines)
    for name in expected:
        assert name in text
        assert account.tally.failures[name].hint in text
    assert "not as expected" not in text


@pytest.mark.looptime
async def test_an_outcome_that_was_not_expected_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """One kind that ends otherwise than foreseen makes the account not ok, and a line says which."""

    def wrong(paced: int) -> list[Kind]:
        return [
            Kind(kind.title, 204 if kind.title == "no quota" else kind.expected, kind.requests, kind.hops)
            for kind in kinds(paced)
        ]

    monkeypatch.setattr(demo, "kinds", wrong)
    account = await _account()
    assert not account.ok
    assert "not as expected: no quota: expected 204, got 200" in account.lines


def test_it_has_a_few_hundred_requests_to_three_endpoints_with_quotas() -> None:
    """The batch is as large and as mixed as it is said to be."""
    groups = kinds()
    assert 200 <= sum(len(kind.requests) for kind in groups) <= 500
    assert len(demo.PACED) == 3
