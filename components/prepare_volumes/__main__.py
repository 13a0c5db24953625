from components.prepare_volumes.command import prepare_volumes
from components.runtime.command_line import run_command

run_command(prepare_volumes)
