"""What applications build with a coordination service."""
