"""What a node uses of etcd's v3 API: messages in ``v3_pb2``, stubs in ``v3_pb2_grpc``.

Both are made by ``proto/generate.py`` from ``v3.proto``.
"""
