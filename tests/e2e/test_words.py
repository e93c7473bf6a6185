"""Three languages: none lacks a word, and each is offered to who wants it."""

import re
from importlib import resources
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po
from tests.house import RunningHouse

import kiti.web

PLACES = re.compile(r"%\(\w+\)s|#")


def wanted() -> set[str | tuple[str, ...]]:
    """Every message that a template or a handler says."""
    found = extract_from_dir(
        Path(kiti.web.__file__).parent,
        method_map=[("**.py", "python"), ("**.html", "jinja2.ext.babel_extract")],
        options_map={"**.html": {"trimmed": "true", "newstyle_gettext": "true", "silent": "false"}},
        keywords={"_": None, "gettext": None, "ngettext": (1, 2), "marked": None},
    )
    return {message for _, _, message, _, _ in found if message}


def catalogue(language: str) -> Catalog:
    source = resources.files("kiti.web").joinpath(f"locale/{language}/LC_MESSAGES/kiti.po")
    with source.open("rb") as file:
        return read_po(file, locale=language)


@pytest.mark.parametrize("language", ["fr", "sw"])
def test_no_message_is_missing_or_left_over(language: str) -> None:
    translated = {message.id: message for message in catalogue(language) if message.id}
    missing = [
        message
        for message in wanted()
        if message not in translated or translated[message].fuzzy or not all(_forms(translated[message].string))
    ]
    assert not missing
    assert not translated.keys() - wanted()


@pytest.mark.parametrize("language", ["fr", "sw"])
def test_translations_have_the_same_places_for_values(language: str) -> None:
    for message in catalogue(language):
        if message.id:
            expected = set(PLACES.findall(_forms(message.id)[-1]))
            *singular, plural = _forms(message.string)
            assert set(PLACES.findall(plural)) == expected, message.id
            # "One thing to correct" needs no number.
            assert all(set(PLACES.findall(form)) <= expected for form in singular), message.id


@pytest.mark.parametrize(
    ("headers", "path", "language", "text"),
    [
        ({}, "/", "en", "Where are you going?"),
        ({"accept-language": "fr-CD,fr;q=0.9,en;q=0.5"}, "/", "fr", "Où allez-vous"),
        ({"accept-language": "sw-TZ"}, "/", "sw", "Unakwenda wapi?"),
        ({"accept-language": "de,sw;q=0.3"}, "/", "sw", "Unakwenda wapi?"),
        ({"accept-language": "fr"}, "/?lang=sw", "sw", "Unakwenda wapi?"),
        ({"accept-language": "sw", "cookie": "kiti_lang=fr"}, "/", "fr", "Où allez-vous"),
    ],
)
async def test_the_language_is_that_of_the_link_the_cookie_or_the_browser(
    house: RunningHouse, headers: dict[str, str], path: str, language: str, text: str
) -> None:
    house.api.cookies.clear()
    answer = await house.api.get(path, headers=headers)
    house.api.cookies.clear()
    assert f'<html lang="{language}">' in answer.text
    assert text in answer.text


async def test_a_chosen_language_is_kept_and_never_leads_to_another_site(house: RunningHouse) -> None:
    headers = {"origin": house.base_url}
    for asked, led in (("/find", "/find"), ("//evil.example", "/"), ("https://evil.example", "/"), ("/\\evil", "/")):
        answer = await house.api.post("/language", data={"lang": "sw", "next": asked}, headers=headers)
        assert answer.status_code == 303
        assert answer.headers["location"] == led
        assert "kiti_lang=sw" in answer.headers["set-cookie"]
    assert "Tafuta tiketi yangu" in (await house.api.get("/find")).text
    house.api.cookies.clear()


def _forms(text: str | tuple[str, ...] | list[str] | None) -> list[str]:
    return [text] if isinstance(text, str) else list(text or ())
