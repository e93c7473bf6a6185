"""`kiti doctor` says whether all is well."""

from typing import Any

import click
from rich.console import Console
from rich.table import Table

from kiti.cli.serve import database, run_async
from kiti.core.settings import Settings, load
from kiti.flows.staff import list_staff
from kiti.flows.wellbeing import Finding, examine

console = Console(soft_wrap=True)
# HS256 wants a key of at least the hash's length (RFC 7518, section 3.2).
JWT_SECRET_LENGTH = 32
DEMO_DOMAIN = "@demo.example"


@click.command()
@click.option("--production", is_flag=True, help="Also object to what no production system should have.")
@click.pass_obj
def doctor(composition: Any, production: bool) -> None:  # noqa: FBT001 - click's way
    """Check database, migrations, ledger, claims and configuration; exit code 0 only if all is well."""
    settings = load()
    findings = configuration(settings, production=production)
    with database(settings) as ready:
        findings += run_async(_examine(composition, ready, production=production))
    table = Table("", "check", "", box=None, show_header=False)
    for finding in findings:
        table.add_row("[green]ok[/green]" if finding.ok else "[red]!![/red]", finding.check, finding.detail)
    console.print(table)
    if not all(finding.ok for finding in findings):
        raise SystemExit(1)


def configuration(settings: Settings, *, production: bool) -> list[Finding]:
    """What the environment alone tells."""
    checks = [("secrets", _secrets(settings))]
    if production:
        checks += [
            ("demo mode is off", "" if not settings.demo else "KITI_DEMO is 1"),
            ("limits are on", "" if settings.limits else "KITI_LIMITS is off: it is for load tests"),
            ("TLS", "" if settings.is_secure else "KITI_BASE_URL is not https://, so cookies travel in the clear"),
            (
                "webhooks stay outside",
                "KITI_HOOKS_ALLOW_PRIVATE is 1: webhooks reach into this network"
                if settings.hooks_allow_private
                else "",
            ),
            (
                "a long JWT_SECRET",
                "" if len(settings.jwt_secret) >= JWT_SECRET_LENGTH else f"it has less than {JWT_SECRET_LENGTH} bytes",
            ),
            ("a database of its own", "" if settings.database_url else "DATABASE_URL is empty: PostgreSQL is embedded"),
        ]
    return [Finding(check=name, ok=not objection, detail=objection or "fine") for name, objection in checks]


def _secrets(settings: Settings) -> str:
    try:
        settings.check_secrets()
    except Exception as error:  # noqa: BLE001 - the sentence is the finding
        return str(error)
    return ""


async def _examine(composition: Any, settings: Settings, *, production: bool) -> list[Finding]:
    async with composition.open_house(settings) as house:
        findings: list[Finding] = await examine(house)
        if production:
            emails = [account.staff.email for account in await list_staff(house.db) if account.disabled_at is None]
            known = [email for email in emails if email.endswith(DEMO_DOMAIN)]
            detail = f"everybody knows the password of {', '.join(known)}" if known else "fine"
            findings.append(Finding(check="no staff of the demo", ok=not known, detail=detail))
    return findings
