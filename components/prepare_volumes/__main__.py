from components.command_line import run_command
from components.prepare_volumes.command import prepare_volumes

run_command(prepare_volumes)
