"""A command comes in as arguments, one JSON line goes out: CPU and wall seconds, peak memory, exit status.

Run as a process of its own by `python -I -S`: Linux counts into a child's peak memory what its parent held
when it was started (fs/exec.c exec_mmap() carries the old high-water mark over), so the one who measures
must itself be small.
"""

import json
import os
import resource
import sys
import time


def measure(command: list[str]) -> dict[str, float | int]:
    """Run one command, its output thrown away, and account for it and its children as wait4(2) does.

    `floor_kib` is this process's own peak: a smaller `peak_kib` cannot be told from it.
    """
    null = os.open(os.devnull, os.O_RDWR)
    redirect = [(os.POSIX_SPAWN_DUP2, null, descriptor) for descriptor in (0, 1, 2)]
    begun = time.monotonic()
    child = os.posix_spawnp(command[0], command, os.environ, file_actions=redirect)
    _, status, usage = os.wait4(child, 0)
    return {
        "wall_s": time.monotonic() - begun,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "peak_kib": usage.ru_maxrss,
        "floor_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "status": os.waitstatus_to_exitcode(status),
    }


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1:])))
