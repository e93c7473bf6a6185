"""A Redis SET NX EX lock in front of PostgreSQL, the other popular pattern: the lock is the hold."""

import os
import uuid
from datetime import timedelta
from typing import Any

from bench.baseline.models import Reserve, Reserved, Trip, add_booking, now, shape
from fastapi import Depends, FastAPI, HTTPException
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

LEGS = 3

engine = create_async_engine(
    os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+psycopg://"), pool_size=16, max_overflow=4
)
sessions = async_sessionmaker(engine, expire_on_commit=False)
redis: Any = Redis.from_url(os.environ["REDIS_URL"])
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
    """Lock in Redis, then write to PostgreSQL; nothing there would refuse a seat that Redis forgot."""
    booking_id = uuid.uuid4()
    keys = [f"seat:{data.trip_id}:{seat}:{leg}" for seat in data.seat_numbers for leg in range(LEGS)]
    async with redis.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.set(key, str(booking_id), nx=True, ex=data.hold_duration_minutes * 60)
        got = await pipe.execute()
    if not all(got):
        mine = [key for key, won in zip(keys, got, strict=True) if won]
        if mine:
            await redis.delete(*mine)
        raise HTTPException(409, "seats taken")
    moment = now()
    async with db.begin():
        trip = await db.get(Trip, data.trip_id)
        if trip is None or trip.status != "scheduled" or trip.departs_at <= moment:
            await redis.delete(*keys)
            raise HTTPException(404, "no such trip")
        until = moment + timedelta(minutes=data.hold_duration_minutes)
        booking = add_booking(db, trip, data, booking_id=booking_id, until=until)
    return shape(booking, data)
