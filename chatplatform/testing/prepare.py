"""`python -m chatplatform.testing.prepare`: the cast in the database of this DATA_DIR; prints its keys as JSON."""

from __future__ import annotations

import json
import sys

import django

if __name__ == "__main__":
    django.setup()
    from chatplatform.testing import cast

    cast.prepare()
    keys = {slug: cast.key(slug) for slug in cast.NAMES}
    sys.stdout.write(json.dumps({"keys": keys, "platform_key": cast.key(None)}))
