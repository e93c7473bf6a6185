"""Alembic, run from inside the program: forward only, safe from several processes at once."""

from importlib import resources

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.exc import OperationalError

from kiti.db.pool import DatabaseUnavailable


def migrate(url: str) -> None:
    """Bring the database at `url` to the newest schema; waits for another migration to end first.

    Raises DatabaseUnavailable.
    """
    try:
        command.upgrade(_config(url), "head")
    except OperationalError as error:
        raise DatabaseUnavailable(f"PostgreSQL does not answer: {error.orig}") from error


def newest() -> str:
    """The revision that this program expects."""
    head = ScriptDirectory.from_config(_config("")).get_current_head()
    assert head is not None
    return head


def _config(url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(resources.files("kiti.db").joinpath("migrations")))
    config.set_main_option("sqlalchemy.url", _driver_url(url).replace("%", "%%"))
    return config


def _driver_url(url: str) -> str:
    """SQLAlchemy wants the driver in the scheme: postgresql+psycopg://..."""
    for scheme in ("postgresql://", "postgres://"):
        if url.startswith(scheme):
            return "postgresql+psycopg://" + url.removeprefix(scheme)
    return url
