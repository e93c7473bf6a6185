"""Doorway: the `kiti` command."""

import logging
import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import click
import msgspec
import psycopg
from rich.console import Console

from kiti import __version__
from kiti.cli import (
    demo,
    disputes,
    doctor,
    fees,
    hooks,
    jobs,
    messages,
    money,
    operators,
    payment_options,
    rooms,
    seats,
    serve,
    settlements,
    staff,
    subaccounts,
    trips,
)
from kiti.core.errors import KitiError
from kiti.core.settings import Settings
from kiti.flows.house import House


class Composition(msgspec.Struct, frozen=True):
    """What the composition root lends to the commands."""

    open_house: Callable[[Settings], AbstractAsyncContextManager[House]]
    work: Callable[[House], Awaitable[None]]
    create_asgi: Callable[..., Any]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="kiti")
def kiti() -> None:
    """Kiti sells seats on dated departures of buses, shuttles, ferries and trains."""


for _command in (
    *serve.COMMANDS,
    *fees.COMMANDS,
    *disputes.COMMANDS,
    *jobs.COMMANDS,
    *messages.COMMANDS,
    *money.COMMANDS,
    *operators.COMMANDS,
    *seats.COMMANDS,
    *rooms.COMMANDS,
    *settlements.COMMANDS,
    *staff.COMMANDS,
    *trips.COMMANDS,
    *hooks.COMMANDS,
    demo.demo,
    demo.simulator,
    doctor.doctor,
):
    kiti.add_command(_command)
money.payments.add_command(payment_options.options)
money.payments.add_command(subaccounts.subaccounts)


def run(composition: Composition) -> None:
    """Parse the command line and obey; an error that a person can act on is one line and exit code 1."""
    # Libraries keep quiet unless a command asks for logs: what went wrong is said once, below.
    logging.getLogger().addHandler(logging.NullHandler())
    try:
        kiti.main(obj=composition, standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except (KitiError, psycopg.OperationalError) as error:
        Console(stderr=True, soft_wrap=True).print(f"[red]kiti:[/red] {_one_line(error)}", highlight=False)
        sys.exit(1)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
