"""A separate process that speaks Flutterwave v3 and Stripe over HTTP, with faults on demand.

Run it with ``python -m kiti.simulator --port 9100 --webhook-url http://…`` (or call :func:`run`).
One process, one pid: SIGTERM stops it cleanly, SIGKILL leaves nothing behind. With ``--state`` its
links, transactions, refunds, transfers, timers and undelivered webhooks live in an SQLite file and
survive a kill; faults, configuration and call counts belong to the process and do not.

The gateway is below ``/v3``: amounts in major units, bearer secret key, answers
``{status, message, data, meta?}``. The buyer's page is ``/pay/{link id}``; a direct charge that
asks for a redirect is approved at ``/approve/{flw_ref}``. The shapes follow Flutterwave's published
v3 reference and deliveries seen in the wild. Side by side with it v4 is spoken below ``/v4``, over
the same memory; see :mod:`kiti.simulator.v4`.

Stripe is below ``/v1``; see :mod:`kiti.simulator.stripe`. Faults meet both. Stripe's webhooks go to the address beside
that of Flutterwave's: ``…/webhook/stripe``.

Control API: JSON over HTTP, no authentication, never part of a gateway, errors like
the gateway's with 4xx.

``GET /_sim/health``
    ``{"ok": true}`` once the server listens.
``GET /_sim/state?tx_ref=``
    Everything as JSON: ``links, transactions, refunds, transfers, deliveries, chargebacks,
    settlements, subaccounts, stripe`` (newest 10,000 of each, oldest first), ``calls`` (requests counted by
    ``"POST /v3/transactions/{id}/refund"`` and the like, those that met a fault included),
    ``pending_deliveries``, ``pending_timers``, ``faults``, ``config``. With ``tx_ref``, only the
    links and transactions of that reference and what hangs below them.
``POST /_sim/faults`` and ``DELETE /_sim/faults``
    Adds ``{"api": fault | [fault], "webhooks": fault | [fault]}``; see
    :class:`kiti.simulator.faults.ApiFault` and :class:`kiti.simulator.faults.WebhookFault`. The
    first fault that matches a request or a webhook applies to it; ``times`` counts down, without it
    the fault stays until it is deleted. Several faults with ``times`` so make a script.
``POST /_sim/pay``
    ``{tx_ref, action, amount?, currency?, payment_type?, delay_seconds?, force?}`` does what a
    button of the hosted page does. Actions: ``pay, decline, pay-late, pay-twice, say-nothing,
    pay-without-webhook, cancel``. ``amount`` pays less or more than asked. ``force`` pays although
    the link is disabled, expired or paid. Answers ``{status, transaction_ids, redirect}``. Also
    approves or declines a direct charge that waits.
``POST /_sim/expire``
    ``{tx_ref}`` ends the session of a link now, as if ``session_duration`` had passed.
``POST /_sim/webhooks/replay``
    ``{transaction_id, copies = 1, concurrency = 1}`` posts the bytes of that transaction's last
    webhook again (made anew if there was none) and answers ``{"statuses": [200, …]}``; 0 stands for
    a connection error.
``POST /_sim/webhooks/send``
    ``{body, gateway = "flutterwave", verif_hash?, copies = 1, concurrency = 1}`` posts any JSON: a forged
    webhook. For ``flutterwave_v4`` and ``stripe`` ``verif_hash`` is the secret that signs.
``POST /_sim/v4/revoke-tokens``
    Turns away every token of v4 that was granted so far.
``POST /_sim/config``
    Any field of :class:`kiti.simulator.machine.Config`; answers the whole configuration.
``POST /_sim/refunds/{id}``
    ``{status?, disburse_status?, webhook = true}`` sets a refund's state by hand.
``POST /_sim/transfers/{id}``
    ``{status, complete_message?, webhook = true}`` sets a transfer's state by hand.
``POST /_sim/chargebacks`` and ``POST /_sim/chargebacks/{id}``
    ``{transaction_id, amount?, comment?}`` opens one, ``{status}`` ends it (won, lost …).
``POST /_sim/settle``
    ``{currency?, version?}`` settles all that v3 (or v4) has not settled yet, one settlement for each currency.
"""

from kiti.simulator.server import run

__all__ = ["run"]
