"""A provider that is not there: a real HTTP server speaking OpenAI's and Anthropic's protocols.

For tests and benchmarks, through the real SDKs. See ``settings`` for everything that can be set,
``running_simulator`` to start one inside a test, ``python -m chatplatform.testing.simulator`` for a process.
"""

from .answers import signed
from .runner import Simulator, running_simulator, simulator_process
from .settings import Fault, Settings

__all__ = ["Fault", "Settings", "Simulator", "running_simulator", "signed", "simulator_process"]
