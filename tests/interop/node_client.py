"""The Vault client for Node (node-vault), unmodified, against the real binary.

    python node_client.py BINARY MODULES

MODULES is the folder that `npm ci` has filled from tests/interop/node/package-lock.json.
"""

import os
import pathlib
import subprocess
import sys

import server as servers

CLIENT = pathlib.Path(__file__).parent / "node/client.js"


def main():
    binary, modules = sys.argv[1], pathlib.Path(sys.argv[2]).resolve()
    with servers.scratch() as folder, servers.Server(binary, folder) as server:
        server.start()
        environment = {**os.environ, "NODE_PATH": str(modules), "ADDRESS": server.url, "CA_FILE": str(server.ca)}
        done = subprocess.run(["node", str(CLIENT)], env=environment, timeout=120)
        if done.returncode != 0:
            print(server.tail())
        sys.exit(done.returncode)


if __name__ == "__main__":
    main()
