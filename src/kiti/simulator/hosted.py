"""What the buyer sees at the gateway: the hosted page, and the approval of a direct charge.

Plain HTML with its own CSS: nothing is loaded from elsewhere, nothing needs JavaScript.
"""

from decimal import Decimal, InvalidOperation
from html import escape
from typing import Any, Final, get_args
from urllib.parse import parse_qs

from litestar import Request, Response, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.response import Redirect

from kiti.simulator import charges
from kiti.simulator.api import machine_of
from kiti.simulator.charges import Action, PayOptions
from kiti.simulator.machine import GatewayRefusalError, Machine
from kiti.simulator.store import Row
from kiti.simulator.wire import decoded, number

AnyRequest = Request[Any, Any, Any]

CLOSED: Final = {
    "disabled": "This payment link is currently inactive.",
    "expired": "This payment link has expired.",
    "exhausted": "This payment failed too often. Please start again at the shop.",
    "paid": "This payment has been made already.",
}
METHOD_NAMES: Final = {"card": "Card", "bank_transfer": "Bank transfer", "ussd": "USSD", "mpesa": "M-Pesa"}
MOBILE_MONEY_NAME: Final = "Mobile money"
LONGEST_DELAY_SECONDS: Final = 86_400

PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>{title}</title>
<style>
:root {{ color-scheme: light; --ink: #1b2733; --soft: #5a6b7b; --line: #d9e0e6; --go: #0a6b4a; }}
* {{ box-sizing: border-box; }}
body {{ margin: 0; padding: 1rem; background: #f3f5f7; color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; }}
main {{ max-width: 26rem; margin: 0 auto; padding: 1.25rem; background: #fff;
  border: 1px solid var(--line); border-radius: .75rem; }}
.note {{ max-width: 26rem; margin: 0 auto .75rem; color: var(--soft); font-size: .875rem; }}
h1 {{ margin: 0 0 .25rem; font-size: 1.125rem; }}
.amount {{ margin: .25rem 0 0; font-size: 2rem; font-weight: 700; overflow-wrap: anywhere; }}
.soft {{ color: var(--soft); font-size: .875rem; overflow-wrap: anywhere; }}
label {{ display: block; margin: 1rem 0 .25rem; font-size: .875rem; }}
select, input {{ width: 100%; min-height: 2.75rem; padding: 0 .75rem; font: inherit;
  border: 1px solid #8596a5; border-radius: .5rem; background: #fff; color: inherit; }}
button {{ display: block; width: 100%; min-height: 2.75rem; margin-top: .625rem; padding: .5rem;
  font: inherit; font-weight: 600; border: 1px solid #8596a5; border-radius: .5rem;
  background: #fff; color: inherit; cursor: pointer; }}
button.go {{ margin-top: 1rem; background: var(--go); border-color: var(--go); color: #fff; }}
button:focus-visible, select:focus-visible, input:focus-visible {{
  outline: 3px solid #7ab8ff; outline-offset: 2px; }}
details {{ margin-top: 1.25rem; border-top: 1px solid var(--line); padding-top: .75rem; }}
summary {{ min-height: 2.75rem; line-height: 2.75rem; cursor: pointer; }}
</style>
</head>
<body>
<p class="note">Simulated gateway: no money moves.</p>
<main>
{body}
</main>
</body>
</html>
"""

BUTTONS: Final = """<h1>{shop}</h1>
<p class="amount">{currency} {amount}</p>
<p class="soft">{email}<br>{tx_ref}</p>
<form method="post">
{method_field}
<button class="go" name="action" value="pay">Pay {currency} {amount}</button>
<button name="action" value="decline">Decline</button>
<button name="action" value="cancel">Cancel and return</button>
<details>
<summary>When things go wrong</summary>
<label for="delay_seconds">Late means after so many seconds</label>
<input id="delay_seconds" name="delay_seconds" type="number" inputmode="decimal" min="0"
 max="86400" step="any" value="{delay_seconds}">
<button name="action" value="pay-late">Pay late</button>
<button name="action" value="pay-twice">Pay twice</button>
<button name="action" value="pay-without-webhook">Pay, but send no webhook</button>
<button name="action" value="say-nothing">Pay, then say nothing</button>
</details>
</form>"""

METHOD_FIELD: Final = """<label for="payment_type">Pay with</label>
<select id="payment_type" name="payment_type">{options}</select>"""


def message(title: str, text: str, *, status: int = 200) -> Response[str]:
    """A page that says something."""
    return page(title, f"<h1>{escape(title)}</h1>\n<p>{escape(text)}</p>", status=status)


def page(title: str, body: str, *, status: int = 200) -> Response[str]:
    """A page of the gateway's."""
    headers = {
        "cache-control": "no-store",
        "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'",
    }
    whole = PAGE.format(title=escape(title), body=body)
    return Response(whole, status_code=status, media_type="text/html", headers=headers)


@get("/pay/{link_id:str}")
async def show_payment(request: AnyRequest, link_id: str) -> Response[str]:
    """Show the page of a link, or why it cannot be paid."""
    machine = machine_of(request)
    link = charges.find_link(machine, link_id=link_id)
    if link is None:
        return message("Not found", "There is no such payment link.", status=404)
    state = charges.link_state(link)
    if state != "active":
        return message("Payment link", CLOSED[state], status=410)
    return page(f"Pay {link['currency']} {number(link['amount'])}", _link_form(machine, link))


@post("/pay/{link_id:str}", status_code=303)
async def press_payment(request: AnyRequest, link_id: str) -> Response[Any]:
    """Do what the pressed button says, and send the browser back to the shop."""
    machine = machine_of(request)
    link = charges.find_link(machine, link_id=link_id)
    if link is None:
        return message("Not found", "There is no such payment link.", status=404)
    state = charges.link_state(link)
    if state != "active":
        return message("Payment link", CLOSED[state], status=410)
    return await _press(request, tx_ref=link["tx_ref"])


@get("/approve/{flw_ref:str}")
async def show_approval(request: AnyRequest, flw_ref: str) -> Response[str]:
    """Show what the buyer of a direct charge is asked to approve."""
    machine = machine_of(request)
    tx = _charge_of(machine, flw_ref)
    if tx is None:
        return message("Not found", "There is no such charge.", status=404)
    if tx["status"] != "pending":
        return message("Charge", f"This charge is {tx['status']} already.", status=410)
    body = _buttons(machine, tx, shop="Approve a payment", method_field="")
    return page(f"Approve {tx['currency']} {number(tx['amount'])}", body)


@post("/approve/{flw_ref:str}", status_code=303)
async def press_approval(request: AnyRequest, flw_ref: str) -> Response[Any]:
    """Approve or decline a direct charge."""
    tx = _charge_of(machine_of(request), flw_ref)
    if tx is None:
        return message("Not found", "There is no such charge.", status=404)
    return await _press(request, tx_ref=tx["tx_ref"])


ROUTES: Final[list[HTTPRouteHandler]] = [
    show_payment,
    press_payment,
    show_approval,
    press_approval,
]


async def _press(request: AnyRequest, *, tx_ref: str) -> Response[Any]:
    fields = parse_qs((await request.body()).decode("utf-8", "replace"))
    try:
        action = _action(fields)
        paid = charges.act(machine_of(request), tx_ref=tx_ref, action=action, options=_options(fields))
    except GatewayRefusalError as error:
        return message("Not possible", f"{error.message}.", status=error.http_status)
    if paid.redirect is None:
        return message("Thank you", f"Your payment is {paid.status}. You may close this page.")
    return Redirect(paid.redirect, status_code=303)


def _action(fields: dict[str, list[str]]) -> Action:
    given = fields.get("action", [""])[0]
    for action in get_args(Action):
        if action == given:
            chosen: Action = action
            return chosen
    raise GatewayRefusalError("There is no such button")


def _options(fields: dict[str, list[str]]) -> PayOptions:
    payment_type = fields.get("payment_type", [None])[0]
    if payment_type is not None and payment_type not in charges.PAY_METHODS:
        raise GatewayRefusalError("There is no such way to pay")
    delay_seconds = fields.get("delay_seconds", [None])[0]
    if delay_seconds is None:
        return PayOptions(payment_type=payment_type)
    try:
        delay = Decimal(delay_seconds)
    except InvalidOperation as error:
        raise GatewayRefusalError("The delay is not a number") from error
    if not delay.is_finite() or not 0 <= delay <= LONGEST_DELAY_SECONDS:
        raise GatewayRefusalError("The delay is not between 0 and 86400 seconds")
    return PayOptions(payment_type=payment_type, delay_seconds=float(delay))


def _charge_of(machine: Machine, flw_ref: str) -> Row | None:
    return machine.store.one("SELECT * FROM tx WHERE flw_ref = ? AND link_id IS NULL LIMIT 1", flw_ref)


def _link_form(machine: Machine, link: Row) -> str:
    methods = charges.methods(link)
    options = "".join(f'<option value="{escape(m)}">{METHOD_NAMES.get(m, MOBILE_MONEY_NAME)}</option>' for m in methods)
    return _buttons(
        machine,
        link,
        shop=link["title"] or "Complete your payment",
        method_field=METHOD_FIELD.format(options=options),
    )


def _buttons(machine: Machine, row: Row, *, shop: str, method_field: str) -> str:
    amount = number(row["amount"])
    return BUTTONS.format(
        shop=escape(shop),
        currency=escape(row["currency"]),
        amount=f"{amount:,}",
        email=escape(decoded(row["customer"])["email"]),
        tx_ref=escape(row["tx_ref"]),
        method_field=method_field,
        delay_seconds=f"{machine.config.pay_late_seconds:g}",
    )
