"""The routes of Stripe's API that Kiti uses, below `/v1`."""

import json
from collections.abc import Callable
from typing import Any, Final

from litestar import Request, Response, get, post
from litestar.handlers import HTTPRouteHandler

from kiti.simulator.api import machine_of
from kiti.simulator.stripe import forms, money, sessions
from kiti.simulator.stripe.forms import Form
from kiti.simulator.stripe.objects import Doc, StripeRefusalError, expanded, find, of_kind, told

AnyRequest = Request[Any, Any, Any]

LARGEST_PAGE: Final = 100
USUAL_PAGE: Final = 10
COMPARISONS: Final[dict[str, Callable[[int, int], bool]]] = {
    "gt": int.__gt__,
    "gte": int.__ge__,
    "lt": int.__lt__,
    "lte": int.__le__,
}


def refusal(_request: AnyRequest, error: StripeRefusalError) -> Response[bytes]:
    """The error envelope."""
    return _json(error.envelope, http_status=error.http_status)


@post("/v1/checkout/sessions", status_code=200)
async def create_session(request: AnyRequest) -> Response[bytes]:
    """Make a page to pay on."""
    form = await _form(request)
    machine = machine_of(request)
    base_url = machine.config.public_url or str(request.base_url).rstrip("/")
    with machine.store.atomic():
        session = sessions.open_session(machine, form, base_url=base_url)
    return _shown(request, session, form)


@get("/v1/checkout/sessions")
async def list_sessions(request: AnyRequest) -> Response[bytes]:
    """List pages, newest first."""
    return _listed(request, "checkout.session", filters=("payment_intent", "status"))


@get("/v1/checkout/sessions/{identity:str}")
async def show_session(request: AnyRequest, identity: str) -> Response[bytes]:
    """One page."""
    return _shown(request, sessions.find_session(machine_of(request), identity), _query(request))


@post("/v1/checkout/sessions/{identity:str}/expire", status_code=200)
async def expire_session(request: AnyRequest, identity: str) -> Response[bytes]:
    """End a page."""
    machine, form = machine_of(request), await _form(request)
    with machine.store.atomic():
        session = sessions.expire(machine, sessions.find_session(machine, identity))
    return _shown(request, session, form)


@get("/v1/payment_intents")
async def list_intents(request: AnyRequest) -> Response[bytes]:
    """List payments, newest first."""
    return _listed(request, "payment_intent", filters=())


@get("/v1/payment_intents/{identity:str}")
async def show_intent(request: AnyRequest, identity: str) -> Response[bytes]:
    """One payment."""
    return _shown(request, find(machine_of(request), identity, "payment_intent"), _query(request))


@post("/v1/payment_intents/{identity:str}/capture", status_code=200)
async def capture_intent(request: AnyRequest, identity: str) -> Response[bytes]:
    """Take what was authorised."""
    machine, form = machine_of(request), await _form(request)
    with machine.store.atomic():
        intent = sessions.capture(machine, find(machine, identity, "payment_intent"), form)
    return _shown(request, intent, form)


@post("/v1/payment_intents/{identity:str}/cancel", status_code=200)
async def cancel_intent(request: AnyRequest, identity: str) -> Response[bytes]:
    """Let go of it."""
    machine, form = machine_of(request), await _form(request)
    with machine.store.atomic():
        intent = sessions.cancel(machine, find(machine, identity, "payment_intent"), form)
    return _shown(request, intent, form)


@post("/v1/refunds", status_code=200)
async def create_refund(request: AnyRequest) -> Response[bytes]:
    """Give money back."""
    machine, form = machine_of(request), await _form(request)
    with machine.store.atomic():
        refund = money.refund(machine, form)
    return _shown(request, refund, form)


@get("/v1/refunds")
async def list_refunds(request: AnyRequest) -> Response[bytes]:
    """List refunds, newest first."""
    intent = request.query_params.get("payment_intent")
    rows = None if intent is None else money.refunds_of(machine_of(request), intent)
    return _listed(request, "refund", filters=("charge",), rows=rows)


@get("/v1/refunds/{identity:str}")
async def show_refund(request: AnyRequest, identity: str) -> Response[bytes]:
    """One refund."""
    return _shown(request, find(machine_of(request), identity, "refund"), _query(request))


@get("/v1/disputes")
async def list_disputes(request: AnyRequest) -> Response[bytes]:
    """List disputes, newest first."""
    return _listed(request, "dispute", filters=("payment_intent", "charge"))


