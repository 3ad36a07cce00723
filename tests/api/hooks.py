"""What the description of the recorder API cannot say in JSON Schema, for schemathesis.

Some rules bind a value to the clock, to another value or to a length in bytes. Where a generated
value is what its schema asks for and would be refused by such a rule, it is changed; what breaks
the schema stays as it is.
"""

import copy
import hashlib
import json
import re
from datetime import datetime, timedelta, timezone
from decimal import Decimal

import schemathesis
from hypothesis import strategies
from schemathesis.core import NOT_SET
from schemathesis.openapi import format as string_format

NDJSON = "application/x-ndjson"
HASH = re.compile(r"[0-9a-fA-F]{64}")
TIME_MEMBERS = ("start_time", "end_time", "created_at", "timestamp", "captured_at")

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
MILLISECOND = timedelta(milliseconds=1)
# Well inside of what the gateway takes for neither too old nor too far ahead of its clock.
EARLIEST = datetime(2000, 1, 3)
LATEST = datetime.now()


@strategies.composite
def date_times(draw):
    """RFC 3339, in its spellings."""
    separator = draw(strategies.sampled_from("Tt"))
    time = draw(strategies.datetimes(EARLIEST, LATEST)).replace(microsecond=0).isoformat(separator)
    fraction = draw(strategies.sampled_from(["", ".5", ".123", ".123456", ".123456789"]))
    return time + fraction + draw(strategies.sampled_from(["Z", "z", "+00:00", "+05:30", "-08:00"]))


string_format("date-time", date_times())


def lines(body):
    """The items of an array are a line each; what is no array is one line."""
    return [json.dumps(line) for line in (body if isinstance(body, list) else [body])]


@schemathesis.serializer(NDJSON)
def ndjson(_context, body):
    return "".join(line + "\n" for line in lines(body)).encode()


@schemathesis.check
def every_line_is_answered(_context, response, case):
    """207 has one result a line that is not blank, in order, and refuses one at least."""
    if response.status_code != 207:
        return
    results = response.json()["results"]
    assert [result["line"] for result in results] == list(range(1, len(lines(case.body)) + 1))
    refused = [result for result in results if "problem" in result]
    assert refused and all(400 <= result["status"] for result in refused)
    accepted = [result for result in results if "problem" not in result]
    assert all(result["status"] == 200 for result in accepted)


@schemathesis.hook
def map_case(_context, case):
    """Has the values of a batch agree with each other and with the clock, and lines mix."""
    schemas = case.operation.schema.raw_schema["components"]["schemas"]
    is_negative = case.meta.generation.mode.is_negative
    if case.media_type == NDJSON and case.body is not NOT_SET and is_negative:
        put_in_company(case, schemas["Envelope"]["example"])
    if case.operation.path == "/v1/batches" and isinstance(case.body, (dict, list)):
        body = copy.deepcopy(case.body)
        for envelope in body if isinstance(body, list) else [body]:
            agree(envelope, schemas)
        if body != case.body:
            case.body = body
    return case


def put_in_company(case, envelope):
    """A line that must be refused comes to stand between others that must not."""
    if len(lines(case.body)) == 1:
        alone = case.body if isinstance(case.body, list) else [case.body]
        case.body = [envelope, *alone, envelope]


def agree(envelope, schemas):
    """Mends an envelope, as far as it is one."""
    if not isinstance(envelope, dict):
        return
    replay = members(envelope.get("replay"))
    user = members(replay.get("user"))
    events, webstates = items(envelope.get("events")), items(envelope.get("webstates"))
    for part in (replay, user, *events, *webstates):
        for name in TIME_MEMBERS:
            bind_to_clock(part, name, schemas["Time"]["oneOf"][1]["minimum"])
    bind_bytes(replay, "initial_url", schemas["Replay"])
    bind_bytes(user, "email", schemas["User"])
    bind_bytes(user, "name", schemas["User"])
    for event in events:
        bind_event_id(event, schemas["Event"])
    for webstate in webstates:
        bind_hash(webstate)


def members(value):
    return value if isinstance(value, dict) else {}


def items(value):
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def bind_to_clock(part, name, minimum):
    """Milliseconds come to lie before now."""
    value = part.get(name)
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value >= minimum:
        latest = (LATEST.astimezone(timezone.utc) - EPOCH) // MILLISECOND
        if value > latest:
            part[name] = minimum + int(value) % (latest - minimum)


def bind_bytes(part, name, schema):
    """A text within its limit of characters comes to be within the same of bytes."""
    text, limit = part.get(name), schema["properties"][name]["maxLength"]
    if isinstance(text, str) and len(text) <= limit < len(text.encode()):
        part[name] = text.encode("ascii", "replace").decode()


def bind_event_id(event, schema):
    """An id of version 7 comes to carry its event's millisecond."""
    event_id, time = event.get("event_id"), milliseconds(event.get("timestamp"))
    pattern = schema["properties"]["event_id"]["pattern"]
    if isinstance(event_id, str) and re.search(pattern, event_id) and time is not None:
        digits = f"{time:012x}"
        event["event_id"] = f"{digits[:8]}-{digits[8:]}{event_id[13:]}"


def milliseconds(time):
    """A time as whole milliseconds since 1970; None of what is no time that the gateway takes."""
    if isinstance(time, (int, float)) and not isinstance(time, bool) and 0 <= time < 2**47:
        return int(Decimal(repr(time)))
    try:
        return (datetime.fromisoformat(time.upper()) - EPOCH) // MILLISECOND
    except (AttributeError, TypeError, ValueError):
        return None


def bind_hash(webstate):
    """A hash comes to be its content's."""
    html_hash, content = webstate.get("html_hash"), webstate.get("html_content")
    if isinstance(html_hash, str) and HASH.fullmatch(html_hash) and isinstance(content, str):
        webstate["html_hash"] = hashlib.sha256(content.encode()).hexdigest()
