"""The process: command lines, KFP steps, sockets, cores, memory, disk space, signals."""
