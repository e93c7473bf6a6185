"""Many bookings of one trip, confirmed and paid, written by a few statements instead of by buying them."""

from uuid import UUID

from tests.box import Box

# Letters and digits of which references are made, five of them counted up.
_REFERENCE = """
    'A' || (SELECT string_agg(
        substr('ABCDEFGHJKMNPQRSTUVWXYZ23456789', 1 + (number / (30 ^ place)::bigint %% 30)::int, 1), ''
    ) FROM generate_series(0, 4) AS digit (place))
"""

_STATEMENTS = (
    f"""
    CREATE TABLE sold AS
    SELECT number, gen_random_uuid() AS booking, gen_random_uuid() AS payment, {_REFERENCE} AS reference
    FROM generate_series(1, %(many)s) AS counted (number)
    """,
    """
    INSERT INTO booking (
        id, reference, state, currency, amount, created_at, hold_until, hold_expires_at, hold_cap_at, confirmed_at,
        arrives_at
    )
    SELECT
        booking, reference, 'confirmed', 'UGX', %(fare)s, kiti_now(), kiti_now(), kiti_now(), kiti_now(), kiti_now(),
        (SELECT max(arrives_at) FROM trip_stop WHERE trip_id = %(trip)s)
    FROM sold
    """,
    "INSERT INTO booking_reference SELECT reference, booking FROM sold",
    """
    INSERT INTO booking_seat (booking_id, trip_id, seat, from_seq, to_seq, position, operator_id, class, fare)
    SELECT booking, %(trip)s, 'S' || number, 0, 2, 0, %(operator)s, 'STANDARD', %(fare)s FROM sold
    """,
    """
    INSERT INTO seat_claim (trip_id, seat, leg, owner_id, claimed_at, expires_at)
    SELECT %(trip)s, 'S' || number, leg, booking, kiti_now(), 'infinity'
    FROM sold CROSS JOIN generate_series(0, 1) AS legs (leg)
    """,
    """
    INSERT INTO payment (booking_id, id, gateway, method, state, amount, fee, currency, created_at, expires_at)
    SELECT booking, payment, 'flutterwave', 'CARD', 'captured', %(fare)s, 0, 'UGX', kiti_now(), kiti_now() FROM sold
    """,
    """
    INSERT INTO charge (
        booking_id, gateway, transaction_id, payment_id, purpose, amount, currency, fee_exact, captured_at
    )
    SELECT booking, 'flutterwave', 'sold' || number, payment, 'fulfils', %(fare)s, 'UGX', 0, kiti_now() FROM sold
    """,
    """
    INSERT INTO transfer (booking_id, id, event, line, debit, credit, amount, currency, posted_at)
    SELECT
        booking, gen_random_uuid(), 'capture:flutterwave:sold' || number, 1, 'gateway_clearing:flutterwave',
        'ticket_liability:' || %(operator)s::text, %(fare)s, 'UGX', kiti_now()
    FROM sold
    """,
    """
    INSERT INTO ticket (booking_id, id, trip_id, seat, state, token, issued_at)
    SELECT booking, gen_random_uuid(), %(trip)s, 'S' || number, 'valid', 'token ' || number, kiti_now() FROM sold
    """,
    "DROP TABLE sold",
)


async def sell_out(box: Box, *, trip: UUID, operator: UUID, fare: int, many: int) -> None:
    """`many` bookings of one seat each over all of a trip of two legs, their fare in UGX."""
    values = {"trip": trip, "operator": operator, "fare": fare, "many": many}
    async with box.db.pool.connection() as connection:
        for statement in _STATEMENTS:
            await connection.execute(statement, values)
