"""How the API answers, and its OpenAPI document (Django REST framework, drf-spectacular)."""

from __future__ import annotations

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["tenants.auth.authentication.BearerAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["tenants.auth.permissions.HasScope"],
    "DEFAULT_RENDERER_CLASSES": ["chatplatform.api.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["chatplatform.api.parsers.JSONParser"],
    "DEFAULT_SCHEMA_CLASS": "chatplatform.api.schema.Operation",
    "EXCEPTION_HANDLER": "chatplatform.api.problem.handle_exception",
    "UNAUTHENTICATED_USER": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "chatplatform",
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_AUTHENTICATION": [],
    "SERVE_PERMISSIONS": [],
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_NAME_OVERRIDES": {
        "DocumentKind": "billing.vocabulary.DocumentKind",
        "LineKind": "billing.vocabulary.LineKind",
    },
}
