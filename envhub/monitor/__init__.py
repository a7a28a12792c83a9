"""What watches and checks the platform."""
