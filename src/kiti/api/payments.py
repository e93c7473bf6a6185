"""Pay: open an attempt, see how far it has come, hear from gateways."""

from typing import Annotated, Any
from uuid import UUID

from litestar import Controller, Request, Response, get, post
from litestar.params import QueryParameter

from kiti.api import wire
from kiti.api.access import check_booking, staff_of
from kiti.api.bookings import contact_of
from kiti.bookings import reads as booking_reads
from kiti.bookings.model import Contact
from kiti.core import text
from kiti.core.errors import InvalidInput
from kiti.flows import cash, payment_options, review, show
from kiti.flows.checkout import Intent, initiate
from kiti.flows.house import House
from kiti.flows.payment_options import Way
from kiti.flows.staff import require
from kiti.flows.staff_refunds import refund_payment
from kiti.flows.webhooks import receive_webhook
from kiti.payments import reads as payment_reads
from kiti.payments.model import Channel, Payment, Refund

WEBHOOK_BODY_BYTES = 256 * 1024


class Payments(Controller):
    """`/api/payments`."""

    path = "/api/payments"
    tags = ("Pay",)

    @post("/initiate", summary="Open an attempt to pay")
    async def initiate(
        self, house: House, request: Request[Any, Any, Any], data: wire.InitiateBody
    ) -> Response[wire.PaymentOpenedShape]:
        """201 with the page to pay on, or a prompt on a phone; 200 with the same one while it is open."""
        check_booking(request, data.booking_id, house.settings)
        contact = contact_of(data.contact)
        phone = text.phone(data.phone_number, field="phoneNumber")
        is_direct = data.channel == "DIRECT"
        # Who pays by phone need not be who travels; the number of a page's customer is the booking's.
        contact_phone = contact.phone if is_direct else phone or contact.phone
        opened = await initiate(
            house,
            Intent(
                booking=data.booking_id,
                method=data.payment_method,
                channel="direct" if is_direct else "hosted",
                phone=phone if is_direct else "",
                gateway=data.gateway,
                amount=data.amount,
                total=data.total,
                currency=data.currency,
                return_url=_return_url(data.return_url),
                contact=Contact(name=contact.name, email=contact.email, phone=contact_phone),
            ),
        )
        payment = opened.payment
        shape = wire.PaymentOpenedShape(
            payment_id=payment.id,
            reference=str(payment.id),
            status=(await show.payment(house, payment.id)).status,
            payment_url=payment.checkout_url,
            amount=payment.amount,
            fee=payment.fee,
            total=payment.total.amount,
            currency=payment.currency,
            expires_at=payment.expires_at,
            counter_reference=await _counter_reference(house, payment),
        )
        return Response(shape, status_code=201 if opened.is_new else 200)

    @get("/methods", summary="How a booking can be paid")
    async def methods(
        self,
        house: House,
        request: Request[Any, Any, Any],
        booking_id: Annotated[UUID, QueryParameter(name="bookingId")],
    ) -> Response[wire.PayMethodsShape]:
        """What can be sent to `initiate` as `paymentMethod`, `gateway` and `channel`; for the holder of the booking."""
        check_booking(request, booking_id, house.settings)
        booking, ways = await payment_options.of_booking(house, booking_id)
        shape = wire.PayMethodsShape(
            booking_id=booking_id, currency=booking.currency, methods=[_pay_method(way) for way in ways]
        )
        return Response(shape, headers={"Cache-Control": "no-store"})

    @get("/status", summary="How far a payment has come")
    async def status(
        self,
        house: House,
        payment_id: Annotated[UUID | None, QueryParameter(name="paymentId")] = None,
        reference: Annotated[str | None, QueryParameter(name="reference", max_length=64)] = None,
    ) -> Response[wire.PaymentShape]:
        """By `paymentId` or by `reference`; whoever knows one of them may ask."""
        view = await show.payment(house, _which(payment_id, reference))
        return Response(_payment(view), headers={"Cache-Control": "no-store"})

    @post("/{payment_id:uuid}/refund", summary="Give money back", status_code=202)
    async def refund(
        self, house: House, request: Request[Any, Any, Any], payment_id: UUID, data: wire.RefundBody
    ) -> wire.RefundShape:
        """For staff who may: part of a payment, or all that is left of it. Seats and tickets stay as they are."""
        staff = await staff_of(request, house)
        key = request.headers.get("idempotency-key", "")
        refund = await refund_payment(
            house,
            payment=payment_id,
            amount=data.amount,
            reason=data.reason,
            staff=staff,
            key=key,
            excess=data.excess,
        )
        return _refund(refund)

    @post("/{payment_id:uuid}/review", summary="Decide about money that is not what was due", status_code=200)
    async def review(
        self, house: House, request: Request[Any, Any, Any], payment_id: UUID, data: wire.ReviewBody
    ) -> wire.PaymentShape:
        """For staff of the platform: accept what came short, send it back, ask the gateway, or close an empty case."""
        staff = await staff_of(request, house)
        await review.review(house, payment=payment_id, action=data.action, reason=data.reason, staff=staff)
        return _payment(await show.payment(house, payment_id))

    @post("/{payment_id:uuid}/cash", summary="Take cash at a counter")
    async def take_cash(
        self, house: House, request: Request[Any, Any, Any], payment_id: UUID, data: wire.CashBody
    ) -> Response[wire.ReceiptShape]:
        """For staff who may: 201 with the receipt, 200 for the same clerk again, 409 if another one has taken it."""
        staff = await staff_of(request, house)
        taken = await cash.take(
            house, payment=payment_id, amount=data.amount, currency=data.currency, counter=data.counter, staff=staff
        )
        receipt = taken.receipt
        shape = wire.ReceiptShape(
            receipt_number=receipt.number,
            payment_id=payment_id,
            booking_id=receipt.booking_id,
            reference=taken.booking.reference,
            amount=receipt.amount,
            currency=receipt.currency,
            taken_at=receipt.taken_at,
            status=(await show.payment(house, payment_id)).status,
            booking_status=taken.booking.standing.upper(),
        )
        return Response(shape, status_code=201 if taken.is_new else 200)

    @post("/webhook/{gateway:str}", summary="For gateways", status_code=200, request_max_body_size=WEBHOOK_BODY_BYTES)
    async def webhook(self, house: House, request: Request[Any, Any, Any], gateway: str) -> wire.WebhookShape:
        """The raw body is verified first; it is kept once, answered at once, and acted on by a job."""
        body = await request.body()
        headers = {name.lower(): value for name, value in request.headers.items()}
        await receive_webhook(house, gateway=gateway, headers=headers, body=body)
        return wire.WebhookShape()


