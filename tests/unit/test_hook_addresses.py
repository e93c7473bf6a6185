"""No request into private networks: what a URL may be, and which addresses are anybody's. Each line is an attack."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiti.core.errors import InvalidInput
from kiti.gateways.addresses import objection_to, target_of


@pytest.mark.parametrize(
    ("url", "host", "port", "path", "header"),
    [
        ("https://shop.example.com", "shop.example.com", 443, "/", "shop.example.com"),
        ("https://Shop.Example.COM/a/b?c=d&e=%2F", "shop.example.com", 443, "/a/b?c=d&e=%2F", "shop.example.com"),
        ("https://shop.example.com:8443/x", "shop.example.com", 8443, "/x", "shop.example.com:8443"),
        ("https://shop.example.com?x=1", "shop.example.com", 443, "/?x=1", "shop.example.com"),
        ("https://xn--bcher-kva.example/", "xn--bcher-kva.example", 443, "/", "xn--bcher-kva.example"),
        ("https://a_b.example.com/a@b:c", "a_b.example.com", 443, "/a@b:c", "a_b.example.com"),
    ],
)
def test_an_ordinary_address_is_taken_apart(url: str, host: str, port: int, path: str, header: str) -> None:
    target = target_of(url)
    assert (target.host, target.port, target.path, target.host_header) == (host, port, path, header)


@pytest.mark.parametrize(
    "url",
    [
        "http://shop.example.com/",  # in the clear
        "ftp://shop.example.com/",
        "file:///etc/passwd",
        "gopher://shop.example.com/",
        "//shop.example.com/",
        "HTTPS://shop.example.com/",
        "https:/shop.example.com/",
        "https:shop.example.com",
        "",
        "https://",
        "https:///path",
        # who is the host?
        "https://good.example@evil.example/",
        "https://user:pass@shop.example.com/",
        "https://shop.example.com:443@10.0.0.1/",
        "https://shop.example.com\\@10.0.0.1/",
        "https://shop.example.com#@10.0.0.1/",
        "https://shop.example.com/#fragment",
        "https://shop.example.com\\.evil.example/",
        "https://shop.example.com%2f@10.0.0.1/",
        "https://%31%30.0.0.1/",
        "https://shop.example.com\t/",
        "https://shop.example.com\r\nHost: 10.0.0.1\r\n/",
        "https://shop.example.com/\r\nX: y",
        "https://shop.example.com/ HTTP/1.1",
        " https://shop.example.com/",
        "https://shop.example.com/\n",
        "https://shop.example.com/\x00",
        # ports
        "https://shop.example.com:22/",
        "https://shop.example.com:80/",
        "https://shop.example.com:5432/",
        "https://shop.example.com:0/",
        "https://shop.example.com:65536/",
        "https://shop.example.com:99999999/",
        "https://shop.example.com:/",
        "https://shop.example.com:-1/",
        "https://shop.example.com:443x/",
        "https://shop.example.com:\uff14\uff14\uff13/",  # 443, full width
        # addresses in every spelling
        "https://127.0.0.1/",
        "https://8.8.8.8/",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0x7f.1/",
        "https://127.1/",
        "https://0177.0.0.1/",
        "https://0177.0.0.01/",
        "https://127.0.0.1.:443/",
        "https://1.1/",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[fe80::1%25eth0]/",
        "https://[2606:4700:4700::1111]/",
        "https://\u2460\u2461\u2466.0.0.1/",  # 127, circled
        "https://\uff11\uff12\uff17.0.0.1/",  # 127, full width
        "https://127\u30020\u30020\u30021/",  # ideographic full stops
        # names
        "https://localhost/",
        "https://metadata/",
        "https://shop.example.com./",
        "https://.example.com/",
        "https://shop..example.com/",
        "https://-shop.example.com/",
        "https://shop.example.1/",
        "https://shop.example.0x1/",
        "https://bücher.example/",
        "https://shop.example.com\u200b/",
        f"https://{'a' * 64}.example.com/",
        f"https://{'a.' * 130}com/",
        f"https://shop.example.com/{'a' * 2000}",
    ],
)
def test_an_address_that_can_be_read_in_two_ways_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        target_of(url)
    assert refusal.value.field == "url"


def test_the_demo_speaks_plain_http_but_to_no_other_ports_and_no_addresses() -> None:
    assert target_of("http://shop.example.com/", is_plain_allowed=True).port == 80
    for url in (
        "http://shop.example.com:8000/",
        "http://127.0.0.1/",
        "https://shop.example.com:80/",
        "http://localhost/",
    ):
        with pytest.raises(InvalidInput):
            target_of(url, is_plain_allowed=True)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://127.0.0.1:8123/x", "127.0.0.1"),
        ("http://localhost:1/", "localhost"),
        ("https://[::1]:9/", "::1"),
    ],
)
def test_where_private_networks_are_allowed_addresses_and_ports_are(url: str, host: str) -> None:
    assert target_of(url, is_private_allowed=True).host == host
    assert "[" in url or "[" not in target_of(url, is_private_allowed=True).host_header


@pytest.mark.parametrize("url", ["https://a@127.0.0.1/", "http://0x7f.1/", "http://2130706433/", "ftp://127.0.0.1/"])
def test_tricks_stay_tricks_where_private_networks_are_allowed(url: str) -> None:
    with pytest.raises(InvalidInput):
        target_of(url, is_private_allowed=True)


@given(st.text(max_size=60))
def test_whatever_is_typed_is_a_target_or_refused(typed: str) -> None:
    for url in (typed, f"https://{typed}", f"https://shop.example.com/{typed}"):
        try:
            target = target_of(url)
        except InvalidInput:
            continue
        assert target.host.isascii()
        assert target.path.isascii()
        assert target.path.startswith("/")
        assert not set(target.path) & set("\r\n\t \\#")


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.255", "127.0.0.1",
        "127.255.255.254", "169.254.169.254", "169.254.0.1", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.2.1",
        "192.88.99.1", "192.168.0.1", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1",
        "239.255.255.255", "240.0.0.1", "255.255.255.255",
        "::", "::1", "::127.0.0.1", "::ffff:10.0.0.1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:0:127.0.0.1",
        "64:ff9b::127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b::169.254.169.254", "64:ff9b:1::8.8.8.8", "100::1",
        "2001::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:10::1", "2001:20::1", "2001:db8::1",
        "2002:7f00:1::1", "2002:a00:1::1", "2002:808:808::1", "2606:4700::5efe:10.0.0.1",
        "2606:4700::200:5efe:127.0.0.1", "3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0",
        "febf::1", "fec0::1", "ff02::1", "ff0e::1", "not an address", "", "1.2.3", "127.1", "0x7f000001",
    ],
)  # fmt: skip
def test_an_address_that_is_not_everybodys_is_not_called(address: str) -> None:
    assert objection_to(address) is not None


@pytest.mark.parametrize(
    "address",
    [
        "1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "172.15.255.255",
        "172.32.0.0", "192.167.255.255", "192.169.0.0", "223.255.255.255", "2606:4700:4700::1111",
        "2a00:1450:4001:81b::200e", "64:ff9b::8.8.8.8",
    ],
)  # fmt: skip
def test_a_public_address_is_called(address: str) -> None:
    assert objection_to(address) is None