@get("/v1/disputes/{identity:str}")
async def show_dispute(request: AnyRequest, identity: str) -> Response[bytes]:
    """One dispute."""
    return _shown(request, find(machine_of(request), identity, "dispute"), _query(request))


@post("/v1/disputes/{identity:str}", status_code=200)
async def update_dispute(request: AnyRequest, identity: str) -> Response[bytes]:
    """Hand in evidence."""
    machine, form = machine_of(request), await _form(request)
    with machine.store.atomic():
        dispute = money.update_dispute(machine, identity, form)
    return _shown(request, dispute, form)


@post("/v1/disputes/{identity:str}/close", status_code=200)
async def close_dispute(request: AnyRequest, identity: str) -> Response[bytes]:
    """Give in."""
    machine, form = machine_of(request), await _form(request)
    with machine.store.atomic():
        dispute = money.close_dispute(machine, identity)
    return _shown(request, dispute, form)


@post("/v1/transfers", status_code=200)
async def create_transfer(request: AnyRequest) -> Response[bytes]:
    """Move money to a connected account."""
    machine, form = machine_of(request), await _form(request)
    with machine.store.atomic():
        made = money.transfer(machine, form)
    return _shown(request, made, form)


@get("/v1/transfers")
async def list_transfers(request: AnyRequest) -> Response[bytes]:
    """List transfers, newest first."""
    return _listed(request, "transfer", filters=("transfer_group", "destination"))


@get("/v1/payouts")
async def list_payouts(request: AnyRequest) -> Response[bytes]:
    """List what went to the bank, newest first."""
    return _listed(request, "payout", filters=("status",), moment="arrival_date")


@get("/v1/balance_transactions")
async def list_balance_transactions(request: AnyRequest) -> Response[bytes]:
    """List what moved our balance, newest first; `payout` is the one that it went with."""
    payout = request.query_params.get("payout")
    rows = of_kind(machine_of(request), "balance_transaction")
    if payout is not None:
        rows = [row for row in rows if row["_payout"] == payout]
    return _listed(request, "balance_transaction", filters=("type", "currency", "source"), rows=rows)


ROUTES: Final[list[HTTPRouteHandler]] = [
    create_session,
    list_sessions,
    show_session,
    expire_session,
    list_intents,
    show_intent,
    capture_intent,
    cancel_intent,
    create_refund,
    list_refunds,
    show_refund,
    list_disputes,
    show_dispute,
    update_dispute,
    close_dispute,
    create_transfer,
    list_transfers,
    list_payouts,
    list_balance_transactions,
]


def _listed(
    request: AnyRequest,
    kind: str,
    *,
    filters: tuple[str, ...],
    rows: list[Doc] | None = None,
    moment: str = "created",
) -> Response[bytes]:
    """A page of a list: `limit`, `starting_after`, a span of time, and what may be filtered by."""
    query = _query(request)
    found = of_kind(machine_of(request), kind) if rows is None else rows
    found = [row for row in found if all(row.get(name) == query[name] for name in filters if name in query)]
    for name, edge in forms.part(query, moment).items():
        found = [row for row in found if COMPARISONS[name](row[moment], int(edge))]
    if "starting_after" in query:
        places = [place for place, row in enumerate(found) if row["id"] == query["starting_after"]]
        if not places:
            raise StripeRefusalError("No such object in this list", code="resource_missing", param="starting_after")
        found = found[places[0] + 1 :]
    limit = min(forms.number(query, "limit", default=USUAL_PAGE), LARGEST_PAGE)
    page = {
        "object": "list",
        "url": request.url.path,
        "has_more": len(found) > limit,
        "data": [told(row) for row in found[:limit]],
    }
    return _shown(request, page, query)


def _shown(request: AnyRequest, doc: Doc, form: Form) -> Response[bytes]:
    shown: Any = told(doc)
    for path in forms.rows(form, "expand"):
        shown = expanded(machine_of(request), shown, path)
    return _json(shown)


async def _form(request: AnyRequest) -> Form:
    return forms.decode((await request.body()).decode("utf-8", "replace"))


def _query(request: AnyRequest) -> Form:
    return forms.decode(request.url.query)


def _json(value: Any, *, http_status: int = 200) -> Response[bytes]:
    return Response(json.dumps(value).encode(), media_type="application/json", status_code=http_status)