class Refunds(Controller):
    """`/api/refunds`."""

    path = "/api/refunds"
    tags = ("Pay",)

    @get("/{refund_id:uuid}", summary="How far a refund has come")
    async def show(self, house: House, request: Request[Any, Any, Any], refund_id: UUID) -> wire.RefundShape:
        """For whoever holds the booking's token, and for staff who may see refunds."""
        async with house.db.reader() as reader:
            refund = await payment_reads.refund(reader, refund=refund_id)
            operators = await booking_reads.operators_of(reader, booking=refund.booking_id)
        if request.headers.get("authorization", "").lower().startswith("bearer "):
            staff = await staff_of(request, house)
            for operator in operators:
                require(staff, "refunds.see", operator=operator)
        else:
            check_booking(request, refund.booking_id, house.settings)
        return _refund(refund)

    @post("/{refund_id:uuid}/cash", summary="Hand a refund out in cash", status_code=200)
    async def hand_out(
        self, house: House, request: Request[Any, Any, Any], refund_id: UUID, data: wire.HandoutBody
    ) -> wire.RefundShape:
        """For staff who may; once: 409 if another clerk has handed it out."""
        staff = await staff_of(request, house)
        handed = await cash.hand_out(house, refund=refund_id, counter=data.counter, staff=staff)
        return _refund(handed.refund)


async def _counter_reference(house: House, payment: Payment) -> str | None:
    """What a traveller who pays in cash says at the counter."""
    if payment.gateway != cash.GATEWAY:
        return None
    async with house.db.reader() as reader:
        return (await booking_reads.by_id(reader, booking=payment.booking_id)).reference


def _payment(view: show.PaymentView) -> wire.PaymentShape:
    payment = view.payment
    return wire.PaymentShape(
        payment_id=payment.id,
        reference=str(payment.id),
        booking_id=payment.booking_id,
        status=view.status,
        amount=payment.amount,
        fee=payment.fee,
        total=payment.total.amount,
        currency=payment.currency,
        gateway=payment.gateway,
        method=payment.method,
        refunded_amount=view.standing.refunded,
        failure_reason=payment.failure_reason if view.status not in {"PENDING", "COMPLETED"} else None,
    )


def _pay_method(way: Way) -> wire.PayMethodShape:
    names: dict[Channel, wire.PayChannel] = {"hosted": "HOSTED", "direct": "DIRECT"}
    return wire.PayMethodShape(
        method=way.method,
        gateway=way.gateway,
        channels=[names[channel] for channel in way.channels],
        phone_prefixes=[text.calling_code(country) for country in sorted(way.countries)],
    )


def _refund(refund: Refund) -> wire.RefundShape:
    statuses: dict[str, Any] = {"succeeded": "COMPLETED", "failed": "FAILED", "needs_attention": "REVIEW"}
    return wire.RefundShape(
        refund_id=refund.id,
        booking_id=refund.booking_id,
        status=statuses.get(refund.state, "PENDING"),
        amount=refund.amount,
        currency=refund.currency,
        reason=refund.reason,
    )


def _which(payment_id: UUID | None, reference: str | None) -> UUID:
    if payment_id is not None:
        return payment_id
    if reference is None:
        raise InvalidInput("paymentId", "Give paymentId or reference.")
    try:
        return UUID(reference)
    except ValueError:
        raise InvalidInput("reference", "This is no reference of a payment of ours.") from None


def _return_url(url: str) -> str:
    if url and (not url.startswith(("https://", "http://")) or " " in url or not url.isprintable()):
        raise InvalidInput("returnUrl", "It must be an http:// or https:// address.")
    return url
