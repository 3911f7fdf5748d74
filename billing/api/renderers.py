"""Tables over REST."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rest_framework import renderers

from chatplatform.api.renderers import JSONRenderer


class CsvRenderer(renderers.BaseRenderer):
    """Text that is CSV already. A problem stays JSON, as its content type says."""

    media_type = "text/csv"
    format = "csv"
    charset = "utf-8"

    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Mapping[str, Any] | None = None,
    ) -> bytes:
        return data.encode() if isinstance(data, str) else JSONRenderer().render(data)
