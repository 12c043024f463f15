"""Reads pkilint's JSON on stdin; fails, naming each, when a finding is not among the codes of the file given."""

import json
import sys

with open(sys.argv[1], encoding="utf-8") as file:
    allowed = {line.split()[0] for line in file if line.strip() and not line.startswith("#")}

findings = [
    (finding["severity"], finding["code"], finding.get("message") or "", result["node_path"])
    for result in json.load(sys.stdin)["results"]
    for finding in result["finding_descriptions"]
]
surplus = [finding for finding in findings if finding[1] not in allowed]
for severity, code, message, path in surplus:
    print(f"{severity} {code} {message} at {path}")
if not surplus:
    print(f"{len(findings)} findings, each allowed")
sys.exit(bool(surplus))
