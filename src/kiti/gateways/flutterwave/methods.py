"""What Flutterwave v3 can take: methods by currency, and whose phones can be asked to pay. Pure: no I/O.

Source: Flutterwave's v3 documentation of payment methods and of the mobile money charges of each country.
"""

from collections.abc import Mapping

import phonenumbers

from kiti.gateways.gateway import Capabilities, Method, Rejected

# A hosted page offers mobile money under one name for each country.
MOBILE_MONEY = {
    "GHS": "mobilemoneyghana",
    "KES": "mpesa",
    "MWK": "mobilemoneymalawi",
    "RWF": "mobilemoneyrwanda",
    "TZS": "mobilemoneytanzania",
    "UGX": "mobilemoneyuganda",
    "XAF": "mobilemoneyfranco",
    "XOF": "mobilemoneyfranco",
    "ZMW": "mobilemoneyzambia",
}

OTHER_METHODS: Mapping[Method, str] = {"CARD": "card", "BANK_TRANSFER": "banktransfer", "USSD": "ussd"}

CURRENCIES = frozenset(MOBILE_MONEY) | {"NGN", "USD", "EUR", "GBP", "ZAR"}

CAPABILITIES = Capabilities(
    hosted_page=True,
    authorise_then_capture=False,
    idempotent_refund=False,
    link_expiry=True,
    refund_webhook=True,
    currencies=CURRENCIES,
    methods=frozenset({"CARD", "MOBILE_MONEY", "BANK_TRANSFER", "USSD"}),
    method_currencies={
        "MOBILE_MONEY": frozenset(MOBILE_MONEY),
        "BANK_TRANSFER": frozenset({"NGN", "GHS"}),
        "USSD": frozenset({"NGN"}),
    },
)

# `type` of a direct charge, and the countries whose phones it reaches.
DIRECT = {
    "GHS": ("mobile_money_ghana", frozenset({"GH"})),
    "KES": ("mpesa", frozenset({"KE"})),
    "RWF": ("mobile_money_rwanda", frozenset({"RW"})),
    "TZS": ("mobile_money_tanzania", frozenset({"TZ"})),
    "UGX": ("mobile_money_uganda", frozenset({"UG"})),
    "XAF": ("mobile_money_franco", frozenset({"CM"})),
    "XOF": ("mobile_money_franco", frozenset({"BF", "CI", "SN"})),
    "ZMW": ("mobile_money_zambia", frozenset({"ZM"})),
}

# Where a charge has to name the phone's network: which one has given out the numbers that begin so, after the country
# code (the national numbering plans). A number that was taken to another network is declined, and paid for otherwise.
NETWORKS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "GH": {
        "MTN": ("24", "25", "53", "54", "55", "59"),
        "VODAFONE": ("20", "50"),
        "TIGO": ("26", "27", "56", "57"),
    },
    "ZM": {
        "AIRTEL": ("57", "77", "97"),
        "MTN": ("56", "76", "96"),
        "ZAMTEL": ("55", "75", "95"),
    },
    "CM": {
        "MTN": ("67", "650", "651", "652", "653", "654", "680", "681", "682", "683"),
        "ORANGEMONEY": ("69", "655", "656", "657", "658", "659", "685", "686", "687", "688", "689", "640"),
    },
}

COUNTRY_NAMES = {
    "BF": "Burkina Faso",
    "CI": "Côte d'Ivoire",
    "CM": "Cameroon",
    "GH": "Ghana",
    "KE": "Kenya",
    "RW": "Rwanda",
    "SN": "Senegal",
    "TZ": "Tanzania",
    "UG": "Uganda",
    "ZM": "Zambia",
}


def payment_option(method: Method, currency: str) -> str | Rejected:
    """What the hosted page is told to offer."""
    if currency not in CURRENCIES:
        return Rejected(reason=f"Flutterwave is not asked to take {currency}")
    if not CAPABILITIES.takes(method, currency):
        return Rejected(reason=f"Flutterwave takes no {method} in {currency}")
    return MOBILE_MONEY[currency] if method == "MOBILE_MONEY" else OTHER_METHODS[method]


def objection_to_phone(phone: str, *, currency: str) -> str | None:
    """Why this number (E.164) cannot be asked to pay in this currency, as a sentence; None: it can."""
    if currency not in DIRECT:
        return f"No phone can be asked to pay in {currency}. Pay on the provider's page."
    countries = DIRECT[currency][1]
    country = country_of(phone)
    if country not in countries:
        names = ", ".join(COUNTRY_NAMES[code] for code in sorted(countries))
        return f"Mobile money in {currency} needs a number of {names}. Give one, or pay on the provider's page."
    if country in NETWORKS and network_of(phone) is None:
        return "We do not know this number's network. Give another number, or pay on the provider's page."
    return None


def country_of(phone: str) -> str:
    """The country (ISO 3166) of a number in E.164, empty for none."""
    try:
        number = phonenumbers.parse(phone, None)
    except phonenumbers.NumberParseException:
        return ""
    return phonenumbers.region_code_for_country_code(number.country_code or 0)


def network_of(phone: str) -> str | None:
    """What Flutterwave calls the network of a number in E.164; None where it need not or cannot be told."""
    country = country_of(phone)
    national = phone.removeprefix(f"+{phonenumbers.country_code_for_region(country)}")
    for network, prefixes in NETWORKS.get(country, {}).items():
        if national.startswith(prefixes):
            return network
    return None
