"""Doorway: pages for travellers."""

from litestar.config.app import AppConfig

from kiti.core.settings import Settings


def create_web(settings: Settings) -> AppConfig:
    """Handlers, templates and middleware of the pages."""
    del settings
    return AppConfig()
