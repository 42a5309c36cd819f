"""Is what clients see one order of events? Check-and-set, revoked tokens and policies, with kill -9 in between.

    python linear.py BINARY [ROUNDS] [SEED]

Many clients read and write few KV v2 secrets with check-and-set, revoke tokens and change policies,
each on a connection that it keeps. Each call is recorded with the times at which it was sent and
answered. Between rounds the server is killed and started again. Then a search (Wing and Gong's, with
Lowe's memory of states seen) looks, for each secret, token and policy apart, for an order of all calls
in which each takes effect at one moment between its two times and sees what the calls before it left.
A call that the kill cut off may have taken effect between when it was sent and the kill, or never.
"""

import http.client
import json
import random
import sys
import threading
import time

import server as servers

CLIENTS, SECRETS = 12, 6
RACERS, RACES = 64, 6
FOREVER = float("inf")
POLICY = 'path "secret/data/%s" { capabilities = ["read"] }'


class Call:
    """What one client asked of one thing, when, and what it was told; `told` is None when cut off."""

    __slots__ = ("thing", "did", "told", "sent", "answered")

    def __init__(self, thing, did, told, sent, answered):
        self.thing, self.did, self.told, self.sent, self.answered = thing, did, told, sent, answered

    def __repr__(self):
        return f"{self.sent:.6f}..{self.answered:.6f} {self.did} -> {self.told}"


class History:
    """Every call of every client; the clock is one for all, and never goes back."""

    def __init__(self):
        self.calls = []

    def ask(self, thing, did, act):
        """Does `act` and keeps what it told; a connection that breaks is a call that was cut off."""
        sent = time.monotonic()
        try:
            told = act()
        except (OSError, http.client.HTTPException):
            # What only asks has no effect to look for.
            if did[0] not in READS:
                self.calls.append(Call(thing, did, None, sent, None))
            raise
        # Appending to a list is one step for all threads.
        self.calls.append(Call(thing, did, told, sent, time.monotonic()))
        return told

    def killed(self):
        """The server is gone: what was cut off has taken effect by now, or never will."""
        now = time.monotonic()
        for call in self.calls:
            if call.answered is None:
                call.answered = now

    def by_thing(self):
        things = {}
        for call in self.calls:
            things.setdefault(call.thing, []).append(call)
        return things


READS = {"read", "use"}


def secret(state, did, told):
    """A KV v2 secret: (version, value). The states that it may have after a call, none if it cannot be.

    Of a call that was cut off only the effect is a step: without one it need not be in the order.
    """
    version, value = state
    if did[0] == "read":
        return [state] if told == (version, value) else []
    _, expected, new = did
    if told is None:
        return [(version + 1, new)] if expected == version else []
    if told == "conflict":
        return [state] if expected != version else []
    return [(version + 1, new)] if expected == version and told == version + 1 else []


def gate(state, did, told):
    """A token, or a policy of one: it opens until it is taken away, and never again."""
    if did[0] == "use":
        return [state] if told == state else []
    return ["shut"] if told is not None or state == "open" else []


def order_of(calls, step, state):
    """None if the calls have an order; else what the longest one that was found comes to.

    Between two calls of which one was answered before the other was sent, with nothing going on over
    that moment, the state is all that is left of what came before: each part is searched by itself, from
    each state in which the one before may have ended.
    """
    states = {state}
    for part in parts(calls):
        ends = set()
        for state in states:
            found, deepest = ends_of(part, step, state)
            ends |= found
        if not ends:
            return fault(part, *deepest)
        states = ends
    return None


def parts(calls):
    """The calls in the order in which they were sent, cut wherever nothing was going on."""
    part, over = [], 0.0
    for call in sorted(calls, key=lambda call: call.sent):
        if part and call.sent > over:
            yield part
            part = []
        part.append(call)
        over = max(over, call.answered)
    if part:
        yield part


