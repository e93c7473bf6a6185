"""Travellers and operators as Flutterwave v4 wants them named. Pure: no I/O."""

from collections.abc import Mapping

import phonenumbers
from phonenumbers import NumberParseException

from kiti.gateways.gateway import CheckoutRequest, Destination

LONGEST_NAME = 50
# Source: Flutterwave's v4 documentation, "Mobile Money".
MOBILE_MONEY = frozenset({"GHS", "KES", "MWK", "RWF", "TZS", "UGX", "XAF", "XOF", "ZMW"})
# Countries whose mobile money is asked for on the phone itself: the currency, the calling code, and by which digits a
# number begins at which network. Source: the numbering plans of the Uganda Communications Commission, Rwanda's RURA and
# the Communications Authority of Kenya. A number that begins otherwise pays on Flutterwave's page, where it is asked.
NETWORKS: Mapping[str, tuple[int, Mapping[str, str]]] = {
    "UGX": (256, {"76": "MTN", "77": "MTN", "78": "MTN", "79": "MTN", "70": "AIRTEL", "74": "AIRTEL", "75": "AIRTEL"}),
    "RWF": (250, {"78": "MTN", "79": "MTN", "72": "AIRTEL", "73": "AIRTEL"}),
    "KES": (254, {"70": "MPESA", "71": "MPESA", "72": "MPESA", "79": "MPESA", "11": "MPESA", "73": "AIRTEL",
                  "78": "AIRTEL", "10": "AIRTEL"}),
}  # fmt: skip


def mobile_money(phone: str, *, currency: str) -> dict[str, object] | None:
    """The payment method that asks on this phone; None where currency or number do not tell the network."""
    code, networks = NETWORKS.get(currency, (0, {}))
    parsed = _parsed(phone)
    if parsed is None or parsed.country_code != code:
        return None
    national = str(parsed.national_number)
    network = networks.get(national[:2])
    if network is None:
        return None
    return {
        "type": "mobile_money",
        "mobile_money": {"country_code": str(code), "network": network, "phone_number": national},
    }


def customer(request: CheckoutRequest) -> dict[str, object]:
    """Who pays. An e-mail address is all that Flutterwave insists on.

    A traveller who gave none gets `<digits of the phone number, or the reference>@example.com`: a domain that passes
    every validator, and that RFC 2606 keeps from being anyone's.
    """
    digits = "".join(c for c in request.customer_phone if c in "0123456789")
    told: dict[str, object] = {"email": request.customer_email or f"{digits or request.reference}@example.com"}
    name = person(request.customer_name)
    if name:
        told["name"] = name
    parsed = _parsed(request.customer_phone)
    if parsed is not None:
        told["phone"] = {"country_code": str(parsed.country_code), "number": str(parsed.national_number)}
    return told


def person(name: str) -> dict[str, str]:
    """A first and a last name; empty where there are not two words to make them of."""
    first, _, last = name.strip().partition(" ")
    return {"first": first[:LONGEST_NAME], "last": last.strip()[:LONGEST_NAME]} if last.strip() else {}


def recipient(destination: Destination) -> dict[str, object]:
    """Where a transfer goes: {bank}, {mobile_money} or {wallet}, with a name where there is one."""
    named: dict[str, object] = {"name": person(destination.name)} if person(destination.name) else {}
    match destination.kind:
        case "bank":
            return {**named, "bank": {"account_number": destination.account, "code": destination.bank}}
        case "mobile_money":
            money = {
                "network": destination.bank,
                "country": destination.country,
                "msisdn": destination.account.lstrip("+"),
            }
            return {**named, "mobile_money": money}
        case "connected":
            return {"wallet": {"provider": "flutterwave", "identifier": destination.account}}


def _parsed(phone: str) -> phonenumbers.PhoneNumber | None:
    try:
        return phonenumbers.parse(phone)
    except NumberParseException:
        return None
