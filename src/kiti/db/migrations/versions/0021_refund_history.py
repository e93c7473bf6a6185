"""What has become of refunds, step by step; gateways' webhooks are found by when they were done with."""

from pathlib import Path

from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # The driver's own connection takes the text as it stands: no parameter style to escape.
    driver = op.get_bind().connection.driver_connection
    assert driver is not None
    driver.execute(Path(__file__).with_suffix(".sql").read_text())
