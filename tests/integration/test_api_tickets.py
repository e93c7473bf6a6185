"""Tickets at the door: every verdict, and the proof without a network."""

import asyncio
import base64
import json
from datetime import UTC, datetime
from uuid import UUID

import httpx
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from tests.house import JsonObject, RunningHouse
from tests.staff import bearer, employ, staff_headers

KEYS = "/.well-known/kiti-ticket-keys.json"


@pytest.fixture
async def door(house: RunningHouse) -> dict[str, str]:
    """The header of an inspector of the buses' operator."""
    return await staff_headers(house, "operator_staff", "pearl")


async def ask(house: RunningHouse, headers: dict[str, str], **body: object) -> httpx.Response:
    return await house.api.post("/api/tickets/verify", json=body, headers=headers)


async def verify(house: RunningHouse, door: dict[str, str], **body: object) -> JsonObject:
    answer = await ask(house, door, **body)
    assert answer.status_code == 200, answer.text
    verdict: JsonObject = answer.json()
    return verdict


async def test_a_ticket_is_valid_once_and_then_used_when_and_where(house: RunningHouse, door: dict[str, str]) -> None:
    trip = house.network.bus()
    booking, _ = await house.buy(trip, ["1A"], passengers=[{"name": "Amina"}])
    (ticket,) = await house.tickets(booking)
    assert ticket["status"] == "VALID"
    assert ticket["code"] == f"{booking['reference']}-1A"
    for asked in ({"token": ticket["token"]}, {"code": ticket["code"]}, {"code": ticket["code"].lower()}):
        looked = await verify(house, door, **asked, tripId=str(trip), use=False)
        assert (looked["result"], looked["valid"]) == ("VALID", True)
    taken = await verify(house, door, token=ticket["token"], tripId=str(trip), where="Gate 4")
    assert (taken["result"], taken["ticketId"], taken["seatNumber"]) == ("VALID", ticket["ticketId"], "1A")
    again = await verify(house, door, code=ticket["code"], tripId=str(trip), where="Gate 5")
    assert (again["result"], again["valid"], again["usedWhere"]) == ("ALREADY_USED", False, "Gate 4")
    assert abs((datetime.fromisoformat(again["usedAt"]) - datetime.now().astimezone()).total_seconds()) < 60
    assert "Gate 4" in again["message"]
    assert (await house.tickets(booking))[0]["status"] == "USED"


async def test_of_twenty_scans_at_once_one_is_told_valid(house: RunningHouse, door: dict[str, str]) -> None:
    booking, _ = await house.buy(house.network.bus(), ["1A"])
    (ticket,) = await house.tickets(booking)
    verdicts = await asyncio.gather(*(verify(house, door, token=ticket["token"], where=f"Gate {n}") for n in range(20)))
    assert sorted(verdict["result"] for verdict in verdicts) == ["ALREADY_USED"] * 19 + ["VALID"]


async def test_a_ticket_for_another_trip_and_a_void_one_do_not_let_board(
    house: RunningHouse, door: dict[str, str]
) -> None:
    booking, _ = await house.buy(house.network.bus(), ["1A"])
    (ticket,) = await house.tickets(booking)
    wrong = await verify(house, door, token=ticket["token"], tripId=str(house.network.bus()))
    assert (wrong["result"], wrong["valid"], wrong["tripId"]) == ("WRONG_TRIP", False, ticket["tripId"])
    assert (await house.tickets(booking))[0]["status"] == "VALID"
    voided = "UPDATE ticket SET state = 'void', void_reason = 'refunded' WHERE id = %s"
    await house.box.rows(voided, ticket["ticketId"])
    void = await verify(house, door, token=ticket["token"])
    assert (void["result"], void["valid"]) == ("VOID", False)
    assert "refunded" in void["message"]


async def test_a_changed_a_foreign_and_a_made_up_ticket_are_unknown(house: RunningHouse, door: dict[str, str]) -> None:
    booking, _ = await house.buy(house.network.bus(), ["1A"])
    (ticket,) = await house.tickets(booking)
    head, _, signature = ticket["token"].rpartition(".")
    flipped = "A" if signature[10] != "A" else "B"
    for token in (
        f"{head}.{signature[:10]}{flipped}{signature[11:]}",
        f"{head[:-3]}AAA.{signature}",
        head,
        ticket["token"] + "A",
        "K7MPQR-1A",
    ):
        verdict = await verify(house, door, token=token)
        assert (verdict["result"], verdict["valid"]) == ("UNKNOWN", False), token
    assert (await house.tickets(booking))[0]["status"] == "VALID"


