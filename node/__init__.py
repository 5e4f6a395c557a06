"""The service: store, journal, sequencer, gRPC, HTTP, metrics."""
