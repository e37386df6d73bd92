import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest
from jinja2 import UndefinedError

from twofold.pages.html import ENVIRONMENT, LIVE, REPORT, data_uri, render

EVIL = "</script><script>alert('x')</script><!--\"><img src=x onerror=alert(1)>&amp;"


class Seen(HTMLParser):
    """The tags, attributes and text that a browser would see."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.tags, self.attributes, self.words = [], [], []
        self.feed(document)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.words.append(data)


def test_text_is_inert_between_tags_and_in_attributes():
    seen = Seen(ENVIRONMENT.from_string('<p title="{{ evil }}">{{ evil }}</p>').render(evil=EVIL))
    assert seen.tags == ["p"]
    assert seen.attributes == [("title", EVIL)]
    assert "".join(seen.words) == EVIL


def test_json_in_a_script_comes_back_as_it_was_and_cannot_be_ended():
    data = {EVIL: [EVIL, None, 1.5, "\u2028"]}
    body = ENVIRONMENT.from_string("{{ data|tojson }}").render(data=data)
    assert "<" not in body
    assert json.loads(body) == data


def test_a_value_that_a_template_lacks_is_an_error():
    with pytest.raises(UndefinedError, match="'titel' is undefined"):
        ENVIRONMENT.from_string("{{ titel }}").render(title="x")


def test_names_in_tables_and_headings_are_escaped():
    parts = ENVIRONMENT.get_template("parts.html").module
    seen = Seen(parts.folding(EVIL, [(EVIL, EVIL)]))
    assert not {"script", "img"} & set(seen.tags)
    assert "".join(seen.words).count(EVIL) == 3


def test_data_uri_holds_the_bytes():
    head, _, tail = data_uri(b"\x00\xff", "png").partition(",")
    assert head == "data:image/png;base64"
    assert base64.b64decode(tail) == b"\x00\xff"


def message_page(title, live=False):
    return render("message.html", LIVE if live else REPORT, root="./", title=title, message=title)


@pytest.mark.parametrize("live", [False, True])
def test_the_policy_allows_the_page_its_own_script_and_no_other(live):
    document = message_page(EVIL, live=live)
    (script,) = re.findall(r"<script>(.*?)</script>", document, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in document
    assert "default-src 'none'" in document
    assert ("connect-src 'self'" in document) == live


def test_a_page_needs_nothing_from_elsewhere():
    document = message_page("title")
    addresses = re.findall(r"https?://[^\s\"'`]+", document)
    assert set(addresses) <= {"http://www.w3.org/2000/svg"}  # a name, never fetched
    assert not re.search(r"@import|@font-face|\ssrc=", document)
    assert re.findall(r'<link [^>]*href="(data:[^,]*)', document) == ["data:image/svg+xml"]
    assert document.count("<link") == 1
