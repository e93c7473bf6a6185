"""Which ways to pay are left by what is said per operator, currency and country."""

from collections.abc import AsyncIterator, Mapping
from typing import Any
from uuid import UUID, uuid4

import pytest

from kiti.flows.payment_options import ways
from kiti.gateways.flutterwave import Flutterwave
from kiti.gateways.gateway import Gateway
from kiti.payments.model import Option

PEARL, LAKE = uuid4(), uuid4()


@pytest.fixture
async def gateways() -> AsyncIterator[Mapping[str, Gateway]]:
    """One provider under two names: what they can do is the same."""
    found = {
        name: Flutterwave(base_url="http://127.0.0.1:9/v3", secret_key="k", webhook_hash="h")
        for name in ("first", "second")
    }
    yield found
    for gateway in found.values():
        await gateway.close()


def said(method: str, gateway: str = "first", **more: Any) -> Option:
    told: dict[str, Any] = {
        "id": uuid4(),
        "operator_id": None,
        "currency": "UGX",
        "country": None,
        "method": method,
        "gateway": gateway,
        "priority": 100,
        "is_on": True,
    }
    return Option(**{**told, **more})


def left(gateways: Mapping[str, Gateway], *options: Option, by: tuple[UUID, ...] = (PEARL,)) -> list[tuple[str, str]]:
    found = ways(gateways, options, operators=by, currency="UGX")
    return [(way.method, way.gateway) for way in found]


async def test_with_nothing_said_all_is_possible_that_gateways_can_do(gateways: Mapping[str, Gateway]) -> None:
    assert left(gateways) == [
        ("CARD", "first"),
        ("MOBILE_MONEY", "first"),
        ("CARD", "second"),
        ("MOBILE_MONEY", "second"),
    ]
    naira = ways(gateways, [], operators=[PEARL], currency="NGN")
    assert [way.method for way in naira if way.gateway == "first"] == ["CARD", "BANK_TRANSFER", "USSD"]
    assert all(way.channels == ("hosted",) for way in naira)
    assert ways(gateways, [], operators=[PEARL], currency="SCR") == []


async def test_only_mobile_money_can_be_asked_of_a_phone(gateways: Mapping[str, Gateway]) -> None:
    found = {way.method: way for way in ways(gateways, [], operators=[PEARL], currency="UGX") if way.gateway == "first"}
    assert found["MOBILE_MONEY"].channels == ("hosted", "direct")
    assert found["MOBILE_MONEY"].countries == {"UG"}
    assert found["CARD"].channels == ("hosted",)


async def test_as_soon_as_something_is_on_only_that_is_possible_by_priority(gateways: Mapping[str, Gateway]) -> None:
    assert left(gateways, said("CARD"), said("CARD", "second", priority=5)) == [("CARD", "second"), ("CARD", "first")]


async def test_what_is_off_takes_only_itself_away(gateways: Mapping[str, Gateway]) -> None:
    assert ("CARD", "first") not in left(gateways, said("CARD", is_on=False))
    assert len(left(gateways, said("CARD", is_on=False))) == 3


async def test_an_operators_own_word_comes_before_what_is_said_for_all(gateways: Mapping[str, Gateway]) -> None:
    options = (said("CARD"), said("MOBILE_MONEY"), said("CARD", operator_id=LAKE, is_on=False))
    assert left(gateways, *options, by=(LAKE,)) == [("MOBILE_MONEY", "first")]
    assert left(gateways, *options, by=(PEARL,)) == [("CARD", "first"), ("MOBILE_MONEY", "first")]


async def test_a_countrys_word_comes_before_anywhere_and_after_the_operators(gateways: Mapping[str, Gateway]) -> None:
    options = [said("CARD"), said("CARD", country="UG", is_on=False)]
    assert left(gateways, *options) == []
    assert left(gateways, *options, said("CARD", operator_id=PEARL)) == [("CARD", "first")]


async def test_over_several_operators_only_what_all_allow_is_possible(gateways: Mapping[str, Gateway]) -> None:
    options = (
        said("CARD", operator_id=PEARL),
        said("MOBILE_MONEY", operator_id=PEARL),
        said("MOBILE_MONEY", operator_id=LAKE),
        said("CARD", "second", operator_id=LAKE),
    )
    assert left(gateways, *options, by=(PEARL, LAKE)) == [("MOBILE_MONEY", "first")]
    assert left(gateways, said("CARD", operator_id=LAKE), by=(PEARL, LAKE)) == [("CARD", "first")]


async def test_what_no_gateway_can_do_is_not_made_possible_by_saying_so(gateways: Mapping[str, Gateway]) -> None:
    assert left(gateways, said("USSD"), said("CARD", "gone")) == []
