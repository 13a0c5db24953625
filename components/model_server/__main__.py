from components.command_line import run_command
from components.model_server.command import serve

run_command(serve)
