"""What `kista run` adds to the start of a program: a real server on loopback, a new process each time.

    python start.py BINARY [ROUNDS]
"""

import resource
import statistics
import subprocess
import sys
import time

import first_minute
import server as servers


def cost(command, environment, rounds):
    """Milliseconds for each start: least and median on the clock, and the processor's on average."""
    def used():
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return children.ru_utime + children.ru_stime

    taken, before = [], used()
    for _ in range(rounds):
        begun = time.perf_counter()
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        taken.append((time.perf_counter() - begun) * 1000)
    return min(taken), statistics.median(taken), (used() - before) * 1000 / rounds


def main():
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 60
    with servers.scratch() as folder, first_minute.Home(sys.argv[1], folder) as home:
        home.start()
        home.ok("put", "secret/app/db", "url=env:V", "password=env:V", V="x")
        run = [home.binary, "run", "-e", "secret/app/db"]
        true = ["/bin/true"]
        for label, command in [
            ("true", true),
            ("kista --version", [home.binary, "--version"]),
            ("kista run -- true", run + ["--"] + true),
            ("kista run --offline fallback -- true", run + ["--offline", "fallback", "--"] + true),
            ("kista run --offline only -- true", run + ["--offline", "only", "--"] + true),
        ]:
            least, median, processor = cost(command, home.environment, rounds)
            print(f"{label:38} least {least:6.1f} ms  median {median:6.1f} ms  processor {processor:6.1f} ms")


if __name__ == "__main__":
    main()
