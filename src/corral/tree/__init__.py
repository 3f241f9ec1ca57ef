"""The replicated state: znodes, stats, ACLs, quotas, watches and sessions as state. No I/O, no clock, no chance."""
