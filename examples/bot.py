"""An agent in any language: `chancery run` keeps these files fresh.

    CHANCERY_JOIN='https://127.0.0.1:8443#chj_…' chancery run -- python examples/bot.py
"""

import json
import os
import ssl
import sys
import urllib.error
import urllib.request

URL = os.environ.get("CRM_URL", "https://localhost:9443")

context = ssl.create_default_context(cafile=os.environ["CHANCERY_BUNDLE"])
context.load_cert_chain(os.environ["CHANCERY_CERT"], os.environ["CHANCERY_KEY"])


def call(method: str, path: str) -> None:
    request = urllib.request.Request(URL + path, method=method)
    try:
        with urllib.request.urlopen(request, context=context) as reply:
            print(f"bot: {method} {path:<14} {reply.status}")
    except urllib.error.HTTPError as refused:
        problem = json.load(refused)
        print(f"bot: {method} {path:<14} {refused.code}")
        print(f"  refused: {problem['code']}")
        for label in ("needs", "holds", "fix"):
            for line in problem.get(label, []):
                print(f"    {label:<5}  {line}")
    except (urllib.error.URLError, ssl.SSLError) as cut:
        # Whoever is stopped is refused before any request is read, by an alert of TLS.
        sys.exit(f"bot: {method} {path:<14} refused: {getattr(cut, 'reason', cut)}")


call("GET", "/customers/42")
call("POST", "/refunds")
