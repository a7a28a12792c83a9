"""The trainer feed: closed groups over gRPC, leased until they are acked."""
