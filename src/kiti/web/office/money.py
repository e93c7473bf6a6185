"""What a person decides about money, and how to set a payment or a refund going again."""

from typing import Any, get_args
from uuid import UUID

from litestar import Request, Response, post
from litestar.response import Redirect

from kiti.core.errors import InvalidInput
from kiti.flows import office
from kiti.flows.house import House
from kiti.flows.office import STATUS_OF
from kiti.flows.review import Action, attach, close_unclaimed, review
from kiti.flows.staff_refunds import refund_payment
from kiti.web.office.entry import HOME, at_desk_with_form


@post("/payments/{payment_id:uuid}/ask", status_code=303)
async def ask_gateway(request: Request[Any, Any, Any], house: House, payment_id: UUID) -> Response[Any]:
    """Ask the gateway about a payment in review."""
    session = await at_desk_with_form(request, house)
    settled = await office.ask_gateway(house, staff=session.staff, payment=payment_id)
    return Redirect(f"{HOME}/review?payment={STATUS_OF[settled.state]}", status_code=303)


@post("/payments/{payment_id:uuid}/review", status_code=303)
async def decide(request: Request[Any, Any, Any], house: House, payment_id: UUID) -> Response[Any]:
    """Accept, send back or close a payment in review."""
    session = await at_desk_with_form(request, house)
    form = await request.form()
    action = str(form.get("action", ""))
    if action not in get_args(Action):
        raise InvalidInput("action", "Choose what becomes of it.")
    await review(house, payment=payment_id, action=action, reason=str(form.get("reason", "")), staff=session.staff)  # type: ignore[arg-type] # looked up above
    return Redirect(f"{HOME}/review?decided={action}", status_code=303)


@post("/unclaimed", status_code=303)
async def decide_unclaimed(request: Request[Any, Any, Any], house: House) -> Response[Any]:
    """Say which payment money of an unknown reference is for, or close the case."""
    session = await at_desk_with_form(request, house)
    form = await request.form()
    action, gateway, transaction, payment, reason = (
        str(form.get(name, "")) for name in ("action", "gateway", "transaction", "payment", "reason")
    )
    if action == "attach":
        await attach(
            house,
            gateway=gateway,
            transaction_id=transaction,
            payment=_payment_id(payment),
            reason=reason,
            staff=session.staff,
        )
    else:
        await close_unclaimed(house, gateway=gateway, transaction_id=transaction, reason=reason, staff=session.staff)
    return Redirect(f"{HOME}/review?decided={'attach' if action == 'attach' else 'close'}", status_code=303)


@post("/payments/{payment_id:uuid}/excess", status_code=303)
async def send_excess_back(request: Request[Any, Any, Any], house: House, payment_id: UUID) -> Response[Any]:
    """What was paid beyond what was due goes back; the price stays."""
    session = await at_desk_with_form(request, house)
    await refund_payment(
        house, payment=payment_id, amount=None, reason="Paid beyond the price.", staff=session.staff, excess=True
    )
    return Redirect(f"{HOME}/payments?sent_back=1", status_code=303)


@post("/refunds/{refund_id:uuid}/send", status_code=303)
async def send_refund(request: Request[Any, Any, Any], house: House, refund_id: UUID) -> Response[Any]:
    """Send a refund that needs attention once more."""
    session = await at_desk_with_form(request, house)
    sent = await office.send_refund_again(house, staff=session.staff, refund=refund_id)
    return Redirect(f"{HOME}/review?refund={sent.state}", status_code=303)


def _payment_id(typed: str) -> UUID:
    try:
        return UUID(typed.strip())
    except ValueError:
        raise InvalidInput("payment", "Write the payment's id, as the list of payments shows it.") from None


ROUTES = [
    ask_gateway,
    decide,
    decide_unclaimed,
    send_excess_back,
    send_refund,
]
