"""Settings are checked before anything starts; `.env.example` names each of them."""

import ast
import inspect
import re
from pathlib import Path

import pytest

from kiti.core import settings
from kiti.core.settings import DEMO_DEFAULTS, BadConfiguration, load

EXAMPLE = Path(__file__).parents[2] / ".env.example"
GOOD = {name: f"{name}-0123456789abcdef" for name in DEMO_DEFAULTS}
# A directory that the desktop's own rules name, not a setting of ours.
NOT_OURS = {"XDG_DATA_HOME"}


def test_the_example_names_exactly_the_variables_that_are_read() -> None:
    variable = re.compile(r"[A-Z]+(_[A-Z]+)+")
    read = {
        node.args[0].value
        for node in ast.walk(ast.parse(inspect.getsource(settings)))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"values.get", "environ.get"}
        if isinstance(node.args[0], ast.Constant) and variable.fullmatch(str(node.args[0].value))
    }
    named = set(re.findall(r"^([A-Z_]+)=", EXAMPLE.read_text(), re.MULTILINE))
    assert named == read - NOT_OURS


def test_the_example_can_be_loaded_once_its_secrets_are_filled_in() -> None:
    written = dict(re.findall(r"^([A-Z_]+)=(.*)$", EXAMPLE.read_text(), re.MULTILINE))
    loaded = load({**written, **GOOD, "HOME": "/nowhere"})
    loaded.check_secrets()
    assert (loaded.demo, loaded.limits, loaded.is_secure) == (False, True, True)


def test_an_empty_environment_means_an_embedded_database_on_loopback() -> None:
    loaded = load({})
    assert loaded.database_url == ""
    assert (loaded.host, loaded.port, loaded.base_url) == ("127.0.0.1", 8000, "http://127.0.0.1:8000")
    assert loaded.flutterwave_base_url == "https://api.flutterwave.com/v3"
    assert loaded.data_dir.name == "kiti"
    assert not loaded.is_secure


def test_an_empty_value_is_the_same_as_none() -> None:
    assert load(dict.fromkeys(["DATABASE_URL", "KITI_PORT", "KITI_BASE_URL", "KITI_LOG_FORMAT"], "")) == load({})


def test_the_demo_brings_its_own_secrets_and_lets_others_stand() -> None:
    demo = load({"KITI_DEMO": "1", "JWT_SECRET": "mine"})
    demo.check_secrets()
    assert demo.jwt_secret == "mine"
    assert demo.job_secret_key == DEMO_DEFAULTS["JOB_SECRET_KEY"]


@pytest.mark.parametrize("name", ["JWT_SECRET", "JOB_SECRET_KEY", "FLUTTERWAVE_SECRET_KEY", "FLUTTERWAVE_WEBHOOK_HASH"])
@pytest.mark.parametrize("value", ["", "changeme", " Secret ", "short", "demo-jwt-secret-not-for-production"])
def test_outside_the_demo_a_missing_or_weak_secret_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(BadConfiguration, match=name):
        load({**GOOD, name: value}).check_secrets()


@pytest.mark.parametrize("missing", ["STRIPE_SECRET_KEY", "STRIPE_WEBHOOK_SECRET"])
def test_stripe_wants_both_of_its_secrets_or_neither(missing: str) -> None:
    with pytest.raises(BadConfiguration, match=missing):
        load({**GOOD, missing: ""}).check_secrets()
    without = load({**GOOD, "STRIPE_SECRET_KEY": "", "STRIPE_WEBHOOK_SECRET": ""})
    without.check_secrets()
    assert not without.takes_stripe


@pytest.mark.parametrize("name", ["STRIPE_SECRET_KEY", "STRIPE_WEBHOOK_SECRET"])
def test_the_demo_s_keys_of_stripe_are_of_no_use_in_production(name: str) -> None:
    with pytest.raises(BadConfiguration, match=name):
        load({**GOOD, name: DEMO_DEFAULTS[name]}).check_secrets()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KITI_PORT", "0"),
        ("KITI_PORT", "65536"),
        ("KITI_PORT", "http"),
        ("KITI_PORT", "-1"),
        ("KITI_WEBHOOK_DAYS", "6"),
        ("KITI_WEBHOOK_DAYS", "3651"),
        ("KITI_WEBHOOK_DAYS", "-7"),
        ("KITI_WEBHOOK_DAYS", "a week"),
        ("KITI_BASE_URL", "ftp://kiti.example"),
        ("KITI_BASE_URL", "kiti.example"),
        ("FLUTTERWAVE_BASE_URL", "api.flutterwave.com/v3"),
        ("STRIPE_API_BASE", "api.stripe.com"),
        ("KITI_LOG_FORMAT", "xml"),
        ("DATABASE_URL", "mysql://localhost/kiti"),
        ("DATABASE_URL", "host=localhost dbname=kiti"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(BadConfiguration, match=name):
        load({name: value})


def test_the_password_of_the_database_is_not_repeated_in_the_refusal() -> None:
    with pytest.raises(BadConfiguration) as refusal:
        load({"DATABASE_URL": "mysql://me:hunter2@localhost/kiti"})
    assert "hunter2" not in str(refusal.value)


V4 = {f"FLUTTERWAVE_V4_{name}": "0123456789abcdef" for name in ("CLIENT_ID", "CLIENT_SECRET", "WEBHOOK_SECRET")}


def test_flutterwave_v4_has_all_of_its_keys_or_none() -> None:
    assert load({}).flutterwave_v4 is None
    whole = load(V4).flutterwave_v4
    assert whole is not None
    assert whole.base_url == "https://f4bexperience.flutterwave.com"
    assert "0123456789abcdef" not in repr(whole)
    for missing in V4:
        with pytest.raises(BadConfiguration, match=missing):
            load({name: value for name, value in V4.items() if name != missing})


def test_the_demo_s_keys_of_v4_are_good_for_a_simulator_only() -> None:
    assert load({"KITI_DEMO": "1"}).flutterwave_v4 is None
    assert load({"KITI_DEMO": "1", "FLUTTERWAVE_V4_BASE_URL": "http://127.0.0.1:9/v4"}).flutterwave_v4 is not None


@pytest.mark.parametrize("name", ["FLUTTERWAVE_V4_CLIENT_SECRET", "FLUTTERWAVE_V4_WEBHOOK_SECRET"])
@pytest.mark.parametrize("value", ["changeme", "short", "demo-client-secret-not-for-production"])
def test_a_weak_secret_of_v4_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(BadConfiguration, match=name):
        load({**GOOD, **V4, name: value}).check_secrets()
