"""What engines behind a server are made of: the connection, the model it serves, tokens held over a pause."""
