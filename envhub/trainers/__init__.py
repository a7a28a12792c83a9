"""What a trainer needs between the feed and its own tensors: advantages, the objective, mismatch metrics, adapters."""
