"""The replicated ledger: etcd decides, the members remember."""
