"""Rate limits: how many requests and tokens may pass in a minute, at several levels at once."""

from chatplatform.ratelimit.limiter import Limiter, Script, Unavailable
from chatplatform.ratelimit.types import Decision, Level, Refusal, Standing, Unit

__all__ = ["Decision", "Level", "Limiter", "Refusal", "Script", "Standing", "Unavailable", "Unit"]
