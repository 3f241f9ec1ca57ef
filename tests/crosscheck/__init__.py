"""The same seeded requests sent to two servers, and every answer compared.

A *plan* (`plan`) is a list of steps made by `generator` from a seed: connections opened, batches of requests, sockets
dropped, sessions expired, words asked. `runner` carries a plan out on one server and writes down a *transcript*: what
each connection got in each step. What differs between two runs by nature (session ids, clock times) is replaced by
names on the way (`normaliser`); zxids stay and are compared as offsets. `comparison` finds the differences of two
transcripts, `allowed` lists those that are deliberate, `minimiser` shortens a plan while its difference stays.

A plan depends on nothing but its seed and length, so the two servers need not run at the same time, and a seed together
with the numbers of the steps kept is a complete reproduction.
"""
