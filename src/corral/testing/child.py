"""The program of the child process: ``python -m corral.testing.child DESCRIPTOR``, of the socket to the parent."""

import sys

from corral.testing.in_child import serve_parent

if __name__ == "__main__":
    serve_parent(int(sys.argv[1]))
