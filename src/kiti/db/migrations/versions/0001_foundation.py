"""The foundation: network, seats, bookings, payments, ledger, tickets, audit, job queue."""

from importlib import resources
from pathlib import Path

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    # The driver's own connection takes the text as it stands: no parameter style to escape.
    driver = op.get_bind().connection.driver_connection
    assert driver is not None
    driver.execute(Path(__file__).with_suffix(".sql").read_text())
    # The queue's own schema, as shipped by the procrastinate release that uv.lock pins.
    driver.execute(resources.files("procrastinate").joinpath("sql/schema.sql").read_text())
