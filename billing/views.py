"""What payment providers call."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from billing.payments import NotTaken, Unsigned
from billing.services import payments
from chatplatform.api.problem import Code, Problem


@csrf_exempt  # the signature is what is checked
@require_POST
def webhook(request: HttpRequest) -> HttpResponse:
    """Takes what the payment provider says. 200: taken, or nothing to us; else the provider says it again later."""
    try:
        payments.hear(request.body, request.headers)
    except Unsigned as error:
        return Problem(Code.MALFORMED, str(error)).response()
    except NotTaken:
        return Problem(
            Code.PROVIDER_UNAVAILABLE, "Say it again later.", headers={"Retry-After": "60"}
        ).response()
    return HttpResponse(status=200)
