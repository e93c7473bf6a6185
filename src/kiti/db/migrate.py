"""Alembic, run from inside the program: forward only, safe from several processes at once."""

from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from kiti.db.pool import DatabaseUnavailable

if TYPE_CHECKING:
    from alembic.config import Config


def migrate(url: str, *, to: str = "head") -> None:
    """Bring the database at `url` to the newest schema, or to an older one; waits for another migration to end first.

    Raises DatabaseUnavailable.
    """
    # Alembic and SQLAlchemy take thirty megabytes; a server that only serves does without.
    from alembic import command  # noqa: PLC0415
    from sqlalchemy.exc import OperationalError  # noqa: PLC0415

    try:
        command.upgrade(_config(url), to)
    except OperationalError as error:
        raise DatabaseUnavailable(f"PostgreSQL does not answer: {error.orig}") from error


@cache
def newest() -> str:
    """The revision that this program expects: migrations are one line, numbered in the names of their files."""
    versions = resources.files("kiti.db").joinpath("migrations").joinpath("versions")
    return max(file.name.partition("_")[0] for file in versions.iterdir() if file.name[0].isdecimal())


def _config(url: str) -> "Config":
    from alembic.config import Config  # noqa: PLC0415

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
