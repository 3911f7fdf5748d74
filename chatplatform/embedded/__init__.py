"""The PostgreSQL and Valkey of `make run`: real servers out of wheels, with all their state under DATA_DIR.

`locations` says where everything is and starts nothing, so that settings can use it; `ensure` makes the
servers be there. docs/embedded.md tells who owns them, and what happens when something is killed.
"""

from chatplatform.embedded.paths import Locations, locations
from chatplatform.embedded.servers import Failed, Servers, ensure

__all__ = ["Failed", "Locations", "Servers", "ensure", "locations"]
