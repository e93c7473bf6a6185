"""Search: where from, where to, when; and the trips that go there."""
