"""What tests of cancellations say to a house."""

from typing import Any

from tests.house import JsonObject, RunningHouse, holder


async def cancel(house: RunningHouse, booking: JsonObject, **body: Any) -> Any:
    """POST a cancellation; whatever the answer."""
    return await house.api.post(f"/api/bookings/{booking['bookingId']}/cancel", json=body, headers=holder(booking))


async def departing(house: RunningHouse, *, hours: float) -> Any:
    """A bus that leaves in so many hours."""
    trip = house.network.bus()
    await house.box.rows(
        "UPDATE trip_stop SET departs_at = kiti_now() + (seq * 3 + %s) * interval '1 hour',"
        " arrives_at = kiti_now() + (seq * 3 + %s) * interval '1 hour' WHERE trip_id = %s",
        hours,
        hours,
        trip,
    )
    return trip


async def statuses(house: RunningHouse, trip: Any) -> dict[str, str]:
    """Which seats of a trip are free, by their numbers."""
    found = (await house.api.get("/api/bookings/reserve", params={"tripId": str(trip)})).json()
    return {seat["number"]: seat["status"] for seat in found["seats"]}
