"""``sudur trust``: what a verifier believes, renewed by the ledger itself."""
