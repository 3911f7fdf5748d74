"""How a tenant's members sign in, for its owners: second factors, and the providers."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django import forms
from django.conf import settings
from django.http.response import HttpResponseBase
from django.urls import reverse

from tenants import selectors
from tenants.console.frame import BOTH, Visit, attempt, go, page, posted
from tenants.selectors import TenantState
from tenants.services import access, sign_in_providers
from tenants.vocabulary import Action, MemberRole

TAB = "console-sign-in-settings"
PLAIN = {"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}
ROLES = [(one.value, one.label) for one in MemberRole if one != MemberRole.OWNER]


class ProviderForm(forms.Form):
    """A provider, as its owner knows it."""

    name = forms.CharField(max_length=60, help_text="What members see: “Sign in with …”.")
    issuer = forms.CharField(
        max_length=300,
        widget=forms.TextInput({**PLAIN, "inputmode": "url", "placeholder": "https://login.example.com"}),
        help_text="Exactly as the provider writes it. Its configuration is read from there at once.",
    )
    client_id = forms.CharField(label="Client id", max_length=300, widget=forms.TextInput(PLAIN))
    client_secret = forms.CharField(
        label="Client secret",
        max_length=1000,
        required=False,
        strip=False,
        widget=forms.PasswordInput({"autocomplete": "off"}),
        help_text="Kept sealed and shown to nobody. A public client has none.",
    )
    admitted = forms.CharField(
        label="Who may join without an invitation",
        max_length=20_000,
        required=False,
        widget=forms.Textarea({**PLAIN, "rows": 4, "placeholder": "@example.com"}),
        help_text="Addresses, or all of a domain, one a line. The provider has to say that the address is verified.",
    )
    role = forms.ChoiceField(label="What they are then", choices=ROLES, initial=MemberRole.VIEWER)
    asks_second_factor = forms.BooleanField(
        label="It asks for a second factor itself",
        required=False,
        help_text="Then nobody who comes from there is asked for one here.",
    )


class ChangeProviderForm(ProviderForm):
    """All but the issuer, which the members' accounts are bound to."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        del self.fields["issuer"]
        self.fields["client_secret"].help_text = "Left empty, it stays as it is."


@page(Action.MANAGE_SIGN_IN, BOTH)
def overview(visit: Visit) -> HttpResponseBase:
    """The providers, and whether a second factor is needed."""
    if visit.request.method == "POST":
        sign_in_providers.need_second_factor(visit.tenant.ref, "needed" in visit.request.POST)
        return go(TAB, done="sign-in")
    return visit.render(
        "sign_in_settings",
        TAB,
        providers=access.access_providers(visit.member),
        needed=sign_in_providers.needs_second_factor(visit.tenant.ref),
    )


@page(Action.MANAGE_SIGN_IN, BOTH)
def add(visit: Visit) -> HttpResponseBase:
    """One more provider."""
    form = ProviderForm(posted(visit.request))
    if form.is_valid():
        made = attempt(form, lambda: sign_in_providers.save(visit.tenant.ref, **form.cleaned_data))
        if made is not None:
            return go("console-provider", made.pk, done="provider")
    return visit.render("provider", TAB, form=form)


@page(Action.MANAGE_SIGN_IN, BOTH)
def one(visit: Visit, provider_id: UUID) -> HttpResponseBase:
    """One provider: where it sends people back to, and what can be changed."""
    provider = access.access_provider(visit.member, provider_id)
    initial = {name: getattr(provider, name) for name in ("name", "client_id", "role", "asks_second_factor")}
    form = ChangeProviderForm(
        posted(visit.request), initial={**initial, "admitted": "\n".join(provider.admitted)}
    )
    if form.is_valid():
        values = {**form.cleaned_data, "issuer": provider.issuer, "provider": provider}
        if attempt(form, lambda: sign_in_providers.save(visit.tenant.ref, **values)):
            return go(TAB, done="sign-in")
    return visit.render(
        "provider", TAB, form=form, provider=provider, addresses=addresses(visit.tenant, provider_id)
    )


@page(Action.MANAGE_SIGN_IN, ("POST",))
def remove(visit: Visit, provider_id: UUID) -> HttpResponseBase:
    sign_in_providers.remove(access.access_provider(visit.member, provider_id))
    return go(TAB, done="sign-in")


def addresses(tenant: TenantState, provider_id: UUID) -> list[str]:
    """Where the provider may send browsers back to: one address for each of the tenant's hosts."""
    path = reverse("console-provider-answer", settings.ROOT_URLCONF, [provider_id])
    platform = selectors.page_url(tenant.ref.slug).rstrip("/")
    port = platform.rpartition(f".{settings.PLATFORM_DOMAIN}")[2]
    hosts = selectors.hosts_of(tenant)
    return sorted(f"{settings.PUBLIC_SCHEME}://{host}{port}{path}" for host in hosts)
