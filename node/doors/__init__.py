"""What a node shows to others: gRPC and HTTP, who may use how much of them, and what is behind each."""
