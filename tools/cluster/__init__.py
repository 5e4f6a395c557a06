"""For operators of a replicated ledger: try one, look at one, change its members."""
