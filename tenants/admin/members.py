"""A tenant's own people, as staff see them: how the first owner gets in, and who is shut out."""

from __future__ import annotations

from uuid import UUID

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from unfold.widgets import UnfoldAdminEmailInputWidget, UnfoldAdminSelectWidget

from chatplatform.api.forms import refuse
from chatplatform.api.problem import Problem
from tenants.admin.pages import Page, Visit
from tenants.models import Membership
from tenants.services import members
from tenants.vocabulary import MemberRole

DEEDS = {
    "again": (members.invite_again, "Sent {} another invitation."),
    "disable": (members.disable, "Shut {} out."),
    "enable": (members.enable, "Let {} in again."),
}


class InviteForm(forms.Form):
    email = forms.CharField(
        label="E-mail address",
        max_length=254,
        widget=UnfoldAdminEmailInputWidget(),
        help_text="A mail with a link goes there.",
    )
    role = forms.ChoiceField(
        choices=MemberRole.choices, initial=MemberRole.OWNER, widget=UnfoldAdminSelectWidget()
    )


def show(visit: Visit) -> HttpResponseBase:
    """The list, and the form for one more."""
    posted = visit.request.method == "POST"
    if posted and not visit.may("change_membership"):
        raise PermissionDenied
    form = InviteForm(visit.request.POST if posted else None)
    if form.is_valid() and _invited(visit, form):
        return visit.go("members")
    return visit.render(
        "admin/tenants/members.html",
        "members",
        form=form,
        members=visit.tenant.memberships.all(),
        may_change=visit.may("change_membership"),
        title=f"Members of {visit.tenant.name}",
    )


def change(visit: Visit, membership_id: UUID, deed: str) -> HttpResponseBase:
    """One of the DEEDS."""
    membership = get_object_or_404(
        Membership.objects.select_related("tenant", "user"), pk=membership_id, tenant=visit.tenant
    )
    work, said = DEEDS[deed]
    try:
        work(membership)
    except Problem as problem:
        messages.error(visit.request, problem.detail)
    else:
        visit.log(said.format(membership.email))
        messages.success(visit.request, said.format(membership.email))
    return visit.go("members")


def _invited(visit: Visit, form: InviteForm) -> bool:
    email, role = form.cleaned_data["email"], form.cleaned_data["role"]
    try:
        members.invite(visit.tenant.ref, email, role, by=visit.user.get_username())
    except Problem as problem:
        refuse(form, problem)
        return False
    visit.log(f"Invited {email} as {role}.")
    messages.success(visit.request, f"The invitation of {email} is on its way.")
    return True


PAGES = (
    Page("members", "members/", show, "view_membership", ("GET", "HEAD", "POST")),
    *(
        Page(
            f"member_{deed}",
            f"members/<uuid:membership_id>/{deed}/",
            lambda visit, membership_id, deed=deed: change(visit, membership_id, deed),
            "change_membership",
            ("POST",),
        )
        for deed in DEEDS
    ),
)
