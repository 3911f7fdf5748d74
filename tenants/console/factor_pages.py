"""The pages on which people show and change their second factors: the same for members and for staff."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any
from uuid import UUID

from django import forms
from django.conf import settings
from django.core import signing
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.safestring import mark_safe

from chatplatform.api.problem import Code, Problem
from tenants.console.frame import attempt, posted
from tenants.services import second_factors
from tenants.services.second_factors import Holder
from tenants.vocabulary import FactorKind

SET_UP_IN = 900  # s from the picture to the first code
NUMERIC = {"autocomplete": "one-time-code", "autocapitalize": "none", "spellcheck": "false"}


class Door(ABC):
    """Somebody in front of these pages, in one browser."""

    def __init__(self, request: HttpRequest, holder: Holder, issuer: str) -> None:
        self.request, self.holder, self.issuer = request, holder, issuer

    @property
    def origin(self) -> str:
        """What a browser says that this page is from."""
        return f"{settings.PUBLIC_SCHEME}://{self.request.get_host()}"

    @abstractmethod
    def keep(self, state: Any) -> None:
        """Keep what a passkey is asked, in place of what was asked before."""

    @abstractmethod
    def take(self) -> Any:
        """What was kept, this once."""

    @abstractmethod
    def proved(self) -> None:
        """A second factor was shown, or added."""

    @abstractmethod
    def may_change(self) -> bool:
        """Whether the person has shown who they are a short while ago, by all that they have."""

    @abstractmethod
    def way_back(self) -> HttpResponse:
        """To where that is shown."""

    @abstractmethod
    def url(self, page: str) -> str:
        """The address of `prove`, `app`, `passkey`, `factors`, or of what was `wanted`."""

    @abstractmethod
    def show(self, template: str, *, status: int = 200, **more: Any) -> HttpResponse:
        """A page in the name of whose console it is."""


class ProofForm(forms.Form):
    """A code, or what a passkey answers."""

    code = forms.CharField(label="Code", max_length=40, required=False, widget=forms.TextInput({**NUMERIC}))
    answer = forms.CharField(max_length=20_000, required=False, widget=forms.HiddenInput())


class NameForm(forms.Form):
    name = forms.CharField(label="What you call it", max_length=60)


class AppForm(NameForm):
    code = forms.CharField(label="The code that it shows", max_length=20, widget=forms.TextInput(NUMERIC))
    secret = forms.CharField(max_length=300, widget=forms.HiddenInput())
    field_order = ("code", "name")


class PasskeyForm(NameForm):
    answer = forms.CharField(max_length=100_000, widget=forms.HiddenInput())


def prove(door: Door) -> HttpResponse:
    """Asks for one; who has none adds one, or need not be here."""
    if not second_factors.has_any(door.holder):
        return HttpResponseRedirect(door.url("factors" if door.holder.needed else "wanted"))
    form = ProofForm(posted(door.request))
    if form.is_valid():
        attempt(form, lambda: _prove(door, **form.cleaned_data))
        if not form.errors:
            door.proved()
            return HttpResponseRedirect(door.url("wanted"))
    asked = second_factors.ask_to_prove(door.holder, door.origin)
    if asked is None:  # with a passkey there is nothing to type, and a telephone would open its keyboard
        form.fields["code"].widget.attrs["autofocus"] = True
    kinds = {one.kind for one in second_factors.listed(door.holder)}
    shown: dict[str, Any] = {"form": form, "options": _kept(door, asked), "has_app": FactorKind.APP in kinds}
    return door.show("second_factor", status=403 if form.errors else 200, **shown)


def listing(door: Door) -> HttpResponse:
    """All of them, and what can be done with each."""
    if not door.may_change():
        return door.way_back()
    there, notice, failed, status = second_factors.listed(door.holder), "", "", 200
    if door.request.method == "POST":
        try:
            if "codes" in door.request.POST and there:
                return _show_codes(door, second_factors.new_codes(door.holder))
            second_factors.remove(door.holder, _id(door.request.POST.get("remove", "")))
            notice = "It is removed, and good no more."
        except Problem as problem:
            failed, status = problem.detail, problem.code.status
        there = second_factors.listed(door.holder)
    codes = [one for one in there if one.kind == FactorKind.CODE]
    shown: dict[str, Any] = {
        "factors": [one for one in there if one not in codes],
        "codes": len(codes),
        "failed": failed,
    }
    return door.show("second_factors", status=status, notice=notice, needed=door.holder.needed, **shown)


def add_app(door: Door) -> HttpResponse:
    """A picture for the app to take in, and the first code that it shows."""

    def add(form: forms.Form) -> Any:
        values = form.cleaned_data
        return second_factors.add_app(
            door.holder, values["name"], _opened(door, values["secret"]), values["code"]
        )

    form = AppForm(posted(door.request), initial={"name": "Phone"})
    return _add(door, form, add, lambda: _of_app(door, form))


def add_passkey(door: Door) -> HttpResponse:
    """A name, and the browser asks for the rest."""

    def add(form: forms.Form) -> Any:
        values = form.cleaned_data
        answer = _json(values["answer"])
        return second_factors.add_passkey(door.holder, values["name"], door.origin, door.take(), answer)

    def shown() -> dict[str, Any]:
        return {"options": _kept(door, second_factors.ask_to_add(door.holder, door.origin))}

    form = PasskeyForm(posted(door.request), initial={"name": "Passkey"})
    return _add(door, form, add, shown, template="add_passkey")


def _add(
    door: Door,
    form: forms.Form,
    add: Callable[[forms.Form], Any],
    shown: Callable[[], dict[str, Any]],
    template: str = "add_app",
) -> HttpResponse:
    if not door.may_change():
        return door.way_back()
    if form.is_valid():
        codes = attempt(form, lambda: add(form))
        if codes is not None:
            door.proved()
            return _show_codes(door, codes) if codes else HttpResponseRedirect(door.url("factors"))
    return door.show(template, form=form, status=403 if form.errors else 200, **shown())


def _show_codes(door: Door, codes: Any) -> HttpResponse:
    return door.show("recovery_codes", codes=codes)


def _prove(door: Door, code: str, answer: str) -> None:
    if answer:
        second_factors.prove_by_passkey(door.holder, door.origin, door.take(), _json(answer))
    else:
        second_factors.prove_by_code(door.holder, code)


def _kept(door: Door, asked: tuple[dict[str, Any], Any] | None) -> dict[str, Any] | None:
    if asked is None:
        return None
    options, state = asked
    door.keep(state)
    return dict(options["publicKey"])


def _of_app(door: Door, form: forms.Form) -> dict[str, Any]:
    """The secret stays the same while codes are tried. It travels with the form, signed for this account."""
    try:
        secret = _opened(door, form.data.get("secret", ""))
    except Problem:
        secret = second_factors.new_secret()
    # Made by the library out of plain numbers.
    picture = mark_safe(second_factors.picture(door.holder, secret, door.issuer))
    groups = " ".join(secret[at : at + 4] for at in range(0, len(secret), 4))
    return {"picture": picture, "secret": groups, "sealed": signing.dumps(secret, salt=salt(door.holder))}


def _opened(door: Door, sealed: str) -> str:
    try:
        return str(signing.loads(sealed, salt=salt(door.holder), max_age=SET_UP_IN))
    except signing.BadSignature as error:
        raise Problem(Code.INVALID_REQUEST, "That took too long. Here is another picture.") from error


def salt(holder: Holder) -> str:
    """What an app's secret is signed with while its picture is looked at."""
    return f"chatplatform.second-factor.{holder.thing}"


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise Problem(Code.NOT_FOUND, "There is no such second factor.") from error
