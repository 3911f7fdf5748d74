"""Staff accounts and their groups. Only superusers hand out power."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, Permission
from django.db.models import Case, Q, QuerySet, When
from django.http import HttpRequest
from unfold.admin import ModelAdmin
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget

from tenants.admin.pages import column
from tenants.models import User

admin.site.unregister(Group)
POWER = ("is_staff", "is_superuser", "groups")
# Every permission that the console asks for; Django has hundreds more, which open nothing.
PERMISSIONS = {
    "tenants.view_tenant": "See tenants",
    "tenants.add_tenant": "Create tenants, and try a failed provisioning again",
    "tenants.change_tenant": "Rename, suspend and resume tenants",
    "tenants.view_configurationversion": "See configurations and their history",
    "tenants.add_configurationversion": "Change configurations",
    "tenants.add_domain": "Add domains",
    "tenants.delete_domain": "Remove domains",
    "billing.view_issueddocument": "See invoices and credit notes; each look is logged",
    "billing.add_issueddocument": "Issue invoices and credit notes",
    "billing.change_issueddocument": "Send invoices to the payment provider, and write down payments",
    "tenants.view_membership": "See tenants’ members",
    "tenants.change_membership": "Invite and disable tenants’ members",
    "billing.view_ledgerentry": "See what tenants spend, and their ledgers",
    "billing.view_modelprice": "See prices and their history",
    "billing.add_modelprice": "Set prices",
    "billing.view_plan": "See plans",
    "billing.add_plan": "Make plans",
    "billing.change_plan": "Change plans",
    "billing.view_subscription": "See which plans tenants are on",
    "billing.add_subscription": "Put tenants on plans",
    "billing.view_billingaccount": "See to whom tenants’ invoices go",
    "billing.change_billingaccount": "Change to whom tenants’ invoices go",
    "billing.view_issuer": "See the companies that issue invoices",
    "billing.add_issuer": "Add companies that issue invoices",
    "billing.change_issuer": "Change the companies that issue invoices",
    "billing.delete_hold": "Give back what died while it was held",
    "tenants.view_apikey": "See API keys (never the key itself)",
    "tenants.add_apikey": "Make API keys for tenants",
    "tenants.change_apikey": "Revoke API keys",
    "tenants.view_tokenissuer": "See whose tokens tenants trust",
    "tenants.add_tokenissuer": "Register whose tokens a tenant trusts",
    "tenants.delete_tokenissuer": "Remove whose tokens a tenant trusts",
    "tenants.view_signingkey": "See the platform’s signing keys (never the private part)",
    "tenants.view_isolationreport": "See the reports of the isolation check",
    "conversations.view_conversation": "Look into tenants’ conversations; each look is logged",
    "tenants.delete_contact": "Erase end users, with all that was said with them",
    "conversations.view_work": "See the replies in progress on the dashboard",
    "tenants.view_user": "See staff accounts",
    "tenants.add_user": "Create staff accounts",
    "tenants.change_user": "Change staff accounts, but not what they may do",
    "tenants.delete_user": "Delete staff accounts",
    "auth.view_group": "See groups",
    "tenants.view_auditentry": "See and export the audit log",
}


class PermissionsField(forms.ModelMultipleChoiceField):  # type: ignore[type-arg]
    """The permissions above, in words."""

    def __init__(self) -> None:
        super().__init__(
            Permission.objects.none(), required=False, widget=UnfoldAdminCheckboxSelectMultipleWidget()
        )

    def choose_from_known(self) -> None:
        """Ask the database for them; not at import, when there may be none yet."""
        names = [name.split(".") for name in PERMISSIONS]
        known = [Q(content_type__app_label=app, codename=codename) for app, codename in names]
        order = Case(*(When(one, then=place) for place, one in enumerate(known)))
        permissions = Permission.objects.filter(reduce(or_, known)).select_related("content_type")
        self.queryset = permissions.order_by(order)

    def label_from_instance(self, obj: Any) -> str:
        return PERMISSIONS[f"{obj.content_type.app_label}.{obj.codename}"]


class GroupForm(forms.ModelForm):  # type: ignore[type-arg]
    """A name, and what its members may do."""

    permissions = PermissionsField()

    class Meta:
        model = Group
        fields = ("name", "permissions")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        permissions = self.fields.get("permissions")
        if isinstance(permissions, PermissionsField):
            permissions.choose_from_known()


@admin.register(User)
class UserAdmin(DjangoUserAdmin, ModelAdmin):  # type: ignore[misc, type-arg]
    """Without this guard, whoever may change users could make themselves a superuser, or take over one."""

    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("shown_name", "email", "shown_role", "is_active", "last_login")
    list_filter = ("is_active", "is_staff", "is_superuser", "groups")
    filter_horizontal = ()
    actions = None
    fieldsets = (
        (None, {"fields": ("username", "password")}),
        ("Person", {"fields": (("first_name", "last_name"), "email")}),
        ("Access", {"fields": ("is_active", *POWER)}),
        ("Dates", {"fields": (("last_login", "date_joined"),)}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        """Ours only: accounts of tenants' members belong to their memberships."""
        users: QuerySet[User] = super().get_queryset(request).filter(membership=None)
        return users

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "groups":
            kwargs["widget"] = UnfoldAdminCheckboxSelectMultipleWidget()
        field = super().formfield_for_manytomany(db_field, request, **kwargs)
        if field is not None:
            field.help_text = "What the account may do is what its groups may do."
        return field

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> tuple[str, ...]:
        fixed = ("last_login", "date_joined")
        return fixed if _is_superuser(request) else (*fixed, *POWER)

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return super().has_change_permission(request, obj) and _may_touch(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return super().has_delete_permission(request, obj) and _may_touch(request, obj)

    @column(description="Person", header=True, ordering="username")
    def shown_name(self, user: User) -> list[str]:
        return [user.username, user.get_full_name()]

    @column(description="Role", label={"superuser": "primary", "staff": "info", "no access": "warning"})
    def shown_role(self, user: User) -> str:
        if not user.is_active or not user.is_staff:
            return "no access"
        return "superuser" if user.is_superuser else "staff"


@admin.register(Group)
class GroupAdmin(DjangoGroupAdmin, ModelAdmin):  # type: ignore[misc]
    """What a group may do, its members may do: changing one is handing out power."""

    form = GroupForm
    filter_horizontal = ()
    actions = None

    def has_add_permission(self, request: HttpRequest) -> bool:
        return _is_superuser(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _is_superuser(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _is_superuser(request)


def _is_superuser(request: HttpRequest) -> bool:
    return bool(request.user.is_active and getattr(request.user, "is_superuser", False))


def _may_touch(request: HttpRequest, user: User | None) -> bool:
    return user is None or not user.is_superuser or _is_superuser(request)
