"""Asks a Prometheus for every expression of the alerts and of the dashboard.

usage: expressions.py URL METRICS FOLDER

A metric that is named in one must be among METRICS, what a server tells, unless it is told in a cluster or with TLS only.
"""

import json
import pathlib
import re
import sys
import time
import urllib.parse
import urllib.request

url, metrics, folder = sys.argv[1], pathlib.Path(sys.argv[2]).read_text(), pathlib.Path(sys.argv[3])
ELSEWHERE = {
    "up",
    "ringback_http_certificate_expires_timestamp_seconds",
    "ringback_sip_certificate_expires_timestamp_seconds",
}


def ask(path, **parameters):
    query = urllib.parse.urlencode(parameters)
    with urllib.request.urlopen(f"{url}/api/v1/{path}?{query}", timeout=20) as answer:
        return json.load(answer)["data"]


def scraped():
    """Whether the server was asked at least twice."""
    try:
        found = ask("query", query="count_over_time(up[1m])")["result"]
    except OSError:
        return False
    return bool(found) and int(found[0]["value"][1]) > 1


until = time.monotonic() + 60
while not scraped():
    if time.monotonic() > until:
        sys.exit("Prometheus has not asked the server")
    time.sleep(0.2)

types = dict(line.split()[2:4] for line in metrics.splitlines() if line.startswith("# TYPE"))
known = set(types)
for name, kind in types.items():
    if kind == "histogram":
        known |= {f"{name}_{part}" for part in ("bucket", "sum", "count")}

rules = [rule for group in ask("rules")["groups"] for rule in group["rules"]]
expressions = [rule["query"] for rule in rules]
dashboard = json.loads((folder / "grafana/ringback.json").read_text())
for panel in dashboard["panels"]:
    for target in panel["targets"]:
        expressions.append(target["expr"].replace("$__rate_interval", "1m").replace("$instance", ".*"))
assert len(rules) > 10 and len(expressions) > len(rules) + 10, (len(rules), len(expressions))

for expression in expressions:
    ask("query", query=expression)
    named = set(re.findall(r"\b(?:ringback|process)_[a-z_]+\b", expression)) - ELSEWHERE
    missing = {name for name in named - known if not name.startswith("ringback_cluster_")}
    assert not missing, f"no such metric: {missing}"

ill = [rule["name"] for rule in rules if rule["health"] == "err"]
assert not ill, ill
firing = [rule["name"] for rule in rules if rule["state"] == "firing"]
assert not firing, f"a healthy server is told of: {firing}"
print(f"{len(rules)} alerts and {len(expressions) - len(rules)} panels' expressions hold")
