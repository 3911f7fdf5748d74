"""Bodies and their fields, taken at their word."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rest_framework import serializers
from rest_framework.exceptions import ParseError

from chatplatform.api.fields import Flag, Identifier, Line, Names, Number, Object, Text, Whole
from chatplatform.api.parsers import LARGEST, JSONParser
from chatplatform.api.problem import Code, Problem


def parsed(body: bytes) -> Any:
    return JSONParser().parse(io.BytesIO(body))


def test_it_reads_objects_and_takes_nothing_for_an_empty_one() -> None:
    assert parsed(b'{"a": "\xc3\xa9"}') == {"a": "é"}
    assert parsed(b"") == {}


@pytest.mark.parametrize(
    "body",
    [
        b"{", b"nothing", b"{'a': 1}", b'{"a": NaN}', b'{"a": Infinity}', b'{"a": "\\ud800"}', b'{"a": "\xff"}',
        b'{"a": 1}{"b": 2}', b"\x00", b'{"a": "\x00"}', b"\xef\xbb\xbf{}", b'{"a":' * 100_000,
    ],
)  # fmt: skip
def test_what_is_no_json_is_malformed(body: bytes) -> None:
    with pytest.raises(ParseError):
        parsed(body)


@pytest.mark.parametrize("body", [b"[]", b'"text"', b"1", b"null", b"true"])
def test_json_that_is_no_object_is_well_formed_but_wrong(body: bytes) -> None:
    with pytest.raises(Problem) as caught:
        parsed(body)
    assert caught.value.code is Code.INVALID_REQUEST


def test_a_body_has_a_largest_size() -> None:
    filling = LARGEST - len(b'{"a":""}')
    assert parsed(b'{"a":"%s"}' % (b"x" * filling))
    with pytest.raises(Problem) as caught:
        parsed(b'{"a":"%s"}' % (b"x" * (filling + 1)))
    assert caught.value.code is Code.TOO_LARGE


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (Text(), " kept as it is "),
        (Text(), "\u202eright to left\u202c 👩‍👩‍👧"),
        (Whole(), 5),
        (Number(), 5),
        (Number(), 0.5),
        (Flag(), False),
        (Object(), {"deep": [{"er": None}]}),
        (Object(), {"\\u0000": "six characters: \\u0000"}),
        (Text(), "two\nlines"),
        (Line(), " Zoë’s 👩‍👩‍👧 "),
        (Names(), ["local", "auto"]),
        (Names(), []),
    ],
)
def test_a_field_takes_its_own_type(field: serializers.Field[Any, Any, Any, Any], value: Any) -> None:
    assert field.run_validation(value) == value


REFUSED: list[tuple[serializers.Field[Any, Any, Any, Any], list[Any]]] = [
    (Text(), [5, True, None, [], {}, "", "a\x00b", "\ud800"]),
    (Line(), [5, None, "", "a\x00b", "a\nb", "a\r", "\t", "\x7f", "\x85", "a\u2028b"]),
    (Names(), [5, None, {}, "", [""], [5], [None], "a\x00", ["a\n"], ["x"] * 11, "x" * 201, [["x"]]]),
    (Whole(), ["5", True, 5.0, None, [], {}]),
    (Number(), ["0.5", False, None, [], {}]),
    (Flag(), ["true", 1, 0, None, [], {}, "yes"]),
    (Identifier(), [5, True, None, [], {}, "", "x", 2**100]),
    (
        Object(),
        [[], "x", 1, None, True, {"a": "b\x00"}, {"\x00": 1}, {"a": [{"b": ["\x00"]}]}, {"a": "x" * 16_000}],
    ),
]


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, values in REFUSED for value in values]
)
def test_a_field_refuses_all_others(field: serializers.Field[Any, Any, Any, Any], value: Any) -> None:
    with pytest.raises(serializers.ValidationError):
        field.run_validation(value)


def test_one_name_is_a_list_of_one() -> None:
    assert Names().run_validation("local") == ["local"]
