"""`python -m kiti.simulator`: the command line of the simulator."""

from pathlib import Path

import click

from kiti.simulator import run
from kiti.simulator.machine import Config


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
@click.option("--v4-client-id", envvar="FLUTTERWAVE_V4_CLIENT_ID", default="", help="Without it v4 is closed.")
@click.option("--v4-client-secret", envvar="FLUTTERWAVE_V4_CLIENT_SECRET", default="")
@click.option("--v4-webhook-secret", envvar="FLUTTERWAVE_V4_WEBHOOK_SECRET", default="", help="Signs webhooks of v4.")
@click.option("--v4-webhook-url", default="", help="Where webhooks of v4 go; --webhook-url with _v4 if not given.")
@click.option(
    "--stripe-secret-key", envvar="STRIPE_SECRET_KEY", default="", help="Stripe's bearer key; none: no Stripe."
)
@click.option("--stripe-webhook-secret", envvar="STRIPE_WEBHOOK_SECRET", default="", help="Signs Stripe's webhooks.")
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
    v4_client_id: str,
    v4_client_secret: str,
    v4_webhook_secret: str,
    v4_webhook_url: str,
    state: Path | None,
    retry_seconds: float,
    stripe_secret_key: str,
    stripe_webhook_secret: str,
) -> None:
    """Run the simulator of Flutterwave, v3 and v4, and Stripe in the foreground."""
    config = Config(
        webhook_url=webhook_url,
        webhook_hash=webhook_hash,
        secret_key=secret_key,
        retry_seconds=retry_seconds,
        stripe_secret_key=stripe_secret_key,
        stripe_webhook_secret=stripe_webhook_secret,
        v4_client_id=v4_client_id,
        v4_client_secret=v4_client_secret,
        v4_webhook_secret=v4_webhook_secret,
        v4_webhook_url=v4_webhook_url,
    )
    run(config, host=host, port=port, state=state)


if __name__ == "__main__":
    main()
