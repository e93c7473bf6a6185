"""The rules that let sales tables be distributed by Citus hold from the first migration: the catalogue proves it.

A new table has to be put into one of the two lists below before these tests pass again.
"""

from collections import defaultdict

from tests.box import Box

# Small, or growing with time and not with sales; on Citus they are reference tables.
CATALOGUE = {
    "operator",
    "stop",
    "layout",
    "layout_seat",
    "layout_feature",
    "vehicle",
    "route",
    "route_stop",
    "fare",
    "refund_rule",
    "refund_fee",
    "fee_rule",
    "schedule",
    "trip",
    "trip_stop",
    "ticket_key",
    "waiting_room",
    "waiting_room_trip",
    "staff",
    "staff_session",
    "settlement_terms",
    "subaccount",
    "settlement",
    "payout",
    "reconciliation_run",
    "webhook_endpoint",
    "payment_option",
}

# Growing with sales, each with the column by which it is distributed.
SALES = {
    "seat_claim": "trip_id",
    "seat_block": "trip_id",
    "booking": "id",
    "booking_reference": "reference",
    "booking_seat": "booking_id",
    "cancelled_seat": "booking_id",
    "seat_replacement": "booking_id",
    "booking_fee": "booking_id",
    "payment": "booking_id",
    "payment_history": "booking_id",
    "refund_history": "booking_id",
    "charge": "booking_id",
    "refund": "booking_id",
    "trip_refund": "booking_id",
    "cash_receipt": "booking_id",
    "cash_handout": "booking_id",
    "transfer": "booking_id",
    "settlement_line": "booking_id",
    "ticket": "booking_id",
    "message": "booking_id",
    "webhook_delivery": "digest",
    "reconciliation_break": "transaction_id",
    "dispute": "booking_id",
    "dispute_history": "booking_id",
    "gateway_settlement": "settlement_id",
    "gateway_settlement_line": "transaction_id",
    "settled_item": "booking_id",
    "bank_line": "digest",
    "audit_event": "subject_id",
    "hook_event": "subject_id",
    "hook_delivery": "subject_id",
    "idempotency_key": "key",
    "waiting_place_use": "room_id",
}

# Alembic's single row, and the job queue, whose schema is procrastinate's own.
FOREIGN = {"alembic_version"}
QUEUE = "procrastinate_"

THE_LEDGERS_TRIGGERS = {("transfer", "transfer_append_only"), ("transfer", "transfer_never_truncated")}


async def ours(box: Box) -> set[str]:
    """Every table of the business."""
    rows = await box.rows(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')"
    )
    return {row["relname"] for row in rows if not row["relname"].startswith(QUEUE)} - FOREIGN


async def test_every_table_is_classified_and_none_is_both(box: Box) -> None:
    assert await ours(box) == CATALOGUE | set(SALES)
    assert not CATALOGUE & set(SALES)


async def test_primary_key_and_every_unique_index_of_a_sales_table_contain_its_distribution_column(box: Box) -> None:
    rows = await box.rows(
        """
        SELECT
            table_.relname AS table_name,
            index_.relname AS index_name,
            pg_index.indisprimary AS is_primary,
            ARRAY(
                SELECT attname FROM pg_attribute
                WHERE attrelid = table_.oid AND attnum = ANY(pg_index.indkey)
            ) AS columns
        FROM pg_index
        INNER JOIN pg_class AS table_ ON table_.oid = pg_index.indrelid
        INNER JOIN pg_class AS index_ ON index_.oid = pg_index.indexrelid
        WHERE pg_index.indisunique AND table_.relnamespace = 'public'::regnamespace
        """
    )
    with_key = set()
    for row in rows:
        column = SALES.get(row["table_name"])
        if column is not None:
            assert column in row["columns"], f"{row['index_name']} cannot be checked within one shard"
        if row["is_primary"]:
            with_key.add(row["table_name"])
    assert with_key >= CATALOGUE | set(SALES)


async def test_the_distribution_column_is_never_null(box: Box) -> None:
    rows = await box.rows(
        "SELECT attrelid::regclass::text AS table_name, attname FROM pg_attribute"
        " INNER JOIN pg_class ON pg_class.oid = attrelid"
        " WHERE relnamespace = 'public'::regnamespace AND attnum > 0 AND attnotnull"
    )
    filled = {(row["table_name"], row["attname"]) for row in rows}
    assert filled >= set(SALES.items())


async def test_foreign_keys_stay_within_a_shard_or_lead_to_the_catalogue(box: Box) -> None:
    rows = await box.rows(
        """
        SELECT
            conname,
            conrelid::regclass::text AS child,
            confrelid::regclass::text AS parent,
            pairs.here,
            pairs.there
        FROM pg_constraint
        CROSS JOIN LATERAL (
            SELECT
                array_agg(mine.attname ORDER BY key.nth) AS here,
                array_agg(theirs.attname ORDER BY key.nth) AS there
            FROM unnest(conkey, confkey) WITH ORDINALITY AS key (here, there, nth)
            INNER JOIN pg_attribute AS mine ON mine.attrelid = conrelid AND mine.attnum = key.here
            INNER JOIN pg_attribute AS theirs ON theirs.attrelid = confrelid AND theirs.attnum = key.there
        ) AS pairs
        WHERE contype = 'f' AND connamespace = 'public'::regnamespace
        """
    )
    checked = 0
    for row in rows:
        child, parent = row["child"], row["parent"]
        if child.startswith(QUEUE):
            continue
        checked += 1
        if parent in CATALOGUE:
            continue
        assert child in SALES, f"{row['conname']}: a catalogue table depends on a sales table"
        along = list(zip(row["here"], row["there"], strict=True))
        assert (SALES[child], SALES[parent]) in along, f"{row['conname']} crosses shards"
    assert checked > 0


async def test_no_sequence_numbers_a_business_table(box: Box) -> None:
    sequences = await box.rows(
        "SELECT relname FROM pg_class WHERE relkind = 'S' AND relnamespace = 'public'::regnamespace"
    )
    assert {row["relname"] for row in sequences if not row["relname"].startswith(QUEUE)} == set()
    identities = await box.rows(
        "SELECT attrelid::regclass::text AS table_name FROM pg_attribute"
        " INNER JOIN pg_class ON pg_class.oid = attrelid"
        " WHERE relnamespace = 'public'::regnamespace AND attidentity <> ''"
    )
    assert {row["table_name"] for row in identities if not row["table_name"].startswith(QUEUE)} == set()


async def test_the_only_triggers_are_those_that_keep_the_ledger_append_only(box: Box) -> None:
    rows = await box.rows("SELECT tgrelid::regclass::text AS table_name, tgname FROM pg_trigger WHERE NOT tgisinternal")
    found = {(row["table_name"], row["tgname"]) for row in rows if not row["table_name"].startswith(QUEUE)}
    assert found == THE_LEDGERS_TRIGGERS


async def test_rows_of_one_booking_share_the_type_of_their_distribution_column(box: Box) -> None:
    """Citus colocates tables, and joins them within a shard, only when their distribution columns are of one type."""
    rows = await box.rows(
        "SELECT attrelid::regclass::text AS table_name, attname, format_type(atttypid, atttypmod) AS type"
        " FROM pg_attribute INNER JOIN pg_class ON pg_class.oid = attrelid"
        " WHERE relnamespace = 'public'::regnamespace AND attnum > 0"
    )
    types = defaultdict(set)
    for row in rows:
        if SALES.get(row["table_name"]) == row["attname"]:
            types["booking" if row["table_name"] == "booking" else row["attname"]].add(row["type"])
    assert types["booking"] == types["booking_id"] == {"uuid"}
