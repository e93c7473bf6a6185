"""Staff: logging in right and in every wrong way, tokens that are none, accounts that are out, the commands."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import ExitStack
from uuid import uuid4

import jwt
import pytest
from argon2 import PasswordHasher
from tests.box import Box
from tests.house import JsonObject, RunningHouse, until
from tests.office import Office, open_office
from tests.staff import PASSWORD, Employee, ask_to_log_in, employ

from kiti.core.errors import InvalidInput, NotAuthenticated, NotFound, Overloaded
from kiti.core.settings import DEMO_DEFAULTS
from kiti.flows import passwords
from kiti.flows.sign_in import (
    AUDIENCE,
    ISSUER,
    WrongCredentials,
    check_password,
    close_others,
    close_session,
    form_token,
    is_form_token,
    issue_token,
    open_session,
    session_of,
    staff_of_token,
)
from kiti.flows.staff import add_staff, change_password, disable_staff
from kiti.people.actions import EmailTaken
from kiti.people.model import TRIES, Role

SECRET = DEMO_DEFAULTS["JWT_SECRET"]
GRACE = "grace@kiti.example"


@pytest.fixture
async def office(fresh_url: str) -> AsyncIterator[Office]:
    async with open_office(fresh_url) as opened:
        yield opened


async def me(house: RunningHouse, token: str) -> tuple[int, JsonObject]:
    answer = await house.api.get("/api/auth/me", headers={"authorization": f"Bearer {token}"})
    return answer.status_code, answer.json()


async def logged_in(house: RunningHouse, employee: Employee) -> str:
    """The token that the right password gives."""
    answer = await ask_to_log_in(house, employee.email, employee.password)
    assert answer.status_code == 200, answer.text
    token: str = answer.json()["token"]
    return token


async def add_grace(box: Box, *, email: str = GRACE, password: str = PASSWORD) -> None:
    """An account made as `kiti staff add` makes it."""
    await add_staff(
        box.db, email=email, name="Grace", role="platform_admin", operator_code=None, password=password, actor="test"
    )


async def try_often(office: Office, employee: Employee, times: int) -> None:
    for _ in range(times):
        with pytest.raises(WrongCredentials):
            await check_password(office.house, email=employee.email, password="wrong password")


# ---------------------------------------------------------------- over the API


async def test_the_right_password_gives_a_short_token_that_says_who_one_is(house: RunningHouse) -> None:
    grace = await employ(house.box.db, "operator_finance", "pearl")
    answer = await ask_to_log_in(house, f"  {grace.email.upper()} ", grace.password)
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    told = answer.json()
    assert told["staff"]["operator"] == {"code": "pearl", "name": "Pearl Coaches"}
    assert told["staff"]["role"] == "OPERATOR_FINANCE"
    assert jwt.get_unverified_header(told["token"])["alg"] == "HS256"
    claims = jwt.decode(told["token"], SECRET, algorithms=["HS256"], audience=AUDIENCE, issuer=ISSUER)
    assert claims["exp"] - claims["iat"] == 15 * 60
    status, mine = await me(house, told["token"])
    assert (status, mine) == (200, told["staff"])
    assert mine["permissions"] == ["bookings.see", "hooks.manage", "payments.see", "refunds.see", "settlements.see"]


async def test_unknown_disabled_and_mistaken_hear_the_same(house: RunningHouse) -> None:
    grace, gone = await employ(house.box.db), await employ(house.box.db)
    await disable_staff(house.box.db, email=gone.email, actor="test")
    answers = [
        await ask_to_log_in(house, grace.email, "not her password"),
        await ask_to_log_in(house, gone.email, gone.password),
        await ask_to_log_in(house, "nobody@kiti.example", PASSWORD),
        await ask_to_log_in(house, "no address", PASSWORD),
        await ask_to_log_in(house, "nobody\u0000@kiti.example", PASSWORD),
    ]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.text for answer in answers}) == 1
    for body in ({}, {"email": grace.email}, {"email": grace.email, "password": "x" * 201}, {"email": 1}):
        assert (await house.api.post("/api/auth/login", json=body)).status_code == 422


async def test_five_wrong_passwords_let_an_account_rest_even_from_the_right_one(house: RunningHouse) -> None:
    grace = await employ(house.box.db)
    for _ in range(TRIES):
        assert (await ask_to_log_in(house, grace.email, "wrong password")).status_code == 401
    assert (await ask_to_log_in(house, grace.email, grace.password)).status_code == 401
    assert (await me(house, "x"))[0] == 401


async def test_a_token_that_is_not_ours_to_the_letter_is_refused(house: RunningHouse) -> None:
    grace = await employ(house.box.db)
    good = await logged_in(house, grace)
    claims = jwt.decode(good, options={"verify_signature": False})

    def made(key: str = SECRET, algorithm: str = "HS256", **changes: object) -> str:
        kept = {name: value for name, value in {**claims, **changes}.items() if value is not None}
        return jwt.encode(kept, key, algorithm=algorithm)

    assert (await me(house, made()))[0] == 200
    head, body, tail = good.split(".")
    forged = {
        "over": made(iat=claims["iat"] - 3600, exp=claims["iat"] - 1),
        "none": made(key="", algorithm="none"),
        "none, with the good signature": f"{made(key='', algorithm='none').rpartition('.')[0]}.{tail}",
        "another algorithm": made(key=SECRET * 2, algorithm="HS512"),
        "another algorithm, our key": jwt.encode(claims, SECRET * 2, algorithm="HS384"),
        "another key": made(key="another-secret-that-is-long-enough-for-it"),
        "another audience": made(aud="elsewhere"),
        "no audience": made(aud=None),
        "another issuer": made(iss="elsewhere"),
        "no end": made(exp=None),
        "a far end": made(exp=2**70),
        "nobody": made(sub=str(uuid4())),
        "no id": made(sub="grace"),
        "cut": good[:-1],
        "without its signature": f"{head}.{body}.",
        "long": good + "A" * 2000,
        "a hold token": (await house.reserve(house.network.bus(), ["1A"]))["holdToken"],
    }
    for name, token in forged.items():
        status, told = await me(house, token)
        assert (status, told["code"]) == (401, "AUTHENTICATION_ERROR"), name


async def test_a_disabled_account_and_a_changed_password_end_tokens_at_once(house: RunningHouse) -> None:
    grace, james = await employ(house.box.db), await employ(house.box.db)
    of_grace, of_james = await logged_in(house, grace), await logged_in(house, james)
    # The token's time is in whole seconds.
    await asyncio.sleep(1.1)
    await disable_staff(house.box.db, email=grace.email, actor="test")
    await change_password(house.box.db, email=james.email, password="another password", actor="test")
    assert [(await me(house, token))[0] for token in (of_grace, of_james)] == [401, 401]
    assert (await ask_to_log_in(house, james.email, james.password)).status_code == 401
    assert (await ask_to_log_in(house, james.email, "another password")).status_code == 200


async def test_headers_that_merely_claim_an_identity_are_not_read(house: RunningHouse) -> None:
    grace = await employ(house.box.db)
    claimed = {"x-user-id": grace.email, "x-role": "platform_admin", "cookie": "kiti_office=abc"}
    assert (await house.api.get("/api/auth/me", headers=claimed)).status_code == 401


# ---------------------------------------------------------------- rests


async def test_a_rest_grows_with_each_wrong_password_up_to_a_bound(office: Office) -> None:
    grace = await employ(office.box.db)
    await try_often(office, grace, TRIES)
    rests = []
    for _ in range(8):
        rests.append(
            await office.box.value(
                "SELECT extract(epoch FROM locked_until - kiti_now()) FROM staff WHERE email = %s", grace.email
            )
        )
        await office.box.travel(seconds=float(rests[-1]) + 1)
        await try_often(office, grace, 1)
    assert [round(float(rest) / 10) * 10 for rest in rests] == [60, 120, 240, 480, 900, 900, 900, 900]
    await office.box.travel(minutes=16)
    assert (await check_password(office.house, email=grace.email, password=grace.password)).email == grace.email
    await try_often(office, grace, TRIES - 1)
    await check_password(office.house, email=grace.email, password=grace.password)


async def test_a_rest_that_is_over_lets_the_right_password_in(office: Office) -> None:
    grace = await employ(office.box.db)
    await try_often(office, grace, TRIES)
    with pytest.raises(WrongCredentials):
        await check_password(office.house, email=grace.email, password=grace.password)
    await office.box.travel(seconds=61)
    await check_password(office.house, email=grace.email, password=grace.password)
    assert await office.box.value("SELECT failed_logins FROM staff WHERE email = %s", grace.email) == 0


async def test_guesses_side_by_side_are_not_more_than_in_a_row(office: Office) -> None:
    grace = await employ(office.box.db)
    guesses = [f"guess number {n}" for n in range(20)]
    told = await asyncio.gather(
        *(check_password(office.house, email=grace.email, password=guess) for guess in guesses),
        return_exceptions=True,
    )
    assert all(isinstance(error, WrongCredentials) for error in told)
    assert await office.box.value("SELECT failed_logins FROM staff WHERE email = %s", grace.email) == TRIES


async def test_more_than_a_few_at_once_are_sent_away_uncounted_and_the_loop_stays_free(office: Office) -> None:
    grace = await employ(office.box.db)
    with ExitStack() as places:
        for _ in range(passwords.MOST_WAITING):
            places.enter_context(passwords.turn())
        for _ in range(TRIES + 1):
            with pytest.raises(Overloaded):
                await check_password(office.house, email=grace.email, password=grace.password)
    with ExitStack() as stack:
        gate = threading.Event()
        stack.callback(gate.set)
        for _ in range(passwords.AT_ONCE):
            passwords._threads.submit(gate.wait)
        waiting = asyncio.create_task(check_password(office.house, email=grace.email, password=grace.password))
        # Its hash stands in line behind threads that do not come to an end, and the loop goes on.
        await until(hashes_in_line, bool)
        assert not waiting.done()
    assert (await waiting).email == grace.email


async def hashes_in_line() -> int:
    return passwords._threads._work_queue.qsize()


async def test_a_hash_of_older_parameters_is_made_anew_when_its_owner_comes(office: Office) -> None:
    grace = await employ(office.box.db)
    old = PasswordHasher(time_cost=1, memory_cost=8 * 1024).hash(grace.password)
    await office.box.rows("UPDATE staff SET password_hash = %s WHERE email = %s", old, grace.email)
    for _ in range(2):
        await check_password(office.house, email=grace.email, password=grace.password)
    kept = await office.box.value("SELECT password_hash FROM staff WHERE email = %s", grace.email)
    assert kept != old
    assert kept.startswith("$argon2id$")
    assert not passwords.is_outdated(kept)


# ---------------------------------------------------------------- sessions and tokens


async def test_a_session_ends_by_itself_when_idle_and_after_twelve_hours(office: Office) -> None:
    grace = await employ(office.box.db)
    staff = await check_password(office.house, email=grace.email, password=grace.password)
    secret = await open_session(office.house, staff=staff)
    assert await office.box.value("SELECT count(*) FROM staff_session WHERE encode(id, 'hex') = %s", secret) == 0
    for _ in range(24):
        await office.box.travel(minutes=29)
        found = await session_of(office.house, secret=secret)
        assert found is not None
        assert found.staff == staff
    await office.box.travel(minutes=25)
    assert await session_of(office.house, secret=secret) is None
    idle = await open_session(office.house, staff=staff)
    await office.box.travel(minutes=31)
    assert await session_of(office.house, secret=idle) is None
    assert await session_of(office.house, secret="") is None
    assert await session_of(office.house, secret="made up") is None


async def test_logging_in_makes_a_new_session_and_old_ones_can_be_ended(office: Office) -> None:
    grace = await employ(office.box.db)
    staff = await check_password(office.house, email=grace.email, password=grace.password)
    first = await open_session(office.house, staff=staff)
    second = await open_session(office.house, staff=staff, instead_of=first)
    elsewhere = [await open_session(office.house, staff=staff) for _ in range(2)]
    assert await session_of(office.house, secret=first) is None
    mine = await session_of(office.house, secret=second)
    assert mine is not None
    assert await close_others(office.house, session=mine) == 2
    assert [await session_of(office.house, secret=secret) for secret in elsewhere] == [None, None]
    await close_session(office.house, session=mine)
    assert await session_of(office.house, secret=second) is None


async def test_a_disabled_account_and_a_new_password_end_sessions(office: Office) -> None:
    for end in ("disable", "password"):
        grace = await employ(office.box.db)
        staff = await check_password(office.house, email=grace.email, password=grace.password)
        secret = await open_session(office.house, staff=staff)
        if end == "disable":
            await disable_staff(office.box.db, email=grace.email, actor="test")
        else:
            await change_password(office.box.db, email=grace.email, password="another password", actor="test")
        assert await session_of(office.house, secret=secret) is None


async def test_a_form_belongs_to_its_session(office: Office) -> None:
    grace = await employ(office.box.db)
    staff = await check_password(office.house, email=grace.email, password=grace.password)
    one, other = [
        await session_of(office.house, secret=await open_session(office.house, staff=staff)) for _ in range(2)
    ]
    assert one is not None
    assert other is not None
    token = form_token(one)
    assert token != form_token(one)
    assert is_form_token(token, one)
    assert not is_form_token(token, other)
    for wrong in (
        "",
        "00",
        token[:-2],
        token.upper() + "0",
        "ü" * 96,
        token[:-2] + ("00" if token[-2:] != "00" else "11"),
    ):
        assert not is_form_token(wrong, one)


async def test_a_token_is_over_after_fifteen_minutes(office: Office) -> None:
    grace = await employ(office.box.db)
    staff = await check_password(office.house, email=grace.email, password=grace.password)
    token = await issue_token(office.house, staff=staff)
    await office.box.travel(minutes=14)
    assert await staff_of_token(office.house, token=token.text) == staff
    await office.box.travel(minutes=1, seconds=1)
    with pytest.raises(NotAuthenticated):
        await staff_of_token(office.house, token=token.text)


# ---------------------------------------------------------------- accounts


@pytest.mark.parametrize(
    ("role", "operator", "error"),
    [
        ("operator_staff", None, InvalidInput),
        ("operator_finance", "nowhere", NotFound),
        ("platform_finance", "pearl", InvalidInput),
        ("platform_admin", "pearl", InvalidInput),
    ],
)
async def test_roles_and_operators_that_do_not_go_together_are_refused(
    office: Office, role: Role, operator: str | None, error: type[Exception]
) -> None:
    account = {"email": "grace@kiti.example", "name": "Grace Auma", "password": PASSWORD}
    with pytest.raises(error):
        await add_staff(office.box.db, **account, role=role, operator_code=operator, actor="test")
    assert await office.box.value("SELECT count(*) FROM staff") == 0


async def test_an_address_has_one_account_and_a_password_some_length(office: Office) -> None:
    grace = await employ(office.box.db)
    with pytest.raises(EmailTaken):
        await add_grace(office.box, email=grace.email.upper())
    for password in ("short", "x" * 201):
        with pytest.raises(InvalidInput):
            await add_grace(office.box, password=password)


async def test_what_is_done_to_an_account_is_in_the_audit_log_without_its_password(box: Box) -> None:
    await add_grace(box)
    await change_password(box.db, email=GRACE, password="another password", actor="boss")
    await disable_staff(box.db, email=GRACE, actor="boss")
    rows = await box.rows("SELECT actor, action, detail FROM audit_event ORDER BY id")
    assert [(row["actor"], row["action"]) for row in rows] == [
        ("test", "staff.added"),
        ("boss", "staff.password_changed"),
        ("boss", "staff.disabled"),
    ]
    assert "password" not in str([row["detail"] for row in rows])


# ---------------------------------------------------------------- the commands


async def test_accounts_are_made_listed_changed_and_disabled_by_command(house: RunningHouse) -> None:
    email = f"{uuid4().hex[:8]}@pearl.example"
    add = ("staff", "add", "--email", email, "--name", "Amina Nakato", "--role", "operator_finance")
    code, said = await house.kiti(*add, "--operator", "pearl", "--password-stdin", stdin=f"{PASSWORD}\n")
    assert code == 0, said
    assert PASSWORD not in said
    code, said = await house.kiti("staff", "list")
    assert code == 0
    assert any(line.split()[:1] == [email] and "pearl" in line for line in said.splitlines())
    assert (await ask_to_log_in(house, email, PASSWORD)).status_code == 200
    code, _ = await house.kiti("staff", "password", email, "--password-stdin", stdin="another password\n")
    assert code == 0
    assert (await ask_to_log_in(house, email, "another password")).status_code == 200
    assert (await house.kiti("staff", "disable", email))[0] == 0
    assert (await ask_to_log_in(house, email, "another password")).status_code == 401
    assert (await house.kiti("staff", "disable", email))[0] == 1
    assert (await house.kiti(*add, "--password-stdin", stdin=f"{PASSWORD}\n"))[0] == 1
    assert (await house.kiti("staff", "password", email, "--password-stdin", stdin=""))[0] == 1
