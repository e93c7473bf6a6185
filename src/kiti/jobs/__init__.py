"""Job handlers and their timetable, three lines each: what they do stands in `kiti.flows`."""

from uuid import UUID

import procrastinate
import structlog
from procrastinate import RetryStrategy
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Status

from kiti.flows import upkeep
from kiti.flows.house import House
from kiti.flows.refunds import process_refund
from kiti.flows.webhooks import process_webhook
from kiti.payments.actions import PaymentChanged

log = structlog.get_logger(__name__)

# Waits 2, 4, 8 ... seconds, about a day and a half in all; then the job is parked as `failed` and visible.
PATIENTLY = RetryStrategy(max_attempts=16, exponential_wait=2)
# The timetable comes round again by itself.
NOT_AGAIN = RetryStrategy(max_attempts=1)

EVERY_TEN_SECONDS = "* * * * * */10"
EVERY_MINUTE = "* * * * *"
HOURLY = "5 * * * *"
EVERY_QUARTER_OF_AN_HOUR = "7,22,37,52 * * * *"
AT_NIGHT = "15 2 * * *"
AFTER_MIDNIGHT = "45 3 * * *"

STALLED_AFTER_SECONDS = 30


def register(app: procrastinate.App, house: House) -> None:
    """Give the queue its tasks."""

    @app.task(name="process_webhook", retry=PATIENTLY)
    async def webhook(gateway: str, digest: str) -> str:
        return await process_webhook(house, gateway=gateway, digest=bytes.fromhex(digest))

    @app.task(name="process_refund", retry=PATIENTLY)
    async def refund(refund_id: str) -> str:
        try:
            return (await process_refund(house, UUID(refund_id))).state
        except PaymentChanged:
            return "somebody else was quicker"

    _timetable(app, house)


def _timetable(app: procrastinate.App, house: House) -> None:
    for name, cron in (
        ("expire-seats", EVERY_MINUTE),
        ("poll-payments", EVERY_TEN_SECONDS),
        ("process-refunds", EVERY_TEN_SECONDS),
        ("send-notifications", EVERY_TEN_SECONDS),
        ("deliver-webhooks", EVERY_TEN_SECONDS),
        ("generate-trips", HOURLY),
        ("cleanup-idempotency", AT_NIGHT),
        ("reconcile-payments", AFTER_MIDNIGHT),
        ("poll-disputes", EVERY_QUARTER_OF_AN_HOUR),
        ("refund-cancelled-trips", EVERY_MINUTE),
        ("recognise-revenue", EVERY_MINUTE),
        ("calculate-settlements", HOURLY),
        ("payouts", EVERY_TEN_SECONDS),
    ):
        _periodic(app, house, name, cron)

    @app.periodic(cron=EVERY_MINUTE)
    @app.task(name="retry-stalled", queueing_lock="retry-stalled", retry=NOT_AGAIN, pass_context=True)
    async def retry_stalled(context: procrastinate.JobContext, timestamp: int) -> int:
        """Jobs whose worker was killed: nobody else would ever finish them."""
        del timestamp
        manager = context.app.job_manager
        jobs = list(await manager.get_stalled_jobs(seconds_since_heartbeat=STALLED_AFTER_SECONDS))
        for job in jobs:
            try:
                await manager.retry_job(job)
            except ConnectorException:
                # The same round of the timetable waits already; this one is not needed any more.
                await manager.finish_job(job, status=Status.FAILED, delete_job=True)
        return len(jobs)


def _periodic(app: procrastinate.App, house: House, name: str, cron: str) -> None:
    """One round at a time, and at most one that waits. A round that fails leaves it to the next one."""

    @app.periodic(cron=cron)
    @app.task(name=name, queueing_lock=name, lock=name, retry=NOT_AGAIN)
    async def run(timestamp: int) -> dict[str, int]:
        del timestamp
        try:
            tally = await upkeep.JOBS[name](house)
        except Exception:
            log.exception("this round failed; the next one comes by the timetable", job=name)
            return {"processed": 0, "failed": 1}
        return {"processed": tally.processed, "failed": tally.failed}
