"""What agents speak, a file each: pure functions between a dialect's JSON and PolicyInput, Action and ApiError."""
