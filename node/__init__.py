"""The service: store, journal, sequencer, gRPC, HTTP, metrics."""

import os

# gRPC would write lines of its own, in no form of ours, for each handshake that fails; it reads this
# when it is first imported.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
