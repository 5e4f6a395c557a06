"""Version 1 of the contract: messages in ``ledger_pb2``, stubs and servicers in ``ledger_pb2_grpc``.

Both are made by ``proto/generate.py`` from ``ledger.proto``, which documents every call and field.
"""
