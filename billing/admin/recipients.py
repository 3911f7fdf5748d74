"""Who issues invoices, which plan a tenant is on, and to whom its invoices go."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils import timezone
from unfold import widgets
from unfold.admin import ModelAdmin

from billing import plans as in_force
from billing.admin.plans import limits_in_words, usage_in_words
from billing.admin.price_history import dollars
from billing.models import BillingAccount, Issuer, Plan, Subscription
from billing.services import plans
from chatplatform.api.forms import refuse
from chatplatform.api.problem import Problem
from tenants.admin.pages import Page, Visit, add_pages, column
from tenants.vocabulary import Feature


class SubscriptionForm(forms.Form):
    """The plan to be, and from which day on."""

    plan = forms.ModelChoiceField(Plan.objects.none(), widget=widgets.UnfoldAdminSelectWidget())
    starts = forms.DateField(
        label="Starts on (UTC)", widget=widgets.UnfoldAdminTextInputWidget(attrs={"type": "date"})
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["plan"].queryset = Plan.objects.filter(active=True)  # type: ignore[attr-defined]
        self.fields["starts"].widget.attrs["min"] = timezone.now().date().isoformat()


class AccountForm(forms.ModelForm):  # type: ignore[type-arg]
    """To whom a tenant's invoices go."""

    class Meta:
        model = BillingAccount
        fields = ("legal_name", "address", "email", "tax_number", "tax_percent", "issuer", "payment_customer")
        widgets = {
            "legal_name": widgets.UnfoldAdminTextInputWidget(),
            "address": widgets.UnfoldAdminTextareaWidget(attrs={"rows": 4}),
            "email": widgets.UnfoldAdminEmailInputWidget(),
            "tax_number": widgets.UnfoldAdminTextInputWidget(),
            "tax_percent": widgets.UnfoldAdminDecimalFieldWidget(attrs={"step": "any", "min": "0"}),
            "issuer": widgets.UnfoldAdminSelectWidget(),
            "payment_customer": widgets.UnfoldAdminTextInputWidget(),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["issuer"].empty_label = "The usual one"  # type: ignore[attr-defined]


def show(visit: Visit) -> HttpResponseBase:
    """The plan in force and those before and after it, and the invoices' recipient."""
    today = timezone.now().date()
    plan = in_force.plan_on(visit.tenant, today)
    account = BillingAccount.objects.filter(tenant=visit.tenant).select_related("issuer").first()
    return visit.render(
        "admin/billing/tenant.html",
        "billing",
        plan=plan,
        terms=terms_in_words(plan),
        today=today,
        subscription=in_force.subscription_on(visit.tenant.id, today),
        subscriptions=Subscription.objects.filter(tenant=visit.tenant)
        .select_related("plan")
        .order_by("-starts"),
        account=account,
        may_subscribe=visit.may("billing.add_subscription"),
        may_edit_account=visit.may("billing.change_billingaccount"),
        may_see_account=visit.may("billing.view_billingaccount"),
        title=f"Billing of {visit.tenant.name}",
    )


def terms_in_words(plan: Plan) -> dict[str, str]:
    """A plan's terms under their names."""
    return {
        "Fee a month": dollars(plan.monthly_fee),
        "Usage": usage_in_words(plan).capitalize(),
        "Mark-up": f"{plan.markup_percent.normalize():f} %",
        "A minute, at most": limits_in_words(plan).capitalize(),
        "Includes": ", ".join(Feature(one).label for one in plan.features) or "Nothing more",
    }


def subscribe(visit: Visit) -> HttpResponseBase:
    """The form for another plan."""
    form = SubscriptionForm(visit.request.POST or None, initial={"starts": timezone.now().date().isoformat()})
    if form.is_valid():
        plan, starts = form.cleaned_data["plan"], form.cleaned_data["starts"]
        try:
            plans.subscribe(visit.tenant.ref, plan, starts, author=str(visit.user))
        except Problem as problem:
            refuse(form, problem)
        else:
            visit.log(f"Plan {plan} from {starts}.")
            messages.success(visit.request, f"{visit.tenant.name} is on {plan} from {starts:%-d %b %Y}.")
            return visit.go("billing")
    return _form(visit, form, "Change plan", f"Plan of {visit.tenant.name}")


def edit_account(visit: Visit) -> HttpResponseBase:
    """The form for the invoices' recipient."""
    account = BillingAccount.objects.filter(tenant=visit.tenant).first() or BillingAccount(
        tenant=visit.tenant
    )
    form = AccountForm(visit.request.POST or None, instance=account)
    if form.is_valid():
        form.save()
        visit.log("Changed to whom its invoices go.")
        messages.success(visit.request, "Saved. Invoices that are issued from now on say so.")
        return visit.go("billing")
    return _form(visit, form, "Save", f"Who pays for {visit.tenant.name}")


def _form(visit: Visit, form: forms.BaseForm, button: str, title: str) -> HttpResponseBase:
    shown = {"form": form, "button": button, "back": visit.url("billing"), "title": title}
    return visit.render("admin/billing/tenant_form.html", "billing", **shown)


BOTH = ("GET", "HEAD", "POST")
add_pages(
    Page("billing", "billing/", show, "billing.view_subscription"),
    Page("subscribe", "billing/plan/", subscribe, "billing.add_subscription", BOTH),
    Page("account", "billing/account/", edit_account, "billing.change_billingaccount", BOTH),
)


class IssuerForm(forms.ModelForm):  # type: ignore[type-arg]
    """A company, with a format of numbers that works."""

    def clean_number_format(self) -> str:
        given = str(self.cleaned_data["number_format"])
        try:
            shown = {given.format(number=number, year=2026) for number in (1, 2)}
        except (LookupError, ValueError, AttributeError) as error:
            raise forms.ValidationError("Like INV-{year}-{number:06d}.") from error
        if len(shown) < 2:
            raise forms.ValidationError("Put {number} in it: every invoice needs its own.")
        return given


@admin.register(Issuer)
class IssuerAdmin(ModelAdmin):  # type: ignore[misc]
    form = IssuerForm
    list_display = ("name", "number_format", "shown_next", "days_to_pay", "is_default")
    actions = None
    fields = (
        ("name", "is_default"),
        "address",
        "tax_number",
        ("number_format", "days_to_pay"),
        "payment_note",
    )

    def has_delete_permission(self, request: HttpRequest, obj: Issuer | None = None) -> bool:
        return False

    @column(description="Next number")
    def shown_next(self, issuer: Issuer) -> int:
        return issuer.next_number
