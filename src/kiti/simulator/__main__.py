"""`python -m kiti.simulator`: the command line of the simulator."""

from pathlib import Path

import click

from kiti.simulator import run


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(1, 65535), required=True)
@click.option("--webhook-url", required=True, help="Where webhooks are posted.")
@click.option("--secret-key", envvar="FLUTTERWAVE_SECRET_KEY", required=True, help="Bearer key.")
@click.option(
    "--webhook-hash",
    envvar="FLUTTERWAVE_WEBHOOK_HASH",
    required=True,
    help="Sent as verif-hash with every webhook.",
)
@click.option(
    "--state",
    type=click.Path(dir_okay=False, path_type=Path),
    help="SQLite file that survives a restart; without it all is in memory.",
)
@click.option(
    "--retry-seconds",
    type=click.FloatRange(min=0),
    default=1800.0,
    show_default=True,
    help="Between two attempts to deliver a webhook.",
)
def main(
    *,
    host: str,
    port: int,
    webhook_url: str,
    secret_key: str,
    webhook_hash: str,
    state: Path | None,
    retry_seconds: float,
) -> None:
    """Run the Flutterwave v3 simulator in the foreground."""
    run(
        host=host,
        port=port,
        webhook_url=webhook_url,
        secret_key=secret_key,
        webhook_hash=webhook_hash,
        state=state,
        retry_seconds=retry_seconds,
    )


if __name__ == "__main__":
    main()
