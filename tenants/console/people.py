"""The members of a tenant, to those who may see and change them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django import forms
from django.http.response import HttpResponseBase

from tenants.console.frame import BOTH, Visit, attempt, go, page, posted
from tenants.services import access, members
from tenants.vocabulary import Action, MemberRole

ROLES = {
    MemberRole.OWNER: "Everything. Only owners make somebody an owner, or change one.",
    MemberRole.ADMIN: "Everything but what concerns owners.",
    MemberRole.ANALYST: "Looks at usage, invoices, conversations and the configuration.",
    MemberRole.SUPPORT: "Reads conversations.",
    MemberRole.VIEWER: "Looks at usage.",
}
TAB = "console-members"


class RoleForm(forms.Form):
    """One of the roles that the caller may give."""

    role = forms.ChoiceField(widget=forms.RadioSelect())

    def __init__(self, data: Any, visit: Visit, **more: Any) -> None:
        super().__init__(data, **more)
        given = [one for one in ROLES if one != MemberRole.OWNER or visit.may(Action.MANAGE_OWNERS)]
        self.fields["role"].choices = [(one.value, one.label) for one in given]  # type: ignore[attr-defined]

    def choices(self) -> list[dict[str, Any]]:
        """The roles with what each may do, for the template."""
        return [
            {
                "value": value,
                "label": label,
                "text": ROLES[MemberRole(value)],
                "chosen": self["role"].value() == value,
            }
            for value, label in self.fields["role"].choices  # type: ignore[attr-defined]
        ]


class InviteForm(RoleForm):
    email = forms.CharField(
        label="E-mail address",
        max_length=254,
        widget=forms.EmailInput({"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}),
    )


@page(Action.VIEW_MEMBERS)
def listing(visit: Visit) -> HttpResponseBase:
    """All members."""
    return visit.render(
        "members",
        TAB,
        members=access.access_members(visit.member),
        may_manage=visit.may(Action.MANAGE_MEMBERS),
        may_change_owners=visit.may(Action.MANAGE_OWNERS),
    )


@page(Action.MANAGE_MEMBERS, BOTH)
def invite(visit: Visit) -> HttpResponseBase:
    """Who, and as what."""
    form = InviteForm(posted(visit.request), visit, initial={"role": MemberRole.VIEWER.value})
    if form.is_valid():
        role = access.access_role(visit.member, form.cleaned_data["role"])
        email = form.cleaned_data["email"]
        if attempt(form, lambda: _invite(visit, email, role)):
            return go(TAB, done="invited")
    return visit.render("invite", TAB, form=form)


@page(Action.MANAGE_MEMBERS, BOTH)
def one(visit: Visit, membership_id: UUID) -> HttpResponseBase:
    """One member: another role, or shut out."""
    membership = access.access_member(visit.member, membership_id)
    form = RoleForm(posted(visit.request), visit, initial={"role": membership.role})
    if form.is_valid():
        role = access.access_role(visit.member, form.cleaned_data["role"])
        attempt(form, lambda: members.change_role(membership, role))
        if not form.errors:
            return go(TAB, done="changed")
    return visit.render("member", TAB, membership=membership, form=form)


@page(Action.MANAGE_MEMBERS, ("POST",))
def invite_again(visit: Visit, membership_id: UUID) -> HttpResponseBase:
    membership = access.access_member(visit.member, membership_id)
    members.count_invitation(visit.tenant.ref)
    members.invite_again(membership)
    return go(TAB, done="invited")


@page(Action.MANAGE_MEMBERS, ("POST",))
def disable(visit: Visit, membership_id: UUID) -> HttpResponseBase:
    members.disable(access.access_member(visit.member, membership_id))
    return go(TAB, done="disabled")


@page(Action.MANAGE_MEMBERS, ("POST",))
def reset_factors(visit: Visit, membership_id: UUID) -> HttpResponseBase:
    members.reset_factors(access.access_member(visit.member, membership_id))
    return go(TAB, done="reset-factors")


@page(Action.MANAGE_MEMBERS, ("POST",))
def enable(visit: Visit, membership_id: UUID) -> HttpResponseBase:
    members.enable(access.access_member(visit.member, membership_id))
    return go(TAB, done="enabled")


def _invite(visit: Visit, email: str, role: str) -> bool:
    members.count_invitation(visit.tenant.ref)
    members.invite(visit.tenant.ref, email, role, by=visit.member.email)
    return True
