"""Waiting rooms: above a set rate people get a numbered place in line before they may reserve."""
