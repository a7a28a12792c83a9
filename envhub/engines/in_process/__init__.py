"""What engines inside our own process are made of: decoding, batching, weights."""
