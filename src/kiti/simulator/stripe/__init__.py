"""Stripe's part of the simulator, below ``/v1``: Checkout, PaymentIntents, refunds, disputes, transfers, payouts.

Made from Stripe's published API reference and webhook guide. Bodies are forms (``a[b][0][c]=1``), amounts whole numbers
of Stripe's units, answers bare objects, lists ``{object: "list", data, has_more}``, errors ``{error: {type, code,
message, param}}``. ``expand`` and ``Idempotency-Key`` do what they do there; events are signed in ``Stripe-Signature``.

The buyer's page is ``/c/pay/{session id}``. ``POST /_sim/pay`` presses its buttons by ``client_reference_id``: pay,
decline, cancel, pay-late, pay-without-webhook, say-nothing. Control of its own:

``POST /_sim/stripe/press``
    ``{reference, action, delay_seconds?}``; also ``require-action``: the bank asks the buyer something.
``POST /_sim/stripe/expire``
    ``{reference}`` ends the session now, as if ``expires_at`` had come.
``POST /_sim/stripe/lapse``
    ``{reference}`` lets the bank take an authorisation back, as after seven days.
``POST /_sim/stripe/refunds/{id}``
    ``{status, failure_reason?}`` sets a refund's state by hand; ``refund_outcome`` counts here too.
``POST /_sim/stripe/disputes`` and ``POST /_sim/stripe/disputes/{id}``
    ``{payment_intent, amount?, reason?}`` opens one, ``{status}`` ends it.
``POST /_sim/stripe/settle``
    ``{currency?}`` pays out what is not paid out yet, one payout for each currency.
"""