def ends_of(calls, step, state):
    """The states in which an order of the calls may end, and how far the longest order came.

    Depth first over the calls that may come next: those sent before any that must still come was
    answered. One that was cut off comes no later than any call that was sent after its kill. A call that
    may come next and changes nothing comes next: who has it later may have it now.
    """
    everything = (1 << len(calls)) - 1
    optional = sum(1 << n for n, call in enumerate(calls) if call.told is None)
    stack, seen, deepest, ends = [(0, state, 0.0)], set(), (0, state), set()
    while stack:
        done, state, latest = stack.pop()
        if (done | optional) == everything:
            ends.add(state)
        if (done, state) in seen:
            continue
        seen.add((done, state))
        if done.bit_count() >= deepest[0].bit_count():
            deepest = (done, state)
        horizon, following = FOREVER, []
        for n, call in enumerate(calls):
            if done >> n & 1:
                continue
            if call.sent > horizon:
                break
            if call.told is not None:
                horizon = min(horizon, call.answered)
            elif call.answered < latest:
                continue
            for after in step(state, call.did, call.told):
                following.append((done | 1 << n, after, max(latest, call.sent)))
                if after == state and call.told is not None:
                    following, horizon = following[-1:], 0.0
                    break
            if horizon == 0.0:
                break
        stack += following
    return ends, deepest


def fault(calls, done, state):
    left = [call for n, call in enumerate(calls) if not done >> n & 1]
    return f"{done.bit_count()} of {len(calls)} calls have an order, which leaves {state}; then\n" + \
        "\n".join(map(repr, left[:12]))


def check(history):
    """Looks for the order of each thing; gives the number of calls that were looked at."""
    kinds = {"secret": (secret, (0, None)), "token": (gate, "open"), "policy": (gate, "open")}
    things = history.by_thing()
    for thing, calls in things.items():
        step, first = kinds[thing[0]]
        fault = order_of(calls, step, first)
        assert fault is None, f"{thing} is not linear: {fault}"
    cut = sum(call.told is None for call in history.calls)
    return len(history.calls), len(things), cut


class Client:
    """One connection that is kept, and a mind of its own."""

    def __init__(self, number, run, seed):
        self.run, self.random = run, random.Random(seed)
        self.number, self.count = number, 0
        self.known = {}
        self.error = None

    def until_killed(self, work):
        connection = self.run.server.connection()
        try:
            while not self.run.over.is_set():
                work(connection)
        except (OSError, http.client.HTTPException):
            pass
        except Exception as error:
            self.error = error
        finally:
            connection.close()

    def write_and_read(self, connection):
        name = f"linear-{self.random.randrange(SECRETS)}"
        thing, path = ("secret", name), f"secret/data/{name}"
        if self.random.random() < 0.5:
            version, _ = self.run.history.ask(thing, ("read",), lambda: self.read(connection, path))
            self.known[name] = version
            return
        # Sometimes what it knows is old: then the answer must be a conflict.
        expected = self.known.get(name, 0)
        self.count += 1
        value = f"{self.number}/{self.count}"
        body = {"options": {"cas": expected}, "data": {"value": value}}
        told = self.run.history.ask(thing, ("write", expected, value),
                                    lambda: self.write(connection, path, body))
        if told != "conflict":
            self.known[name] = told

    def read(self, connection, path):
        status, raw = servers.send(connection, "GET", path, self.run.root)
        if status == 404:
            return 0, None
        assert status == 200, (status, raw)
        data = json.loads(raw)["data"]
        return data["metadata"]["version"], data["data"]["value"]

    def write(self, connection, path, body):
        status, raw = servers.send(connection, "POST", path, self.run.root, body)
        if status == 400 and b"check-and-set" in raw:
            return "conflict"
        assert status == 200, (status, raw)
        return json.loads(raw)["data"]["version"]

    def use_or_shut(self, connection):
        """Uses a token; now and then takes one away, its parent, or its policy."""
        token = self.random.choice(self.run.tokens)
        if self.random.random() < 0.03:
            thing, call = self.random.choice(token["shut"])
            self.run.history.ask(thing, ("shut",), lambda: self.shut(connection, *call))
            return
        # One thing is asked of each token: its parent and its own end are one end, its policy another.
        self.run.history.ask(token["thing"], ("use",), lambda: self.use(connection, token))

    def use(self, connection, token):
        status, raw = servers.send(connection, "GET", token["path"], token["token"])
        assert status in (200, 403), (status, raw)
        return "open" if status == 200 else "shut"

    def shut(self, connection, method, path, body):
        status, raw = servers.send(connection, method, path, self.run.root, body)
        # Revoking what is revoked is fine, by its accessor too.
        assert status in (204, 400, 403, 404), (status, raw)
        return "done"


