//! The product from outside: the workspace's edges, the command line, and the real binary against real peers.

mod workspace;
