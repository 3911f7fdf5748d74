"""How soon a web server notices that nobody is there any more; the same under Daphne and uvicorn.

A WebSocket whose client says nothing gets a ping every `settings.PING_EVERY` seconds.
"""

from __future__ import annotations

import socket

PONG_WITHIN = 0.75  # of the time between two pings; then the connection is dropped
TAKES_NOTHING = 45  # s that a connection may have something to send and get rid of nothing of it
CLOSED_WITHIN = 5.0  # s that a client has to answer a close frame; then the connection is cut


def give_up_on_the_dead(listener: socket.socket) -> None:
    """Let the kernel end connections of a listening socket whose peer has vanished, or never reads.

    Covers plain requests and event streams too, which have no pings. Linux alone can.
    """
    if hasattr(socket, "TCP_USER_TIMEOUT") and listener.family != socket.AF_UNIX:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, TAKES_NOTHING * 1000)
