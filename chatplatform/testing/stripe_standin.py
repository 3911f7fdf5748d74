"""A stand-in for Stripe: a real HTTP server that speaks the calls which `billing.payments.stripe` makes.

It keeps what it is given, refuses what Stripe would refuse, answers a repeated idempotency key as the
first time, and signs webhooks with Stripe's own code.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any
from urllib.parse import parse_qsl, urlsplit

Object = dict[str, Any]
BRACKETS = re.compile(r"\[([^\]]*)\]")


class Refused(Exception):
    """An error as Stripe words it."""

    def __init__(self, status: int, kind: str, code: str) -> None:
        super().__init__(code)
        self.status, self.body = status, {"error": {"type": kind, "code": code, "message": code}}


class StripeStandIn:
    """What the server knows, and how a test talks with it."""

    KEY, WEBHOOK_SECRET = "sk_test_standin", "whsec_standin"

    def __init__(self, address: str) -> None:
        self.address = address
        self.customers: dict[str, Object] = {}
        self.invoices: dict[str, Object] = {}
        self.items: dict[str, Object] = {}
        self.payments: list[Object] = []
        self.notes: dict[str, Object] = {}
        self.requests: list[str] = []
        self.fail_next: list[int] = []  # statuses of the next answers
        self.fail_at = (
            ""  # a path, or METHOD path, whose requests fail once they are done: the answer is lost
        )
        self._answered: dict[str, tuple[str, Object]] = {}
        self._numbers = count(1)
        self._lock = threading.Lock()

    # --- What a test does ----------------------------------------------------------------------------------------
    def forget_keys(self) -> None:
        """A day goes by."""
        self._answered.clear()

    def pay(self, invoice_id: str) -> Object:
        """The customer pays."""
        invoice = self.invoices[invoice_id]
        invoice.update(status="paid", amount_paid=invoice["amount_remaining"], amount_remaining=0)
        self.payments.append({"payment_intent": f"pi_{invoice_id}", "invoice": invoice_id})
        return invoice

    def event(self, kind: str, said: Object, event_id: str = "", created: int | None = None) -> bytes:
        """The body of a webhook's request."""
        event = {
            "id": event_id or f"evt_{next(self._numbers)}",
            "object": "event",
            "type": kind,
            "created": created or int(time.time()),
            "data": {"object": said},
        }
        return json.dumps(event).encode()

    def signature(self, body: bytes, at: int | None = None, secret: str = WEBHOOK_SECRET) -> str:
        """The header that Stripe would send with it."""
        from stripe import WebhookSignature

        return str(WebhookSignature.generate_signature_header(body.decode(), secret, at))

    # --- What Stripe does ----------------------------------------------------------------------------------------
    def answer(self, method: str, path: str, params: Object, key: str) -> Object:
        """One call. Raises Refused."""
        with self._lock:
            self.requests.append(f"{method} {path}")
            if self.fail_next:
                raise Refused(self.fail_next.pop(0), "api_error", "standin_failure")
            asked = json.dumps([method, path, params], sort_keys=True)
            if key and key in self._answered:
                before, first_answer = self._answered[key]
                if before != asked:
                    raise Refused(400, "idempotency_error", "idempotency_key_in_use")
                return first_answer
            answer: Object = json.loads(json.dumps(self._do(method, path, params)))
            if key:
                self._answered[key] = (asked, answer)
            if self.fail_at and re.fullmatch(
                self.fail_at, f"{method} {path}" if " " in self.fail_at else path
            ):
                self.fail_at = ""
                raise Refused(500, "api_error", "answer_lost")
            return answer

    def _do(self, method: str, path: str, params: Object) -> Object:
        for wanted, pattern, call in self._calls():
            if method == wanted and (match := re.fullmatch(pattern, path)):
                return call(params, *match.groups())
        raise Refused(404, "invalid_request_error", "url_invalid")

    def _calls(self) -> tuple[tuple[str, str, Callable[..., Object]], ...]:
        return (
            ("POST", "/v1/customers", self._make_customer),
            ("GET", "/v1/invoices", self._list_invoices),
            ("POST", "/v1/invoices", self._make_invoice),
            ("GET", r"/v1/invoices/(\w+)", lambda _, invoice: self._invoice(invoice)),
            ("POST", r"/v1/invoices/(\w+)/finalize", self._finalise),
            ("GET", "/v1/invoiceitems", self._list_items),
            ("POST", "/v1/invoiceitems", self._add_item),
            ("GET", "/v1/invoice_payments", self._list_payments),
            ("GET", "/v1/credit_notes", self._list_notes),
            ("POST", "/v1/credit_notes", self._make_note),
        )

    def _make_customer(self, params: Object) -> Object:
        made = {"id": f"cus_{next(self._numbers)}", "object": "customer", **params}
        self.customers[made["id"]] = made
        return made

    def _make_invoice(self, params: Object) -> Object:
        if params["customer"] not in self.customers:
            raise Refused(400, "invalid_request_error", "resource_missing")
        if int(params["due_date"]) <= time.time():
            raise Refused(400, "invalid_request_error", "parameter_invalid")
        made = {
            "id": f"in_{next(self._numbers)}",
            "object": "invoice",
            "status": "draft",
            "total": 0,
            "amount_due": 0,
            "amount_paid": 0,
            "amount_remaining": 0,
            "hosted_invoice_url": None,
            **params,
        }
        self.invoices[made["id"]] = made
        return made

    def _add_item(self, params: Object) -> Object:
        invoice = self._invoice(params["invoice"])
        if invoice["status"] != "draft":
            raise Refused(400, "invalid_request_error", "invoice_not_editable")
        made = {"id": f"ii_{next(self._numbers)}", "object": "invoiceitem", **params}
        made["amount"] = int(params["amount"])
        self.items[made["id"]] = made
        total = sum(one["amount"] for one in self._items_of(invoice["id"]))
        invoice.update(total=total, amount_due=total, amount_remaining=total)
        return made

    def _finalise(self, params: Object, invoice_id: str) -> Object:
        invoice = self._invoice(invoice_id)
        if invoice["status"] != "draft":
            raise Refused(400, "invalid_request_error", "invoice_already_finalized")
        invoice.update(status="open", hosted_invoice_url=f"https://invoice.stripe.com/i/{invoice_id}")
        return invoice

    def _list_invoices(self, params: Object) -> Object:
        return _list(
            "/v1/invoices", [one for one in self.invoices.values() if one["customer"] == params["customer"]]
        )

    def _list_items(self, params: Object) -> Object:
        return _list("/v1/invoiceitems", self._items_of(params["invoice"]))

    def _list_payments(self, params: Object) -> Object:
        intent = params["payment"]["payment_intent"]
        found = [
            {"id": f"inpay_{intent}", "object": "invoice_payment", "invoice": self._invoice(one["invoice"])}
            for one in self.payments
            if one["payment_intent"] == intent
        ]
        return _list("/v1/invoice_payments", found)

    def _list_notes(self, params: Object) -> Object:
        return _list(
            "/v1/credit_notes", [one for one in self.notes.values() if one["invoice"] == params["invoice"]]
        )

    def _make_note(self, params: Object) -> Object:
        """What is open of the invoice goes down; all that is beyond it has to be said where it goes."""
        invoice = self._invoice(params["invoice"])
        if invoice["status"] not in ("open", "paid"):
            raise Refused(400, "invalid_request_error", "invoice_not_editable")
        total = sum(int(line["unit_amount"]) * int(line["quantity"]) for line in params["lines"].values())
        credited = sum(one["total"] for one in self.notes.values() if one["invoice"] == invoice["id"])
        beyond = max(total - invoice["amount_remaining"], 0)
        if total + credited > invoice["total"] or int(params.get("credit_amount", 0)) != beyond:
            raise Refused(400, "invalid_request_error", "amount_too_large")
        invoice["amount_remaining"] -= total - beyond
        if not invoice["amount_remaining"]:
            invoice["status"] = "paid"
        made = {
            "id": f"cn_{next(self._numbers)}", "object": "credit_note", "status": "issued", "pdf": None, **params,
            "total": total,
        }  # fmt: skip
        self.notes[made["id"]] = made
        return made

    def _invoice(self, invoice_id: str) -> Object:
        if invoice_id not in self.invoices:
            raise Refused(404, "invalid_request_error", "resource_missing")
        return self.invoices[invoice_id]

    def _items_of(self, invoice_id: str) -> list[Object]:
        return [one for one in self.items.values() if one["invoice"] == invoice_id]


