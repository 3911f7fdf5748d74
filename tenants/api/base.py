"""What all API views share: the tenant's context around the handler, and idempotency."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from django.core.exceptions import SynchronousOnlyOperation
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from chatplatform import jobs, tenancy
from chatplatform.api.problem import Code, Problem
from chatplatform.observability.context import acting
from tenants.api import idempotency
from tenants.auth.awaiting import with_keys, with_keys_async
from tenants.auth.principal import Principal
from tenants.vocabulary import Scope


class ScopedView(APIView):
    """A view with a required scope. `platform_wide` views run on the control plane instead of inside a tenant.

    End users are let in, with a token or a visitor's cookie, where it is `for_contacts`.
    """

    required_scope: str = Scope.CHAT
    for_contacts = False
    # By method, for the OpenAPI document: statuses of errors that other calls do not answer.
    more_errors: Mapping[str, Sequence[int]] = {}
    platform_wide = False

    @property
    def principal(self) -> Principal:
        """Who is calling; permissions have been checked."""
        user: Any = self.request.user
        principal: Principal = user
        return principal

    @contextmanager
    def scope(self) -> Iterator[None]:
        """The context that the handler runs in: whose, and who acts. Raises Problem `tenant_required`."""
        principal = self.principal
        if not self.platform_wide and principal.tenant is None:
            raise Problem(Code.TENANT_REQUIRED, "A platform key names its tenant in X-Tenant-ID.")
        here = (
            tenancy.in_platform()
            if self.platform_wide or principal.tenant is None
            else tenancy.in_tenant(principal.tenant.ref)
        )
        with here, acting(lambda: principal.actor):
            yield


class ApiView(ScopedView):
    """An ordinary, synchronous view. POSTs honour Idempotency-Key unless `idempotent` is off."""

    idempotent = True

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        with ExitStack() as self._stack:
            return super().dispatch(request, *args, **kwargs)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        with_keys(lambda: super(ApiView, self).initial(request, *args, **kwargs))
        self._stack.enter_context(self.scope())
        if request.method == "POST" and self.idempotent and "Idempotency-Key" in request.headers:
            # The dispatcher looks the handler up after this: for this one request it finds the guarded one.
            self.__dict__["post"] = partial(self._once, getattr(self, "post"))  # noqa: B009 - views define it

    def _once(
        self, handler: Callable[..., Response], request: Request, *args: Any, **kwargs: Any
    ) -> Response:
        # In one transaction: a process that dies on the way leaves no key behind that nobody will ever answer.
        with transaction.atomic():
            record, answer = idempotency.begin(self.principal, request, shared=self.platform_wide)
            if answer is not None:
                return answer
            return idempotency.keep(record, lambda: handler(request, *args, **kwargs), self.handle_exception)


class AsyncApiView(ScopedView):
    """A view that waits for a reply without holding a thread. Django REST framework itself has no such view."""

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Any:
        view: Any = super().as_view(**initkwargs)

        async def asynchronous(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            response: HttpResponseBase = await view(request, *args, **kwargs)
            return response

        asynchronous.csrf_exempt = True  # type: ignore[attr-defined]
        asynchronous.cls, asynchronous.initkwargs = cls, initkwargs  # type: ignore[attr-defined]
        asynchronous.view_class = cls  # type: ignore[attr-defined]
        return asynchronous

    def initialize_request(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Request:
        wrapped = super().initialize_request(request, *args, **kwargs)
        # What is asked for again and again: the framework's request would first look for it in itself, each time.
        vars(wrapped).update(method=request.method, META=request.META)
        return wrapped

    async def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:  # type: ignore[override]
        self.args, self.kwargs = args, kwargs
        wrapped = self.initialize_request(request, *args, **kwargs)
        self.request, self.headers = wrapped, self.default_response_headers
        response: Any
        try:
            await with_keys_async(lambda: self._admit(wrapped, *args, **kwargs))
            handler: Any = getattr(self, str(wrapped.method).lower(), None)
            if handler is None or wrapped.method not in self.allowed_methods:
                self.http_method_not_allowed(wrapped)
            with self.scope():
                response = handler(wrapped, *args, **kwargs)
                if inspect.isawaitable(response):  # OPTIONS is answered by the framework, synchronously
                    response = await response
        except Exception as error:
            response = self.handle_exception(error)
        answer = _rendered(self.finalize_response(wrapped, response, *args, **kwargs))
        # View and request hold each other. Python's collector would have to find them, with 40 objects a request.
        wrapped.parser_context.clear()
        vars(self).pop("head", None)
        return answer

    def perform_content_negotiation(self, request: Request, force: bool = False) -> Any:
        """As the framework's, which goes a long way round for those who take anything: most."""
        accept, first = request.META.get("HTTP_ACCEPT", "*/*"), self.renderer_classes[0]
        if accept in ("*/*", first.media_type) and not request.META.get("QUERY_STRING"):
            return first(), first.media_type
        return super().perform_content_negotiation(request, force)

    async def _admit(self, request: Request, *args: Any, **kwargs: Any) -> None:
        try:
            self.initial(request, *args, **kwargs)
        except SynchronousOnlyOperation:
            # This process does not know the caller, or not any more, and Django keeps event loops off the database.
            await jobs.in_thread(self.initial, request, *args, **kwargs)


def _rendered(response: HttpResponseBase) -> HttpResponseBase:
    """The response as one of Django's own, which starts a thread to render any other."""
    if not isinstance(response, Response):
        return response
    response.render()
    rendered: Any = response
    rendered.renderer_context.clear()  # which has the response itself
    return HttpResponse(response.content, status=response.status_code, headers=response.headers)
