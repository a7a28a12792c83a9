"""The durable event log of a run and its projections. The only room that knows SQLAlchemy."""