class Run:
    """A server, its history, and the tokens of this round."""

    def __init__(self, server, keys, root):
        self.server, self.keys, self.root = server, keys, root
        self.history = History()
        self.over = threading.Event()
        self.tokens = []
        self.made = 0

    def call(self, method, path, body=None, token=None):
        status, raw = self.server.call(method, path, token or self.root, body)
        assert status in (200, 204), (method, path, status, raw)
        return json.loads(raw) if raw else None

    def token(self, policies, parent=None):
        made = self.call("POST", "auth/token/create", {"policies": policies, "ttl": "1h"}, parent)
        return made["auth"]["client_token"]

    def make_tokens(self, number):
        """Of each kind some: revoked by itself, revoked with its parent, shut by its policy."""
        self.tokens = []
        for _ in range(number):
            self.made += 1
            name = f"read-{self.made}"
            path = "secret/data/shared"
            self.call("POST", f"sys/policies/acl/{name}", {"policy": POLICY % "shared"})
            own = self.token(["reads-shared"])
            revoke = ("POST", "auth/token/revoke", {"token": own})
            thing = ("token", f"own-{self.made}")
            self.tokens.append({"token": own, "path": path, "thing": thing, "shut": [(thing, revoke)]})

            parent = self.token(["makes-tokens", "reads-shared"])
            child = self.token(["reads-shared"], parent)
            grandchild = self.token_of(child, parent)
            thing = ("token", f"child-{self.made}")
            revoke = ("POST", "auth/token/revoke", {"token": parent})
            self.tokens.append({"token": grandchild, "path": path, "thing": thing, "shut": [(thing, revoke)]})

            other = self.token([name])
            thing = ("policy", name)
            delete = ("DELETE", f"sys/policies/acl/{name}", None)
            empty = ("POST", f"sys/policies/acl/{name}", {"policy": 'path "nowhere" { capabilities = ["read"] }'})
            self.tokens.append({"token": other, "path": path, "thing": thing,
                                "shut": [(thing, delete), (thing, empty)]})

    def token_of(self, child, parent):
        """A token two steps below the one that will be revoked, where the middle one may make tokens."""
        middle = self.call("POST", "auth/token/create",
                           {"policies": ["makes-tokens", "reads-shared"], "ttl": "1h"}, parent)
        return self.token(["reads-shared"], middle["auth"]["client_token"])


def crowd(run, clients, work):
    """Lets each client work in a thread of its own, until the server goes."""
    return [threading.Thread(target=client.until_killed, args=(work(client),)) for client in clients]


def one_round(run, clients, seconds, number):
    run.make_tokens(4)
    threads = crowd(run, clients, lambda client:
                    client.use_or_shut if client.number % 3 == 0 else client.write_and_read)
    for thread in threads:
        thread.start()
    run.server.rotate(run.root, number)
    time.sleep(seconds)
    run.server.kill()
    for thread in threads:
        thread.join()
    run.history.killed()
    for client in clients:
        if client.error:
            raise client.error
    run.server.start()
    run.server.unseal(run.keys)
    # What is found after the kill is part of the history: nothing acknowledged may be missing.
    after = Client(-1, run, 0)
    connection = run.server.connection()
    for number in range(SECRETS):
        name = f"linear-{number}"
        run.history.ask(("secret", name), ("read",), lambda: after.read(connection, f"secret/data/{name}"))
    for token in run.tokens:
        run.history.ask(token["thing"], ("use",), lambda: after.use(connection, token))
    connection.close()


