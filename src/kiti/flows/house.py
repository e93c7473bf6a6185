"""What flows need of the world, made once by the composition root and handed down."""

from collections.abc import Mapping

import msgspec

from kiti.core.errors import NotFound
from kiti.core.settings import Settings
from kiti.db import Database
from kiti.db.queue import Queue
from kiti.flows.availability import Availability
from kiti.flows.catalogue import Catalogue
from kiti.flows.commit import Reservations
from kiti.flows.queued import Captures, Extensions, Releases
from kiti.flows.rooms import Rooms
from kiti.gateways.gateway import Gateway
from kiti.gateways.hooks import Caller
from kiti.gateways.mail import Mailer
from kiti.gateways.sms import Texter
from kiti.tickets.signing import SigningKey


class House(msgspec.Struct, frozen=True, kw_only=True):
    """Database, queue, gateways, the key that signs tickets."""

    settings: Settings
    db: Database
    queue: Queue
    catalogue: Catalogue
    availability: Availability
    commits: Reservations
    extensions: Extensions
    releases: Releases
    captures: Captures
    rooms: Rooms
    gateways: Mapping[str, Gateway]
    mailer: Mailer
    texter: Texter
    caller: Caller
    ticket_key: SigningKey

    def gateway(self, name: str) -> Gateway:
        """The gateway of that name; raises NotFound."""
        try:
            return self.gateways[name]
        except KeyError:
            raise NotFound(f"There is no gateway {name!r}; there is {', '.join(self.gateways)}.") from None
