"""The language spoken on every wire and in every file: primitives, records, operation codes, errors."""
