"""The blocking twin of the client and of the recipes."""
