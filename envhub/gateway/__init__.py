"""Lets programs outside act in a rollout: their HTTP calls become its turns."""
