"""Ends servers that outlived their owner. Called only while this process owns DATA_DIR."""

from __future__ import annotations

import signal
from pathlib import Path

import psutil

PATIENCE = 5.0


def stop_leftovers(program: str, directory: Path) -> None:
    """End every process of this program that works in this directory. Blocks up to 10 s.

    That it is ours is read off the process itself (its name, and its working directory or arguments), never
    off a pid file alone: the number may belong to somebody else by now.
    """
    running = psutil.process_iter(["name", "cmdline", "cwd"])
    found = [process for process in running if _is_ours(process, program, directory)]
    for process in found:
        _signal(process, _polite_signal(process))
    _, stubborn = psutil.wait_procs(found, PATIENCE)
    for process in stubborn:
        _signal(process, signal.SIGKILL)
    psutil.wait_procs(stubborn, PATIENCE)


def _is_ours(process: psutil.Process, program: str, directory: Path) -> bool:
    info = process.info
    if info["name"] != program:
        return False
    # Either can be hidden: the directory in a container, the arguments once a process retitles itself.
    return info["cwd"] == str(directory) or str(directory) in (info["cmdline"] or [])


def _polite_signal(process: psutil.Process) -> signal.Signals:
    # To the postmaster SIGTERM means "when all clients have left"; its orphans know it as "leave".
    is_postmaster = "-D" in (process.info["cmdline"] or [])
    return signal.SIGINT if is_postmaster else signal.SIGTERM


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        pass
