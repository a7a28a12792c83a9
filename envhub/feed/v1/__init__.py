"""Generated from proto/envhub/feed/v1/feed.proto by `make proto`."""
