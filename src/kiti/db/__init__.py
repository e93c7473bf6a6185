"""The way to PostgreSQL: pool, typed transactions, named queries, migrations, the job queue."""

from kiti.db.pool import Database, DatabaseUnavailable, Reader, Transaction, assert_no_transaction
from kiti.db.queries import Query, load

__all__ = [
    "Database",
    "DatabaseUnavailable",
    "Query",
    "Reader",
    "Transaction",
    "assert_no_transaction",
    "load",
]
