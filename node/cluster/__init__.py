"""The replicated ledger: members that hold verified copies, and etcd, which decides."""
