"""Whole ensembles, their clients, network and disks in one process, under virtual time, all drawn from a seed."""
