"""Access: which role may call a method of a feed."""

from envhub.contracts.access import Role

NEEDED: dict[str, Role | None] = {
    "/grpc.health.v1.Health/": None,  # whoever connects may know whether the server is well
    "/grpc.reflection.": Role.VIEWER,
    "/envhub.feed.v1.Control/State": Role.VIEWER,
    "/envhub.feed.v1.Control/Watch": Role.VIEWER,
    "/envhub.feed.v1.Rollouts/": Role.TRAINER,
    "/envhub.feed.v1.Blobs/": Role.TRAINER,
}  # by the beginning of a method's name; of all others an operator's


def needed_for(method: str) -> Role | None:
    """The role that may call a method; None: everybody may."""
    return next((role for start, role in NEEDED.items() if method.startswith(start)), Role.OPERATOR)
