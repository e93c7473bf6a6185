"""Alembic's entry: one connection, one advisory lock, so that two migrations wait for each other."""

from alembic import context
from sqlalchemy import create_engine, pool

MIGRATION_LOCK = 0x6B697469  # "kiti"


def run() -> None:
    """Apply what is missing, inside one transaction that holds the migration lock."""
    engine = create_engine(context.config.get_main_option("sqlalchemy.url") or "", poolclass=pool.NullPool)
    with engine.connect() as connection, connection.begin():
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")
        context.configure(connection=connection, transactional_ddl=True)
        context.run_migrations()
    engine.dispose()


run()