async def test_only_staff_of_the_trips_operator_or_of_the_platform_check_tickets(house: RunningHouse) -> None:
    trip = house.network.bus()
    booking, _ = await house.buy(trip, ["1A"])
    (ticket,) = await house.tickets(booking)
    scan = {"token": ticket["token"]}
    for headers in ({}, {"authorization": "Bearer x.y.z"}, {"authorization": f"Hold {booking['holdToken']}"}):
        unknown = await ask(house, headers, **scan)
        assert (unknown.status_code, unknown.json()["code"]) == (401, "AUTHENTICATION_ERROR")
    of_lake = await staff_headers(house, "operator_staff", "lake")
    finance = await staff_headers(house, "operator_finance", "pearl")
    for headers in (of_lake, finance):
        for body in (scan, {**scan, "tripId": str(trip)}, {"code": ticket["code"], "use": False}):
            refused = await ask(house, headers, **body)
            assert (refused.status_code, refused.json()["code"]) == (403, "AUTHORIZATION_ERROR")
    # At their own door they hear that it is for another trip, and nothing is marked.
    wrong = await verify(house, of_lake, **scan, tripId=str(house.network.shuttle()))
    assert wrong["result"] == "WRONG_TRIP"
    assert (await house.tickets(booking))[0]["status"] == "VALID"
    assert (await ask(house, of_lake, **scan, tripId=str(UUID(int=7)))).status_code == 404
    taken = await verify(house, await staff_headers(house), **scan)
    assert taken["result"] == "VALID"
    assert (await house.tickets(booking))[0]["status"] == "USED"


async def test_the_audit_log_says_who_let_a_traveller_board(house: RunningHouse) -> None:
    booking, _ = await house.buy(house.network.bus(), ["1A"])
    (ticket,) = await house.tickets(booking)
    inspector = await employ(house.box.db, "operator_staff", "pearl")
    await verify(house, await bearer(house, inspector), token=ticket["token"])
    actor = "SELECT actor FROM audit_event WHERE subject_id = %s AND action = 'ticket.used'"
    staff = await house.box.value("SELECT id FROM staff WHERE email = %s", inspector.email)
    assert await house.box.value(actor, booking["bookingId"]) == f"staff:{staff}"


async def test_a_ticket_is_proved_offline_with_the_published_keys_alone(house: RunningHouse) -> None:
    """What a scanner does without a network: only the key set and ES256 (RFC 7515, RFC 7518)."""
    booking, _ = await house.buy(house.network.bus(), ["1A"])
    (ticket,) = await house.tickets(booking)
    published = await house.api.get(KEYS)
    assert published.status_code == 200
    assert "max-age" in published.headers["cache-control"]
    keys = {key["kid"]: key for key in published.json()["keys"]}
    assert all("d" not in key for key in keys.values()), "a private key is published"
    claims = _offline(ticket["token"], keys)
    ids = [UUID(bytes=_decode(claims[name])) for name in ("t", "b", "r")]
    assert ids == [UUID(ticket["ticketId"]), UUID(booking["bookingId"]), UUID(ticket["tripId"])]
    assert (claims["s"], claims["f"], claims["o"]) == ("1A", "KLA", "KGL")
    assert datetime.fromtimestamp(claims["d"], UTC) == datetime.fromisoformat(ticket["departureAt"])
    head, payload, signature = ticket["token"].split(".")
    forged = _encode(_decode(payload).replace(b"1A", b"1B"))
    with pytest.raises(InvalidSignature):
        _offline(f"{head}.{forged}.{signature}", keys)


def _offline(token: str, keys: dict[str, JsonObject]) -> JsonObject:
    head, payload, signature = token.split(".")
    header = json.loads(_decode(head))
    assert header["alg"] == "ES256"
    jwk = keys[header["kid"]]
    assert (jwk["kty"], jwk["crv"]) == ("EC", "P-256")
    numbers = ec.EllipticCurvePublicNumbers(
        int.from_bytes(_decode(jwk["x"])), int.from_bytes(_decode(jwk["y"])), ec.SECP256R1()
    )
    raw = _decode(signature)
    der = encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:]))
    numbers.public_key().verify(der, f"{head}.{payload}".encode(), ec.ECDSA(hashes.SHA256()))
    claims: JsonObject = json.loads(_decode(payload))
    return claims


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _encode(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")
