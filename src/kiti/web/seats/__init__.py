"""The seat map: what is free, what I chose, what somebody else was quicker with."""