def _list(url: str, data: list[Object]) -> Object:
    return {"object": "list", "url": url, "has_more": False, "data": data}


def _nested(pairs: list[tuple[str, str]]) -> Object:
    """`metadata[tenant]=1` as `{"metadata": {"tenant": "1"}}`."""
    result: Object = {}
    for name, value in pairs:
        place, *inner = [name.partition("[")[0], *BRACKETS.findall(name)]
        target = result
        for deeper in inner:
            target = target.setdefault(place, {})
            place = deeper
        target[place] = value
    return result


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    standin: StripeStandIn

    def do_GET(self) -> None:
        self._answer(urlsplit(self.path).query)

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers.get("Content-Length", 0))).decode())

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def _answer(self, sent: str) -> None:
        key = self.headers.get("Idempotency-Key", "")
        params = _nested(parse_qsl(sent, keep_blank_values=True))
        try:
            if self.headers.get("Authorization") != f"Bearer {self.standin.KEY}":
                raise Refused(401, "invalid_request_error", "api_key_invalid")
            status, body = 200, self.standin.answer(self.command, urlsplit(self.path).path, params, key)
        except Refused as refused:
            status, body = refused.status, refused.body
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


@contextmanager
def running_stripe() -> Iterator[StripeStandIn]:
    """The stand-in on a free port."""
    handler = type("Handler", (_Handler,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    handler.standin = StripeStandIn(f"http://127.0.0.1:{server.server_port}")  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield handler.standin  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
