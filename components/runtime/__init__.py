"""The process and its machine: command lines, KFP steps, sockets, cores, memory, disk space, signals."""
