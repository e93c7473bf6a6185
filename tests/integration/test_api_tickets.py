"""Tickets at the door: every verdict, and the proof without a network."""

import asyncio
import base64
import json
from datetime import UTC, datetime
from uuid import UUID

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from tests.house import JsonObject, RunningHouse

KEYS = "/.well-known/kiti-ticket-keys.json"


async def verify(house: RunningHouse, **body: object) -> JsonObject:
    answer = await house.api.post("/api/tickets/verify", json=body)
    assert answer.status_code == 200, answer.text
    verdict: JsonObject = answer.json()
    return verdict


async def test_a_ticket_is_valid_once_and_then_used_when_and_where(house: RunningHouse) -> None:
    trip = house.network.bus()
    booking, _ = await house.buy(trip, ["1A"], passengers=[{"name": "Amina"}])
    (ticket,) = await house.tickets(booking)
    assert ticket["status"] == "VALID"
    assert ticket["code"] == f"{booking['reference']}-1A"
    for asked in ({"token": ticket["token"]}, {"code": ticket["code"]}, {"code": ticket["code"].lower()}):
        looked = await verify(house, **asked, tripId=str(trip), use=False)
        assert (looked["result"], looked["valid"]) == ("VALID", True)
    taken = await verify(house, token=ticket["token"], tripId=str(trip), where="Gate 4")
    assert (taken["result"], taken["ticketId"], taken["seatNumber"]) == ("VALID", ticket["ticketId"], "1A")
    again = await verify(house, code=ticket["code"], tripId=str(trip), where="Gate 5")
    assert (again["result"], again["valid"], again["usedWhere"]) == ("ALREADY_USED", False, "Gate 4")
    assert abs((datetime.fromisoformat(again["usedAt"]) - datetime.now().astimezone()).total_seconds()) < 60
    assert "Gate 4" in again["message"]
    assert (await house.tickets(booking))[0]["status"] == "USED"


async def test_of_twenty_scans_at_once_one_is_told_valid(house: RunningHouse) -> None:
    booking, _ = await house.buy(house.network.bus(), ["1A"])
    (ticket,) = await house.tickets(booking)
    verdicts = await asyncio.gather(*(verify(house, token=ticket["token"], where=f"Gate {n}") for n in range(20)))
    assert sorted(verdict["result"] for verdict in verdicts) == ["ALREADY_USED"] * 19 + ["VALID"]


async def test_a_ticket_for_another_trip_and_a_void_one_do_not_let_board(house: RunningHouse) -> None:
    booking, _ = await house.buy(house.network.bus(), ["1A"])
    (ticket,) = await house.tickets(booking)
    wrong = await verify(house, token=ticket["token"], tripId=str(house.network.bus()))
    assert (wrong["result"], wrong["valid"], wrong["tripId"]) == ("WRONG_TRIP", False, ticket["tripId"])
    assert (await house.tickets(booking))[0]["status"] == "VALID"
    voided = "UPDATE ticket SET state = 'void', void_reason = 'refunded' WHERE id = %s"
    await house.box.rows(voided, ticket["ticketId"])
    void = await verify(house, token=ticket["token"])
    assert (void["result"], void["valid"]) == ("VOID", False)
    assert "refunded" in void["message"]


async def test_a_changed_a_foreign_and_a_made_up_ticket_are_unknown(house: RunningHouse) -> None:
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
        verdict = await verify(house, token=token)
        assert (verdict["result"], verdict["valid"]) == ("UNKNOWN", False), token
    assert (await house.tickets(booking))[0]["status"] == "VALID"


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
