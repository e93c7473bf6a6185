"""Reserve: plan a booking, then claim its seats and open it in one transaction, all or nothing."""

import secrets

from psycopg.errors import UniqueViolation

from kiti.flows.commit import Reserved
from kiti.flows.house import House
from kiti.flows.idempotency import KeyInUse
from kiti.flows.plan import Keyed, Reservation, SeatsTaken, make_plan
from kiti.idempotency.actions import is_key_taken

# How often the system picks other seats when the ones it picked were taken meanwhile. It gives up before only
# where too few are free.
PICK_ATTEMPTS = 25


async def reserve(house: House, reservation: Reservation, *, keyed: Keyed | None = None) -> Reserved:
    """Hold seats for some minutes; raises SeatsTaken, TripNotOnSale, InvalidInput, NotFound, Overloaded.

    Where the system picks the seats and loses them to somebody quicker, it picks again. With an idempotency key the
    answer is stored in the same transaction; raises KeyInUse where a request with the same key was quicker.
    """
    picks = any(item.count for item in reservation.items)
    for attempt in range(1, PICK_ATTEMPTS + 1):
        choice = 0 if attempt == 1 else secrets.randbelow(2**16)
        plan = await make_plan(house.db, house.catalogue, reservation, choice=choice, keyed=keyed)
        try:
            outcome = await house.commits.submit(plan)
        except UniqueViolation as error:
            if not is_key_taken(error):
                raise
            raise KeyInUse("A request with this Idempotency-Key was quicker. Ask again.") from error
        if isinstance(outcome, Reserved):
            return outcome
        if not picks or not isinstance(outcome, SeatsTaken) or attempt == PICK_ATTEMPTS:
            raise outcome
    raise AssertionError("unreachable")
