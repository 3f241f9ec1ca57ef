"""``corral shell``: every command of Apache's ``zkCli``, and those beyond it."""
