from components.model_server.command import serve
from components.runtime.command_line import run_command

run_command(serve)
