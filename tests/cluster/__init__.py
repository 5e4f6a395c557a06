"""The replicated ledger: real etcd, real nodes, and what happens when they fail."""
