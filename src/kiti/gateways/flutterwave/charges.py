"""Direct mobile money charges, where the phone is asked without a page of the gateway's; and what a charge costs.

`POST /charges?type=…` answers in two ways. Where the traveller must be sent to a page first it tells only where
(`meta.authorization` with mode "redirect", and no transaction yet), else it tells of a transaction that is pending.
"""

from decimal import Decimal

import msgspec

from kiti.core.money import Money, UnknownCurrency
from kiti.gateways.flutterwave import methods, wire
from kiti.gateways.gateway import DirectRequest, Prompted, Rejected, Unknown
from kiti.gateways.http import Outside
from kiti.gateways.reading import NOTHING, UNREADABLE, number, printable


async def charge(outside: Outside, request: DirectRequest) -> Prompted | Rejected | Unknown:
    """Have the phone asked; a repeated `tx_ref` is refused because an earlier call did it, so that is Unknown."""
    objection = methods.objection_to_phone(request.phone, currency=request.amount.currency)
    if objection is not None:
        return Rejected(reason=objection)
    kind, _ = methods.DIRECT[request.amount.currency]
    outcome = await outside.post(f"/charges?type={kind}", wire.encode(_body(request)))
    answer = wire.envelope(outcome)
    match answer:
        case wire.Envelope():
            return _prompted(answer, reference=request.reference)
        case wire.Refused():
            return wire.rejected_or_unknown(answer)
        case Unknown():
            return wire.unavailable_or_unknown(outcome, answer)


async def fee_of(outside: Outside, amount: Money) -> Decimal | Rejected | Unknown:
    """What Flutterwave would keep of an amount, in minor units."""
    asked = {"amount": str(wire.UNITS.to_wire(amount)), "currency": amount.currency}
    answer = wire.read(await outside.get("/transactions/fee", asked), _Fee)
    match answer:
        case _Fee():
            try:
                return wire.UNITS.to_minor_exact(number(answer.fee), amount.currency)
            except (ValueError, UnknownCurrency) as error:
                return Unknown(reason=f"the fee: {printable(str(error))}")
        case wire.Refused():
            return wire.rejected_or_unknown(answer)
        case Unknown():
            return answer


class _Fee(msgspec.Struct, frozen=True, kw_only=True):
    fee: msgspec.Raw = NOTHING


class _Transaction(msgspec.Struct, frozen=True, kw_only=True):
    tx_ref: str
    status: str
    processor_response: str | None = None


class _Authorization(msgspec.Struct, frozen=True, kw_only=True):
    mode: str = ""
    redirect: str | None = None


class _Meta(msgspec.Struct, frozen=True, kw_only=True):
    authorization: _Authorization = _Authorization()


def _body(request: DirectRequest) -> dict[str, object]:
    phone = request.phone
    body: dict[str, object] = {
        "tx_ref": request.reference,
        "amount": wire.UNITS.to_wire(request.amount),
        "currency": request.amount.currency,
        "email": wire.email_for(request.customer_email, phone=phone, reference=request.reference),
        "phone_number": phone.removeprefix("+"),
        "fullname": request.customer_name,
        "redirect_url": request.return_url,
        "meta": {"reference": request.reference},
    }
    network = methods.network_of(phone)
    if network is not None:
        body["network"] = network
    if methods.DIRECT[request.amount.currency][0] == "mobile_money_franco":
        body["country"] = methods.country_of(phone)
    return body


def _prompted(answer: wire.Envelope, *, reference: str) -> Prompted | Rejected | Unknown:
    try:
        transaction = msgspec.json.decode(answer.data, type=_Transaction | None)
        meta = msgspec.json.decode(answer.meta, type=_Meta | None) or _Meta()
    except UNREADABLE as error:
        return Unknown(reason=f"a charge of another shape: {printable(str(error))}")
    way = meta.authorization
    url = way.redirect if way.mode == "redirect" else None
    if url is not None and not wire.is_address(url):
        return Unknown(reason="a link that is no address")
    if transaction is None:
        return Unknown(reason="neither a transaction nor where to go") if url is None else Prompted(url=url)
    if transaction.tx_ref != reference:
        return Unknown(reason="the answer is about another charge")
    if transaction.status.lower() == "failed":
        return Rejected(reason=printable(transaction.processor_response or "the gateway gave no reason"))
    return Prompted(url=url)
