"""The gRPC contract of Sudur, by version. Generated from the .proto files beside it."""
