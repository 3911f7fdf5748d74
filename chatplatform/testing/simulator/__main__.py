"""``python -m chatplatform.testing.simulator --port N``"""

from __future__ import annotations

import argparse
import functools
import sys

from .cli import add_arguments, run

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A provider simulator: OpenAI and Anthropic over real HTTP.")
    add_arguments(parser)
    sys.exit(run(parser.parse_args(), functools.partial(print, flush=True)))
