#!/usr/bin/env python3
"""An API that a plugin may ask for three of its paths: GET /v1/CURRENCY gives {"rate": ...}. Every request is logged, so that
one which the policy should have refused shows here."""

import http.server
import json
import os

RATES = {"EUR": 1.0, "USD": 0.92, "GBP": 1.17, "JPY": 0.0061}


class Handler(http.server.BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    # A client that says nothing does not hold a thread for ever.
    timeout = 30

    def do_GET(self):
        rate = RATES.get(self.path.removeprefix("/v1/")) if self.path.startswith("/v1/") else None
        body = json.dumps({"error": "not found"} if rate is None else {"rate": rate}).encode()
        self.send_response(404 if rate is None else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    http.server.ThreadingHTTPServer(("", int(os.environ.get("PORT", "8080"))), Handler).serve_forever()
