# SPDX-License-Identifier: Apache-2.0
"""The rules that break the network of lab machines, and that they do."""

from tests.lab.breaking import Breaking, detour, filters
from tests.lab.commands import run
from tests.lab.machines import Lab


def test_place_drops_what_comes_from_whom_it_shall_not_hear() -> None:
    rules = filters({"10.77.0.3", "10.77.0.2"}, 0.0)
    assert rules.splitlines() == [
        "table inet lab",
        "delete table inet lab",
        "table inet lab {",
        "chain input {",
        "type filter hook input priority 0; policy accept;",
        "ip saddr 10.77.0.2 drop",
        "ip saddr 10.77.0.3 drop",
        "}",
        "chain output {",
        "type filter hook output priority 0; policy accept;",
        "}",
        "}",
    ]


def test_lossy_place_drops_packets_either_way_but_none_of_its_own_loopback() -> None:
    dropping = [line for line in filters(set(), 0.05).splitlines() if line.endswith("drop")]
    assert dropping == [
        'iifname "host0" numgen random mod 1000 < 50 drop',
        'oifname "host0" numgen random mod 1000 < 50 drop',
    ]


def test_detour_is_for_services_and_not_for_the_proxy_itself() -> None:
    assert 'oifname "host0" meta skuid != 0 tcp dport { 7443, 8081 } redirect to :9' in detour(
        (7443, 8081), 9
    )


async def test_cut_and_mended_machines_hear_each_other_again(lab: Lab) -> None:
    alpha, beta, gamma = lab.boot("alpha", "beta", "gamma")
    network = Breaking(lab, lambda: ("alpha", "beta", "gamma"))

    def answers(host: str) -> bool:
        ping = ("ping", "-c1", "-W1", lab[host].address)
        return alpha.run(*ping, check=False).returncode == 0

    await network.cut("alpha", "beta", one_way=True)
    assert (answers("beta"), answers("gamma")) == (False, True)
    assert dropped_at(beta.namespace) == {alpha.address}
    assert dropped_at(alpha.namespace) == dropped_at(gamma.namespace) == set()
    await network.mend("alpha", "beta")
    assert answers("beta")
    await network.lose(0.999)
    assert not answers("gamma")
    await network.lose(0.0)
    await network.unplug("alpha")
    assert not answers("gamma")
    await network.plug("alpha")
    assert answers("gamma")


def dropped_at(namespace: str) -> set[str]:
    """The senders that the kernel was told to drop there."""
    listed = run(["ip", "netns", "exec", namespace, "nft", "list", "ruleset"]).stdout
    words = [line.split() for line in listed.splitlines() if "ip saddr" in line]
    return {line[2] for line in words}
