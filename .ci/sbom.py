"""Writes what a release binary is made of, as CycloneDX 1.5, and holds it against the binary.

    python3 .ci/sbom.py BINARY FILE

Crates whose code is in the binary have the scope "required"; those that only ran while it was built
(build scripts, procedural macros and what they use) have "excluded". Sums are those of Cargo.lock. One
commit and one toolchain give one file: no time and no name of a machine is in it.
"""

import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tomllib
import uuid

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGE = "kista-cli"


def output(*command):
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def toolchain():
    """What `rustc -vV` says, line by line, and what compiles C."""
    lines = output("rustc", "--version", "--verbose").splitlines()
    told = dict(line.split(": ", 1) for line in lines if ": " in line)
    told["cc"] = output(os.environ.get("CC", "cc"), "--version").splitlines()[0]
    return told


def tree(edges, target):
    """The crates that the package needs by such edges: (name, version) to (licence, what it needs)."""
    found = {}
    above = []
    for line in output("cargo", "tree", "--locked", "--package", PACKAGE, "--edges", edges, "--target", target,
                       "--prefix", "depth", "--format", "\t{p}\t{l}").splitlines():
        depth, package, licence = line.split("\t")
        name, version = package.split()[:2]
        crate = name, version.removeprefix("v")
        # A crate that has been shown is shown again without what it needs.
        found.setdefault(crate, (licence.removesuffix(" (*)"), set()))
        above[int(depth):] = [crate]
        if len(above) > 1:
            found[above[-2]][1].add(crate)
    return found


def reference(crate):
    return "pkg:cargo/{}@{}".format(*crate)


def component(crate, licence, checksum, scope):
    name, version = crate
    described = {"type": "library", "bom-ref": reference(crate), "name": name, "version": version, "scope": scope,
                 "licenses": [{"expression": re.sub(r" ?/ ?", " OR ", licence)}], "purl": reference(crate)}
    if checksum:
        described["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    return described


def bill(binary, linked, built, sums, tools):
    """The document, of crates by `tree` and their sums."""
    everything = built | {crate: (licence, needs | built.get(crate, ("", set()))[1])
                          for crate, (licence, needs) in linked.items()}
    itself = next(crate for crate in everything if crate[0] == PACKAGE)
    components = [component(crate, everything[crate][0], sums.get(crate), "required" if crate in linked else "excluded")
                  for crate in sorted(everything) if crate != itself]
    needs = [{"ref": reference(crate), "dependsOn": sorted(map(reference, everything[crate][1]))}
             for crate in sorted(everything)]
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": {"type": "application", "bom-ref": reference(itself), "name": "kista", "version": itself[1],
                          "hashes": [{"alg": "SHA-256", "content": hashlib.sha256(binary).hexdigest()}],
                          "licenses": [{"expression": everything[itself][0]}]},
            # The standard library is in the binary too, and it is the toolchain's.
            "properties": [{"name": "rustc", "value": f"{tools['release']} {tools['commit-hash']}"},
                           {"name": "cc", "value": tools["cc"]},
                           {"name": "target", "value": tools["host"]}],
        },
        "components": components,
        "dependencies": needs,
    }
    content = json.dumps(document, sort_keys=True)
    document["serialNumber"] = uuid.uuid5(uuid.NAMESPACE_URL, content).urn
    return document


def named_in(binary):
    """Crates that the binary names itself, by the places of their panics."""
    places = re.findall(rb"/registry/src/[^/\0]+/([A-Za-z0-9_-]+)-([0-9]+\.[0-9]+\.[0-9]+[A-Za-z0-9.+-]*)/", binary)
    return {(name.decode(), version.decode()) for name, version in places}


def faults(binary, document, sums):
    """What the document does not say and should."""
    required = {(part["name"], part["version"]): part for part in document["components"] if part["scope"] == "required"}
    named = named_in(binary)
    if len(named) < 20:
        yield f"the binary names {len(named)} crates only: is it a release build, by .ci/release?"
    for crate in sorted(named - required.keys()):
        yield "{} {} is in the binary and not in the list".format(*crate)
    for part in document["components"]:
        crate = part["name"], part["version"]
        if crate not in sums:
            yield "{} {} is not in Cargo.lock".format(*crate)
        elif sums[crate] is None and part["name"] != "kista":
            yield "{} {} has no sum in Cargo.lock, so that nobody can tell which one it is".format(*crate)


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    place, file = map(pathlib.Path, sys.argv[1:])
    if not place.is_file():
        sys.exit(f"{place} is not there: build it with .ci/release")
    binary = place.read_bytes()
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
    sums = {(package["name"], package["version"]): package.get("checksum") for package in lock}
    tools = toolchain()
    linked = tree("normal,no-proc-macro", tools["host"])
    built = tree("normal,build", tools["host"])
    document = bill(binary, linked, built, sums, tools)
    found = list(faults(binary, document, sums))
    if found:
        sys.exit("\n".join(found))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(document, indent=1) + "\n")
    scopes = [part["scope"] for part in document["components"]]
    print(f"{file}: {scopes.count('required')} crates in the binary, of which it names {len(named_in(binary))} itself; "
          f"{scopes.count('excluded')} that built it; {len(lock) - len(scopes) - 1} more in Cargo.lock are for tests "
          "and other machines")


main()
