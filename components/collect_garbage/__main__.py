from components.collect_garbage.command import collect_garbage
from components.runtime.command_line import run_command

run_command(collect_garbage)
