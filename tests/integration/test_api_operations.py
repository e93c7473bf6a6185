"""The contract of searching, of the jobs, and of whoever runs the house."""

import re
from datetime import datetime, timedelta

import psycopg
import pytest
from tests.house import JOB_SECRET, JsonObject, RunningHouse, until
from tests.network import FIRST_DAY, SECOND_LEG_UGX, STANDARD_UGX, UNTOUCHED

SECRET = {"x-job-secret": JOB_SECRET}


async def search(house: RunningHouse, start: str, end: str, day: str, **query: str) -> JsonObject:
    answer = await house.api.get("/api/trips/search", params={"from": start, "to": end, "date": day, **query})
    assert answer.status_code == 200, answer.text
    found: JsonObject = answer.json()
    return found


async def test_a_search_finds_trips_by_code_or_name_between_any_two_of_their_stops(house: RunningHouse) -> None:
    day = (FIRST_DAY + timedelta(days=UNTOUCHED[0])).isoformat()
    found = await search(house, "KLA", "KGL", day, passengers="2")
    trips = {trip["vehicle"]: trip for trip in found["trips"]}
    assert set(trips) == {"Bus", "Double"}
    bus = trips["Bus"]
    assert bus["operator"]["name"] == "Pearl Coaches"
    assert (bus["from"]["code"], bus["from"]["seq"], bus["to"]["code"], bus["to"]["seq"]) == ("KLA", 0, "KGL", 2)
    assert bus["price"] == {"amount": STANDARD_UGX, "currency": "UGX"}
    assert (bus["seatsAvailable"], bus["timezone"]) == (50, "Africa/Kampala")
    assert bus["departureAt"] == f"{day}T05:00:00Z"
    assert datetime.fromisoformat(bus["arrivalAt"]) > datetime.fromisoformat(bus["departureAt"])
    part = await search(house, "Mbarara", "kigali", day)
    (by_name,) = (trip for trip in part["trips"] if trip["tripId"] == bus["tripId"])
    assert by_name["price"]["amount"] == SECOND_LEG_UGX
    assert (await search(house, "KGL", "KLA", day))["trips"] == []
    shown = await house.api.get(f"/api/trips/{bus['tripId']}")
    trip = shown.json()
    assert [stop["code"] for stop in trip["stops"]] == ["KLA", "MBR", "KGL"]
    assert {(fare["from"], fare["to"]) for fare in trip["fares"]} == {("KLA", "KGL"), ("KLA", "MBR"), ("MBR", "KGL")}
    assert len(trip["layout"]["seats"]) == 50


async def test_a_search_is_given_page_by_page(house: RunningHouse) -> None:
    day = (FIRST_DAY + timedelta(days=UNTOUCHED[1])).isoformat()
    first = await search(house, "KLA", "KGL", day, limit="1")
    second = await search(house, "KLA", "KGL", day, limit="1", cursor=first["nextCursor"])
    ids = [trip["tripId"] for page in (first, second) for trip in page["trips"]]
    assert len(set(ids)) == 2
    assert second["nextCursor"] is None


async def test_stops_are_found_by_what_is_typed(house: RunningHouse) -> None:
    found = (await house.api.get("/api/stops", params={"q": "kam"})).json()["stops"]
    assert [stop["code"] for stop in found] == ["KLA"]
    assert {"code", "name", "city", "country", "timezone"} <= set(found[0])


async def test_jobs_are_listed_run_and_examined_by_the_scheduler(house: RunningHouse) -> None:
    listed = (await house.api.get("/api/jobs", headers=SECRET)).json()["jobs"]
    names = [job["job"] for job in listed]
    assert {"expire-seats", "process-refunds", "poll-payments"} <= set(names)
    assert all(job["description"] for job in listed)
    bearer = {"authorization": f"Bearer {JOB_SECRET}"}
    for name in ("expire-seats", "process-refunds", "poll-payments"):
        ran = await house.api.post(f"/api/jobs/{name}", headers=bearer)
        assert ran.status_code == 200, ran.text
        assert ran.json()["job"] == name
        assert {type(ran.json()[field]) for field in ("processed", "failed", "durationMs")} == {int}
    health = (await house.api.get("/api/jobs/health", headers=SECRET)).json()["jobs"]
    assert set(names) <= {job["job"] for job in health}
    assert all({"job", "waiting", "failed", "lagSeconds", "lastRunAt"} <= set(job) for job in health)


async def test_the_openapi_document_is_3_1_and_names_every_path_of_the_contract(house: RunningHouse) -> None:
    answer = await house.api.get("/openapi.json")
    assert answer.status_code == 200
    document = answer.json()
    assert document["openapi"].startswith("3.1")
    paths = {re.sub(r"\{[^}]+\}", "{}", path): set(verbs) for path, verbs in document["paths"].items()}
    for path, verbs in {
        "/api/trips/search": {"get"},
        "/api/trips/{}": {"get"},
        "/api/stops": {"get"},
        "/api/bookings/reserve": {"get", "post"},
        "/api/bookings/{}": {"get"},
        "/api/bookings/{}/extend": {"post"},
        "/api/bookings/{}/hold": {"delete"},
        "/api/bookings/{}/passengers": {"put"},
        "/api/bookings/{}/tickets": {"get"},
        "/api/payments/initiate": {"post"},
        "/api/payments/status": {"get"},
        "/api/payments/webhook/{}": {"post"},
        "/api/refunds/{}": {"get"},
        "/api/tickets/verify": {"post"},
        "/api/auth/login": {"post"},
        "/api/auth/me": {"get"},
        "/api/jobs": {"get"},
        "/api/jobs/{}": {"post"},
        "/api/jobs/health": {"get"},
    }.items():
        assert verbs <= paths.get(path, set()), path
    _assert_references_resolve(document, document)


def _assert_references_resolve(node: object, document: JsonObject) -> None:
    if isinstance(node, dict):
        reference = node.get("$ref")
        if isinstance(reference, str):
            target: object = document
            for step in reference.removeprefix("#/").split("/"):
                assert isinstance(target, dict)
                assert step in target, reference
                target = target[step]
        for value in node.values():
            _assert_references_resolve(value, document)
    elif isinstance(node, list):
        for value in node:
            _assert_references_resolve(value, document)


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/healthz"])
async def test_a_house_in_order_says_so(house: RunningHouse, path: str) -> None:
    answer = await house.api.get(path)
    assert (answer.status_code, answer.json()["status"]) == (200, "ok")


async def test_metrics_are_in_the_text_format(house: RunningHouse) -> None:
    answer = await house.api.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    assert "# TYPE " in answer.text


async def test_without_its_database_the_house_lives_but_is_not_ready_and_comes_back(own_house: RunningHouse) -> None:
    house = own_house
    name = await house.box.value("SELECT current_database()")
    elsewhere = house.database_url.replace(f"/{name}", "/postgres")
    async with await psycopg.AsyncConnection.connect(elsewhere, autocommit=True) as connection:
        await connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        await connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        try:
            assert (await house.api.get("/livez")).status_code == 200
            unready = await house.api.get("/readyz")
            assert (unready.status_code, unready.json()["status"]) == (503, "unavailable")
        finally:
            await connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
    await until(lambda: house.api.get("/readyz"), lambda answer: answer.status_code == 200, every_seconds=0.2)
    booking = await house.reserve(house.network.bus(), ["1A"])
    assert (await house.booking(booking))["status"] == "HELD"
