"""FastAPI + SQLAlchemy + SELECT ... FOR UPDATE: how most teams would sell a seat."""

import os
import uuid
from datetime import timedelta
from typing import Any

from bench.baseline.models import Reserve, Reserved, SeatLeg, Trip, add_booking, now, shape
from fastapi import Depends, FastAPI, HTTPException
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

engine = create_async_engine(
    os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+psycopg://"), pool_size=16, max_overflow=4
)
sessions = async_sessionmaker(engine, expire_on_commit=False)
app = FastAPI()


async def session() -> Any:
    """One for each request."""
    async with sessions() as opened:
        yield opened


@app.get("/livez")
async def live() -> dict[str, str]:
    """Nothing else is looked at."""
    return {"status": "ok"}


@app.post("/api/bookings/reserve", status_code=201)
async def reserve(data: Reserve, db: AsyncSession = Depends(session)) -> Reserved:  # noqa: B008, FAST002 - FastAPI's way
    """Lock the rows, look, write."""
    moment = now()
    until = moment + timedelta(minutes=data.hold_duration_minutes)
    async with db.begin():
        trip = await db.get(Trip, data.trip_id)
        if trip is None or trip.status != "scheduled" or trip.departs_at <= moment:
            raise HTTPException(404, "no such trip")
        legs = (
            await db.scalars(
                select(SeatLeg)
                .where(SeatLeg.trip_id == data.trip_id, SeatLeg.seat.in_(data.seat_numbers))
                .order_by(SeatLeg.seat, SeatLeg.leg)
                .with_for_update()
            )
        ).all()
        if len({leg.seat for leg in legs}) != len(set(data.seat_numbers)):
            raise HTTPException(422, "no such seat")
        if any(leg.status == "sold" or (leg.status == "held" and leg.held_until > moment) for leg in legs):
            raise HTTPException(409, "seats taken")
        booking = add_booking(db, trip, data, booking_id=uuid.uuid4(), until=until)
        for leg in legs:
            leg.status = "held"
            leg.booking_id = booking.id
            leg.held_until = until
    return shape(booking, data)