def race(run, number):
    """Everyone writes the next version at once; each version has one winner, and it is the one read."""
    path = f"secret/data/race-{number}"
    start = threading.Barrier(RACERS)
    told, errors = [], []

    def enter(racer):
        connection = run.server.connection()
        client = Client(racer, run, 0)
        try:
            client.read(connection, path)
            for version in range(RACES):
                start.wait(timeout=60)
                body = {"options": {"cas": version}, "data": {"value": f"{racer}/{version}"}}
                told.append((version, racer, client.write(connection, path, body)))
        except Exception as error:
            errors.append(error)
            start.abort()
        finally:
            connection.close()

    threads = [threading.Thread(target=enter, args=(racer,)) for racer in range(RACERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    for version in range(RACES):
        winners = [(racer, answer) for at, racer, answer in told if at == version and answer != "conflict"]
        assert len(winners) == 1, f"version {version + 1} has {len(winners)} winners: {winners}"
        (winner, answer), = winners
        assert answer == version + 1, (version, answer)
        read = run.call("GET", f"{path}?version={version + 1}")["data"]["data"]["value"]
        assert read == f"{winner}/{version}", (read, winner, version)


def at_the_next_request(run):
    """On connections that stay open: a token that was revoked, or lost its policy, opens nothing more."""
    run.make_tokens(2)
    admin = run.server.connection()
    for token in run.tokens:
        connection = run.server.connection()
        client = Client(-1, run, 0)
        for _ in range(3):
            assert client.use(connection, token) == "open", token["thing"]
        _, call = token["shut"][-1]
        client.shut(admin, *call)
        assert client.use(connection, token) == "shut", f"{token['thing']} opens after it was taken away"
        connection.close()
    admin.close()


def the_checker_finds_faults():
    """A checker that cannot fail proves nothing."""
    def calls(*told):
        return [Call("x", did, answer, float(n), n + 0.5) for n, (did, answer) in enumerate(told)]
    write = lambda cas, value, answer: (("write", cas, value), answer)
    read = lambda version, value: (("read",), (version, value))
    cut_late = [Call("x", ("write", 0, "a"), None, 0.0, 1.0), Call("x", ("read",), (0, None), 2.0, 3.0),
                Call("x", ("read",), (1, "a"), 4.0, 5.0)]
    good = calls(write(0, "a", 1), read(1, "a"), write(0, "b", "conflict"), write(1, "c", None), read(2, "c"))
    assert order_of(good, secret, (0, None)) is None
    lost = calls(write(0, "a", 1), read(0, None))
    two_winners = [Call("x", ("write", 0, v), 1, 0.0, 1.0) for v in "ab"]
    torn = calls(write(0, "a", None), read(1, "a"), read(0, None))
    stale = calls(write(0, "a", 1), write(1, "b", 2), read(1, "a"))
    for fault in (lost, two_winners, torn, stale, cut_late):
        assert order_of(fault, secret, (0, None)) is not None, fault
    reopened = calls((("use",), "open"), (("shut",), "done"), (("use",), "open"))
    assert order_of(reopened, gate, "open") is not None
    assert order_of(reopened[:2], gate, "open") is None


def main():
    binary = sys.argv[1]
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 50
    seed = sys.argv[3] if len(sys.argv) > 3 else str(time.time_ns())
    print(f"{rounds} rounds, {CLIENTS} clients, {RACERS} racers, seed {seed}", flush=True)
    the_checker_finds_faults()
    timing = random.Random(seed)
    calls = cut = 0
    with servers.scratch() as folder, servers.Server(binary, folder, log_level="warn") as server:
        server.start()
        run = Run(server, *initialise(server))
        clients = [Client(number, run, f"{seed}/{number}") for number in range(CLIENTS)]
        for number in range(1, rounds + 1):
            try:
                one_round(run, clients, timing.uniform(0.3, 1.2), number)
                if number == 1 or number % 10 == 0:
                    race(run, number)
                    at_the_next_request(run)
            except Exception:
                print(f"round {number}, seed {seed}:\n{server.tail()}", flush=True)
                print(f"{number - 1} passed, 1 failed", flush=True)
                raise
        terms, names = server.rotated(run.root)
        print(f"{terms} terms and {names} keys of names destroyed", flush=True)
        assert terms and names
        assert server.stop() == 0
    calls, things, cut = check(run.history)
    print(f"{calls} calls on {things} things, {cut} of them cut off, have one order", flush=True)
    print(f"{rounds} passed, 0 failed")


def initialise(server):
    status, raw = server.call("POST", "sys/init", body={"secret_shares": 1, "secret_threshold": 1})
    assert status == 200, (status, raw)
    answer = json.loads(raw)
    server.unseal(answer["keys"])
    root = answer["root_token"]
    for path, body in (
        ("sys/mounts/secret", {"type": "kv", "options": {"version": "2"}}),
        ("sys/policies/acl/reads-shared", {"policy": POLICY % "shared"}),
        ("sys/policies/acl/makes-tokens",
         {"policy": 'path "auth/token/create" { capabilities = ["update"] }'}),
    ):
        status, raw = server.call("POST", path, root, body)
        assert status == 204, (path, status, raw)
    status, raw = server.call("POST", "secret/data/shared", root, {"data": {"a": "b"}})
    assert status == 200, (status, raw)
    return answer["keys"], root


if __name__ == "__main__":
    main()
