"""The choice of language."""

from typing import Any

from litestar import Request, post
from litestar.response import Redirect

from kiti.core.text import LANGUAGES
from kiti.flows.house import House
from kiti.web.page.language import DEFAULT
from kiti.web.page.render import language_cookie, local_path


@post("/language", status_code=303)
async def choose_language(request: Request[Any, Any, Any], house: House) -> Redirect:
    """Keep a language, and go back to where it was chosen."""
    form = await request.form()
    asked = str(form.get("lang", ""))
    chosen = asked if asked in LANGUAGES else DEFAULT
    back = Redirect(local_path(str(form.get("next", "/"))), status_code=303)
    back.set_cookie(language_cookie(chosen, secure=house.settings.is_secure))
    return back


ROUTES = [choose_language]
