"""Kills the first run of `kista up` at random moments, and starts it again: what comes is a vault that works.

    python first_run.py BINARY [KILLS] [SEED]
"""

import random
import signal
import subprocess
import sys
import time

import first_minute
import server as servers

LONGEST_SECONDS = 0.8


def begin(home, seconds):
    """Starts a first run and kills it after some time, whatever it is doing."""
    with open(home.folder / "up.log", "ab") as log:
        process = subprocess.Popen([home.binary, "up", "--listen", home.listen], env=home.environment,
                                   stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                   preexec_fn=servers.die_with_parent)
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    process.wait()


def works(home):
    """The next run serves, opens by its own keyfile, takes a secret and gives it back."""
    home.start()
    home.ok("put", "secret/app", "a=-", text="kept")
    assert home.ok("get", "secret/app", "-k", "a") == "kept"
    status = home.ok("operator", "slot", "ls")
    assert "keyfile" in status and "shares" in status, status
    assert (home.folder / ".config/kista/recovery-kit.txt").stat().st_mode & 0o777 == 0o600
    assert home.stop(signal.SIGTERM) == 0


def main():
    binary, kills = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 50
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else time.time_ns()
    print(f"seed {seed}", flush=True)
    chance = random.Random(seed)
    for done in range(kills):
        seconds = [chance.uniform(0, LONGEST_SECONDS) for _ in range(chance.randint(1, 3))]
        with servers.scratch() as folder, first_minute.Home(binary, folder) as home:
            for each in seconds:
                begin(home, each)
            try:
                works(home)
            except Exception:
                print(f"FAILED after kills at {seconds} s\n{home.said()}\n{done} passed, 1 failed", flush=True)
                raise
    print(f"{kills} passed, 0 failed")


if __name__ == "__main__":
    main()
