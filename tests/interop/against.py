"""Runs a client against a fresh server of the real binary, which it finds by ADDRESS and CA_FILE.

    python against.py BINARY COMMAND…
"""

import os
import subprocess
import sys

import server as servers


def main():
    binary, command = sys.argv[1], sys.argv[2:]
    with servers.scratch() as folder, servers.Server(binary, folder) as server:
        server.start()
        environment = {**os.environ, "ADDRESS": server.url, "CA_FILE": str(server.ca)}
        done = subprocess.run(command, env=environment, timeout=120)
        if done.returncode != 0:
            print(server.tail())
        sys.exit(done.returncode)


if __name__ == "__main__":
    main()
