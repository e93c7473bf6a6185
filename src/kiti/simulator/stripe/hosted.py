"""The page that Stripe hosts: pay, decline, and what else a bank may do."""

from decimal import Decimal
from html import escape
from typing import Any, Final, get_args
from urllib.parse import parse_qs

from litestar import Request, Response, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.response import Redirect

from kiti.simulator import hosted
from kiti.simulator.api import machine_of
from kiti.simulator.stripe import sessions
from kiti.simulator.stripe.objects import Doc, StripeRefusalError
from kiti.simulator.stripe.sessions import Action

AnyRequest = Request[Any, Any, Any]

CLOSED: Final = {"expired": "This page has expired.", "complete": "This payment has been made already."}
# docs.stripe.com/currencies
WHOLE: Final = {"bif", "rwf", "xaf", "xof"}

PAGE: Final = """<h1>{title}</h1>
<p class="amount">{currency} {amount}</p>
<p class="soft">{email}<br>{reference}</p>
{error}
<form method="post">
<button class="go" name="action" value="pay">Pay {currency} {amount}</button>
<button name="action" value="decline">Decline</button>
<button name="action" value="cancel">Cancel and return</button>
<details>
<summary>When things go wrong</summary>
<button name="action" value="require-action">The bank asks something</button>
<button name="action" value="pay-late">Pay late</button>
<button name="action" value="pay-without-webhook">Pay, but send no webhook</button>
<button name="action" value="say-nothing">Pay, then say nothing</button>
</details>
</form>"""
DECLINED: Final = '<p role="alert"><strong>The card was declined. Try again, or cancel.</strong></p>'


@get("/c/pay/{identity:str}")
async def show_page(request: AnyRequest, identity: str) -> Response[str]:
    """The page of a session, or why it cannot be paid."""
    try:
        session = sessions.find_session(machine_of(request), identity)
    except StripeRefusalError:
        return hosted.message("Not found", "There is no such page.", status=404)
    return _page(session)


@post("/c/pay/{identity:str}", status_code=303)
async def press_button(request: AnyRequest, identity: str) -> Response[Any]:
    """Do what the button says, and send the browser back to the shop; after a decline it stays."""
    machine = machine_of(request)
    fields = parse_qs((await request.body()).decode("utf-8", "replace"))
    try:
        session = sessions.find_session(machine, identity)
        with machine.store.atomic():
            pressed = sessions.press(machine, session, _action(fields))
    except StripeRefusalError as error:
        return hosted.message("Not possible", str(error), status=error.http_status)
    if pressed.redirect is not None:
        return Redirect(pressed.redirect, status_code=303)
    if pressed.status == "failed":
        return _page(sessions.find_session(machine, identity), is_declined=True)
    return hosted.message("Thank you", f"Your payment is {pressed.status}. You may close this page.")


ROUTES: Final[list[HTTPRouteHandler]] = [show_page, press_button]


def _page(session: Doc, *, is_declined: bool = False) -> Response[str]:
    if session["status"] != "open":
        return hosted.message("Payment", CLOSED[session["status"]], status=410)
    currency = session["currency"]
    amount = Decimal(session["amount_total"]).scaleb(0 if currency in WHOLE else -2)
    body = PAGE.format(
        title=escape(session["_title"]),
        currency=escape(currency.upper()),
        amount=f"{amount:,}",
        email=escape(session["customer_email"] or ""),
        reference=escape(session["client_reference_id"] or ""),
        error=DECLINED if is_declined else "",
    )
    return hosted.page(f"Pay {currency.upper()} {amount:,}", body)


def _action(fields: dict[str, list[str]]) -> Action:
    given = fields.get("action", [""])[0]
    for action in get_args(Action):
        if action == given:
            chosen: Action = action
            return chosen
    raise StripeRefusalError("There is no such button.")
