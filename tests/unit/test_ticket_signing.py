import base64
import json
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from kiti.tickets import signing
from kiti.tickets.signing import Claims, Forged, Malformed, SealedByAnotherSecret

KEY = signing.new_key()
KEYS = {KEY.kid: KEY.public}
CLAIMS = Claims(
    ticket=UUID("019c8a00-0000-7000-8000-000000000001"),
    booking=UUID("019c8a00-0000-7000-8000-000000000002"),
    trip=UUID("019c8a00-0000-7000-8000-000000000003"),
    seat="12A",
    from_code="KLA",
    to_code="KGL",
    departs_at=1_772_562_600,
    initials="AN",
)
TOKEN = signing.sign(CLAIMS, key=KEY)
CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."


def test_a_signed_ticket_says_what_was_signed() -> None:
    assert signing.verify(TOKEN, keys=KEYS) == CLAIMS


def test_a_token_fits_a_qr_code_that_a_cheap_camera_reads() -> None:
    assert len(TOKEN) <= 331  # version 13 at level M


def test_the_claims_are_as_documented_for_scanners() -> None:
    header, body, signature = (base64.urlsafe_b64decode(part + "==") for part in TOKEN.split("."))
    assert json.loads(header) == {"alg": "ES256", "kid": KEY.kid}
    claims = json.loads(body)
    assert set(claims) == set("tbrsfodn")
    assert base64.urlsafe_b64decode(claims["t"] + "==") == CLAIMS.ticket.bytes
    assert len(signature) == 64


def test_a_ticket_signed_by_another_key_is_forged() -> None:
    other = signing.new_key()
    with pytest.raises(Forged):
        signing.verify(signing.sign(CLAIMS, key=other), keys=KEYS)


def test_a_ticket_that_borrows_our_key_name_is_forged() -> None:
    impostor = signing.SigningKey(KEY.kid, signing.new_key().private)
    with pytest.raises(Forged):
        signing.verify(signing.sign(CLAIMS, key=impostor), keys=KEYS)


def test_another_seat_under_the_old_signature_is_forged() -> None:
    header, body, signature = TOKEN.split(".")
    altered = base64.urlsafe_b64decode(body + "==").replace(b'"12A"', b'"01A"')
    with pytest.raises(Forged):
        signing.verify(f"{header}.{_encoded(altered)}.{signature}", keys=KEYS)


@pytest.mark.parametrize("algorithm", ["none", "None", "HS256", "ES384", ""])
def test_no_other_algorithm_is_believed(algorithm: str) -> None:
    _, body, signature = TOKEN.split(".")
    header = _encoded(json.dumps({"alg": algorithm, "kid": KEY.kid}).encode())
    for tail in (signature, ""):
        with pytest.raises((Forged, Malformed)):
            signing.verify(f"{header}.{body}.{tail}", keys=KEYS)


def test_a_header_may_not_ask_for_more_than_we_know() -> None:
    _, body, signature = TOKEN.split(".")
    header = _encoded(json.dumps({"alg": "ES256", "kid": KEY.kid, "crit": ["b64"], "b64": False}).encode())
    with pytest.raises(Malformed):
        signing.verify(f"{header}.{body}.{signature}", keys=KEYS)


def test_a_zero_signature_is_forged() -> None:
    header, body, _ = TOKEN.split(".")
    with pytest.raises(Forged):
        signing.verify(f"{header}.{body}.{_encoded(bytes(64))}", keys=KEYS)


@pytest.mark.parametrize("length", range(0, len(TOKEN), 7))
def test_a_cut_off_token_never_verifies(length: int) -> None:
    with pytest.raises(Malformed):
        signing.verify(TOKEN[:length], keys=KEYS)


@given(position=st.integers(0, len(TOKEN) - 1), character=st.sampled_from(CHARACTERS))
def test_changing_any_character_breaks_the_ticket(position: int, character: str) -> None:
    altered = TOKEN[:position] + character + TOKEN[position + 1 :]
    if altered != TOKEN:
        with pytest.raises((Forged, Malformed)):
            signing.verify(altered, keys=KEYS)


@given(position=st.integers(0, len(TOKEN)), extra=st.text(min_size=1, max_size=5))
def test_inserting_anything_breaks_the_ticket(position: int, extra: str) -> None:
    with pytest.raises((Forged, Malformed)):
        signing.verify(TOKEN[:position] + extra + TOKEN[position:], keys=KEYS)


@given(st.text(max_size=400) | st.lists(st.text(CHARACTERS, max_size=120), max_size=4).map(".".join))
def test_no_text_from_outside_verifies_or_crashes(text: str) -> None:
    with pytest.raises((Forged, Malformed)):
        signing.verify(text, keys=KEYS)


def test_signed_claims_in_an_unknown_form_are_malformed() -> None:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    for body in (b"{}", b"not json", b'{"t":"AA","b":"AA","r":"AA","s":"1A","f":"A","o":"B","d":1,"n":""}'):
        signed = f"{TOKEN.split('.')[0]}.{_encoded(body)}"
        r, s = decode_dss_signature(KEY.private.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        with pytest.raises(Malformed):
            signing.verify(f"{signed}.{_encoded(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}", keys=KEYS)


def test_the_published_key_verifies_what_the_private_one_signed() -> None:
    (published,) = signing.jwks(KEYS.values())["keys"]
    assert (published.kty, published.crv, published.alg, published.use) == ("EC", "P-256", "ES256", "sig")
    x, y = (int.from_bytes(base64.urlsafe_b64decode(half + "=")) for half in (published.x, published.y))
    assert (x, y) == (KEY.public.public_numbers().x, KEY.public.public_numbers().y)
    assert signing.verify(TOKEN, keys={published.kid: signing.public_key(published)}) == CLAIMS


def test_a_published_point_beside_the_curve_is_refused() -> None:
    published = signing.jwk(KEY.public)
    with pytest.raises(Malformed):
        signing.public_key(signing.Jwk(x=published.y, y=published.x, kid=published.kid))


def test_only_the_same_secret_opens_a_sealed_key() -> None:
    sealed = signing.seal(KEY, secret="a long random value")
    assert signing.unseal(sealed, kid=KEY.kid, secret="a long random value").public == KEY.public
    for kid, secret in ((KEY.kid, "another value"), ("other", "a long random value")):
        with pytest.raises(SealedByAnotherSecret):
            signing.unseal(sealed, kid=kid, secret=secret)


def test_a_damaged_sealed_key_is_refused() -> None:
    sealed = signing.seal(KEY, secret="a long random value")
    for damaged in (b"", sealed[:5], sealed[:-1], sealed[:20] + b"\x00" * 8 + sealed[28:]):
        with pytest.raises(SealedByAnotherSecret):
            signing.unseal(damaged, kid=KEY.kid, secret="a long random value")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("Amina Nakato", "AN"), (" élodie ", "É"), ("a b c d", "ABC"), ("", ""), ("ß", "S")],
)
def test_initials_name_nobody(name: str, expected: str) -> None:
    assert signing.initials(name) == expected


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
